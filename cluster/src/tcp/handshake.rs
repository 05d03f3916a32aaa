//! Who is at the other end: a mutual HMAC-SHA256 challenge over everything both sides claim. Called once per
//! connection, by `dial` (initiator) and `serve` (acceptor). May import `identity`, `transport`, `refusals` and the
//! binding of `stream`.
//!
//! ```text
//! initiator                                   acceptor
//!   Hello{channel, sender, expected, nonce} ──►
//!   ◄── Challenge{node id, nonce}
//!   Proof{MAC(initiator tag, both)} ──►             checks the MAC first, then ids and cluster
//!   ◄── Accepted{MAC(acceptor tag, both)}  or  Refused{reason}
//! ```
//!
//! The nonces of both sides are in both MACs, so an old conversation proves nothing; the tags differ, so a MAC sent
//! back to its maker proves nothing. Under TLS the MACs are also over keying material that the two ends of one
//! session export: somebody in the middle, with a session to each side, can pass the messages on and has proven
//! nothing. The frames after the handshake are not authenticated: that is TLS's business.
//!
//! Without TLS, an initiator that speaks TLS says so in its Hello, and an acceptor that speaks it too refuses:
//! somebody made the two believe otherwise. Old nodes do not read so far into a Hello.

use std::io;

use hmac::{Hmac, Mac};
use serde::{de::DeserializeOwned, Deserialize, Serialize};
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::refusals::LinkRefusal;
use crate::identity::{ClusterId, Identity, NodeId};
use crate::stream::Binding;
use crate::transport::Channel;

/// Raised when frames or handshake change so that old nodes would misread them.
const PROTOCOL_VERSION: u16 = 1;
/// In front of the first message, so that a stray client of another protocol is recognised.
const MAGIC: [u8; 4] = *b"WSGC";
/// No handshake message is longer; nothing longer is read from a peer that has proven nothing.
const MESSAGE_BYTES_MAX: usize = 4_096;
/// The first byte of every TLS handshake. No connection without TLS begins with it, since a message's length does not.
pub(super) const TLS_RECORD: u8 = 0x16;
const _: () = assert!(MESSAGE_BYTES_MAX < (TLS_RECORD as usize) << 24);
/// A reason is cut to this, since it ends up in the other side's log.
const REASON_CHARS_MAX: usize = 300;
/// Behind a Hello: the sender speaks TLS, and this connection is without.
const SPEAKS_TLS: u8 = 1;
const INITIATOR_TAG: &[u8] = b"wsgateway cluster handshake 1: initiator";
const ACCEPTOR_TAG: &[u8] = b"wsgateway cluster handshake 1: acceptor";

type Nonce = [u8; 32];
type Proof = [u8; 32];

#[derive(Serialize, Deserialize)]
struct Hello {
    channel: Channel,
    sender: NodeId,
    generation: u64,
    expected: Option<NodeId>,
    cluster_id: Option<ClusterId>,
    nonce: Nonce,
}

#[derive(Serialize, Deserialize)]
struct Challenge {
    node_id: NodeId,
    generation: u64,
    cluster_id: Option<ClusterId>,
    nonce: Nonce,
}

/// What the acceptor sends. The numbers of the variants are wire format: only ever append.
#[derive(Serialize, Deserialize)]
enum Reply {
    Challenge(Challenge),
    Accepted(Proof),
    Refused(String),
}

/// What the messages travel on: part of what is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// `tls_here`: this node speaks TLS.
    Plain {
        tls_here: bool,
    },
    Tls(Binding),
}

/// The other side, proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProvenPeer {
    pub node_id: NodeId,
    pub generation: u64,
    pub channel: Channel,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the connection broke in the handshake: {0}")]
    Broken(#[from] io::Error),
    #[error("{0}")]
    Refused(String),
    /// The same, of a kind that is counted by itself.
    #[error("{1}")]
    Because(LinkRefusal, String),
}

/// The cluster secrets. Without any, the key is empty: then the handshake only sorts out who is who.
pub(super) struct Keys(Vec<Vec<u8>>);

impl Keys {
    pub fn new(secrets: Vec<Vec<u8>>) -> Self {
        Self(if secrets.is_empty() { vec![Vec::new()] } else { secrets })
    }

    fn proof(key: &[u8], tag: &[u8], transcript: &[u8]) -> Proof {
        Self::mac(key, tag, transcript).finalize().into_bytes().into()
    }

    /// The key under which the proof is right. The comparison takes constant time.
    fn verify(&self, tag: &[u8], transcript: &[u8], proof: &Proof) -> Option<&[u8]> {
        let proves = |key: &&Vec<u8>| Self::mac(key, tag, transcript).verify_slice(proof).is_ok();
        self.0.iter().find(proves).map(Vec::as_slice)
    }

    fn mac(key: &[u8], tag: &[u8], transcript: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        mac.update(tag);
        mac.update(transcript);
        mac
    }
}

/// The dialling side. `expected` is who must answer; `None` accepts whoever knows the secret.
pub(super) async fn initiate<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    keys: &Keys,
    me: &Identity,
    channel: Channel,
    expected: Option<NodeId>,
    way: &Way,
) -> Result<ProvenPeer, HandshakeError> {
    let cluster_id = me.cluster_id.get().copied();
    let hello =
        Hello { channel, sender: me.node_id, generation: me.generation, expected, cluster_id, nonce: rand::random() };
    let hello_bytes = first_message(&hello, way)?;
    write_message(io, &hello_bytes).await?;

    let challenge_bytes = read_message(io).await?;
    let challenge = match decode::<Reply>(&challenge_bytes)? {
        Reply::Challenge(challenge) => challenge,
        Reply::Refused(reason) => return Err(HandshakeError::Refused(cut(reason))),
        Reply::Accepted(_) => return Err(HandshakeError::Refused("accepted without a challenge".into())),
    };
    let transcript = transcript(&hello_bytes, &challenge_bytes, way);
    let key = keys.0.first().map(Vec::as_slice).unwrap_or_default();
    write_message(io, &Keys::proof(key, INITIATOR_TAG, &transcript)).await?;

    match decode::<Reply>(&read_message(io).await?)? {
        Reply::Accepted(proof) if keys.verify(ACCEPTOR_TAG, &transcript, &proof).is_some() => {}
        Reply::Accepted(_) => {
            return Err(HandshakeError::Refused(format!("it does not know the cluster secret{}", or_between(way))))
        }
        Reply::Refused(reason) => return Err(HandshakeError::Refused(cut(reason))),
        Reply::Challenge(_) => return Err(HandshakeError::Refused("challenged twice".into())),
    }
    check_ids(expected, challenge.node_id, cluster_id, challenge.cluster_id).map_err(HandshakeError::Refused)?;
    Ok(ProvenPeer { node_id: challenge.node_id, generation: challenge.generation, channel })
}

/// The accepting side. A refusal is told to the other side before it is returned.
pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    keys: &Keys,
    me: &Identity,
    way: &Way,
) -> Result<ProvenPeer, HandshakeError> {
    let hello_bytes = read_message(io).await?;
    let (hello, tls_there) = match parse_first_message(&hello_bytes) {
        Ok(hello) => hello,
        Err(reason) => return refuse_foreign(io, reason).await,
    };
    let cluster_id = me.cluster_id.get().copied();
    let challenge = Challenge { node_id: me.node_id, generation: me.generation, cluster_id, nonce: rand::random() };
    let challenge_bytes = encode(&Reply::Challenge(challenge))?;
    write_message(io, &challenge_bytes).await?;

    let transcript = transcript(&hello_bytes, &challenge_bytes, way);
    let Ok(proof) = Proof::try_from(read_message(io).await?.as_slice()) else {
        return refuse(io, "a malformed proof".into()).await;
    };
    let Some(key) = keys.verify(INITIATOR_TAG, &transcript, &proof) else {
        return refuse(io, format!("the cluster secrets differ{}", or_between(way))).await;
    };
    // Not before it has proven to be a peer: strangers say all sorts of things.
    if tls_there && *way == (Way::Plain { tls_here: true }) {
        let reason = "both nodes speak TLS, and yet the connection is without it";
        tell(io, reason).await?;
        return Err(HandshakeError::Because(LinkRefusal::Stripped, reason.into()));
    }
    if let Err(reason) = check_ids(hello.expected, me.node_id, cluster_id, hello.cluster_id) {
        return refuse(io, reason).await;
    }
    // With the key that the peer is known to have, which during a rotation need not be the first one here.
    let proof = Keys::proof(key, ACCEPTOR_TAG, &transcript);
    write_message(io, &encode(&Reply::Accepted(proof))?).await?;
    Ok(ProvenPeer { node_id: hello.sender, generation: hello.generation, channel: hello.channel })
}

fn check_ids(
    expected: Option<NodeId>,
    acceptor: NodeId,
    mine: Option<ClusterId>,
    theirs: Option<ClusterId>,
) -> Result<(), String> {
    if let Some(expected) = expected.filter(|expected| *expected != acceptor) {
        return Err(format!("node {expected:016x} was expected there, but it is node {acceptor:016x}"));
    }
    match (mine, theirs) {
        (Some(mine), Some(theirs)) if mine != theirs => {
            Err(format!("the nodes belong to different clusters: {mine} and {theirs}"))
        }
        _ => Ok(()),
    }
}

fn or_between(way: &Way) -> &'static str {
    match way {
        Way::Plain { .. } => "",
        Way::Tls(_) => ", or somebody is between the two nodes",
    }
}

/// For a connection without TLS where TLS is required. What the other side says first is read, so that it lives to
/// hear the answer.
pub(super) async fn turn_away<S: AsyncRead + AsyncWrite + Unpin>(io: &mut S) -> Result<ProvenPeer, HandshakeError> {
    let hello = read_message(io).await?;
    if let Err(reason) = parse_first_message(&hello) {
        return refuse_foreign(io, reason).await;
    }
    tell(io, "links are taken over TLS only there: set cluster.tls on this node").await?;
    Err(HandshakeError::Because(LinkRefusal::Plaintext, "it came without TLS, which is required here".into()))
}

/// Tells the reason, best effort, and returns it.
pub(super) async fn refuse<S: AsyncWrite + Unpin, T>(io: &mut S, reason: String) -> Result<T, HandshakeError> {
    tell(io, &reason).await?;
    Err(HandshakeError::Refused(reason))
}

async fn refuse_foreign<S: AsyncWrite + Unpin, T>(io: &mut S, reason: String) -> Result<T, HandshakeError> {
    tell(io, &reason).await?;
    Err(HandshakeError::Because(LinkRefusal::Foreign, reason))
}

async fn tell<S: AsyncWrite + Unpin>(io: &mut S, reason: &str) -> io::Result<()> {
    write_message(io, &encode(&Reply::Refused(reason.to_owned()))?).await?;
    io.shutdown().await
}

/// Each part with its length, so that bytes cannot move from one to the other. Without TLS there are two parts, as
/// there were before there was any.
fn transcript(hello: &[u8], challenge: &[u8], way: &Way) -> Vec<u8> {
    let binding = match way {
        Way::Plain { .. } => None,
        Way::Tls(binding) => Some(binding.as_slice()),
    };
    let mut bytes = Vec::with_capacity(hello.len() + challenge.len() + size_of::<Binding>() + 24);
    for message in [hello, challenge].into_iter().chain(binding) {
        bytes.extend_from_slice(&(message.len() as u64).to_be_bytes());
        bytes.extend_from_slice(message);
    }
    bytes
}

fn first_message(hello: &Hello, way: &Way) -> io::Result<Vec<u8>> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&PROTOCOL_VERSION.to_be_bytes());
    bytes.extend_from_slice(&encode(hello)?);
    if *way == (Way::Plain { tls_here: true }) {
        bytes.push(SPEAKS_TLS);
    }
    Ok(bytes)
}

/// And whether the sender speaks TLS, of which it says something only where there is none.
fn parse_first_message(bytes: &[u8]) -> Result<(Hello, bool), String> {
    let (magic, rest) = bytes.split_at_checked(MAGIC.len()).ok_or("not a cluster peer")?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or("not a cluster peer")?;
    if magic != MAGIC {
        return Err("not a cluster peer".into());
    }
    let version = u16::from_be_bytes(*version);
    if version != PROTOCOL_VERSION {
        return Err(format!("protocol version {version} is not spoken here, only {PROTOCOL_VERSION}"));
    }
    let (hello, rest) = postcard::take_from_bytes(rest).map_err(|_| "a malformed hello".to_owned())?;
    Ok((hello, rest.first() == Some(&SPEAKS_TLS)))
}

fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    postcard::to_stdvec(message).map_err(io::Error::other)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    postcard::from_bytes(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a malformed message"))
}

async fn write_message<S: AsyncWrite + Unpin>(io: &mut S, message: &[u8]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(message.len() + 4);
    bytes.extend_from_slice(&u32::try_from(message.len()).map_err(io::Error::other)?.to_be_bytes());
    bytes.extend_from_slice(message);
    io.write_all(&bytes).await?;
    io.flush().await
}

/// Reads exactly one message, so that no byte of the frames behind it is taken.
async fn read_message<S: AsyncRead + Unpin>(io: &mut S) -> io::Result<Vec<u8>> {
    let length = io.read_u32().await? as usize;
    if length > MESSAGE_BYTES_MAX {
        let reason = format!("{length} bytes announced, at most {MESSAGE_BYTES_MAX} are expected");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    let mut message = vec![0; length];
    io.read_exact(&mut message).await?;
    Ok(message)
}

fn cut(reason: String) -> String {
    reason.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, OnceLock};

    use super::*;

    fn identity(node_id: NodeId, cluster: Option<u128>) -> Identity {
        let cluster_id = OnceLock::new();
        if let Some(id) = cluster {
            cluster_id.set(ClusterId(id)).unwrap();
        }
        Identity { node_id, generation: 1, name: format!("n{node_id}"), cluster_id: Arc::new(cluster_id) }
    }

    fn keys(secrets: &[&str]) -> Keys {
        Keys::new(secrets.iter().map(|secret| secret.as_bytes().to_vec()).collect())
    }

    const PLAIN: Way = Way::Plain { tls_here: false };

    type Met = (Result<ProvenPeer, HandshakeError>, Result<ProvenPeer, HandshakeError>);

    async fn meet(a: (Keys, Identity), b: (Keys, Identity), expected: Option<NodeId>) -> Met {
        meet_on((PLAIN, PLAIN), a, b, expected).await
    }

    async fn meet_on(
        ways: (Way, Way),
        (a_keys, a): (Keys, Identity),
        (b_keys, b): (Keys, Identity),
        expected: Option<NodeId>,
    ) -> Met {
        let (mut near, mut far) = tokio::io::duplex(1 << 16);
        let initiated = async move { initiate(&mut near, &a_keys, &a, Channel::Push, expected, &ways.0).await };
        let accepted = async move { accept(&mut far, &b_keys, &b, &ways.1).await };
        tokio::join!(initiated, accepted)
    }

    /// Somebody in the middle has a session with each side, and the sessions' keying material differs; or TLS with
    /// one of the two only.
    #[tokio::test]
    async fn a_proof_is_good_on_its_own_session_only() {
        let sides = || ((keys(&["s"]), identity(1, None)), (keys(&["s"]), identity(2, None)));
        for (ways, good) in [
            ((Way::Tls([7; 32]), Way::Tls([7; 32])), true),
            ((Way::Tls([7; 32]), Way::Tls([8; 32])), false),
            ((Way::Tls([7; 32]), PLAIN), false),
            ((PLAIN, Way::Tls([7; 32])), false),
            ((PLAIN, PLAIN), true),
        ] {
            let (a, b) = sides();
            let (a, b) = meet_on(ways, a, b, None).await;
            assert_eq!((a.is_ok(), b.is_ok()), (good, good), "{ways:?}");
        }
    }

    #[tokio::test]
    async fn two_that_speak_tls_do_not_settle_for_less() {
        let (mine, theirs) = (Way::Plain { tls_here: true }, PLAIN);
        for (ways, good) in [((mine, theirs), true), ((theirs, mine), true), ((mine, mine), false)] {
            let (a, b) = ((keys(&["s"]), identity(1, None)), (keys(&["s"]), identity(2, None)));
            let (a, b) = meet_on(ways, a, b, None).await;
            assert_eq!((a.is_ok(), b.is_ok()), (good, good), "{ways:?}");
            assert!(good || matches!(b, Err(HandshakeError::Because(LinkRefusal::Stripped, _))));
        }
    }

    /// As nodes read a Hello that know nothing of TLS: they do not mind what comes behind.
    #[test]
    fn a_hello_that_speaks_of_tls_is_one_to_old_nodes() {
        let hello = Hello {
            channel: Channel::Push,
            sender: 1,
            generation: 2,
            expected: None,
            cluster_id: None,
            nonce: [3; 32],
        };
        let bytes = first_message(&hello, &Way::Plain { tls_here: true }).unwrap();
        let read: Hello = postcard::from_bytes(&bytes[MAGIC.len() + 2..]).unwrap();
        assert_eq!((read.sender, read.generation, read.nonce), (1, 2, [3; 32]));
    }

    /// By which the accepting side tells the two apart.
    #[tokio::test]
    async fn no_first_message_looks_like_tls() {
        for length in [0, 1, 255, MESSAGE_BYTES_MAX] {
            let mut bytes = Vec::new();
            write_message(&mut bytes, &vec![TLS_RECORD; length]).await.unwrap();
            assert_ne!(bytes[0], TLS_RECORD, "{length}");
        }
    }

    #[tokio::test]
    async fn both_learn_who_the_other_is() {
        let (a, b) = meet((keys(&["s"]), identity(1, Some(5))), (keys(&["s"]), identity(2, None)), Some(2)).await;
        assert_eq!(a.unwrap(), ProvenPeer { node_id: 2, generation: 1, channel: Channel::Push });
        assert_eq!(b.unwrap(), ProvenPeer { node_id: 1, generation: 1, channel: Channel::Push });
    }

    #[tokio::test]
    async fn any_common_secret_of_the_initiators_first_will_do() {
        for (mine, theirs, good) in [
            (vec!["new"], vec!["new", "old"], true),
            (vec!["new"], vec!["old", "new"], true),
            (vec!["old", "new"], vec!["old"], true),
            (vec!["new", "old"], vec!["old"], false),
            (vec!["a"], vec!["b"], false),
            (vec![], vec!["b"], false),
            (vec!["a"], vec![], false),
            (vec![], vec![], true),
        ] {
            let (a, b) = meet((keys(&mine), identity(1, None)), (keys(&theirs), identity(2, None)), None).await;
            assert_eq!((a.is_ok(), b.is_ok()), (good, good), "{mine:?} {theirs:?}");
        }
    }

    #[tokio::test]
    async fn both_are_told_why_not() {
        let met = meet((keys(&["s"]), identity(1, Some(5))), (keys(&["s"]), identity(2, Some(6))), None).await;
        for refusal in [met.0.unwrap_err(), met.1.unwrap_err()] {
            assert!(refusal.to_string().contains("different clusters"), "{refusal}");
        }
        let met = meet((keys(&["s"]), identity(1, None)), (keys(&["s"]), identity(2, None)), Some(3)).await;
        for refusal in [met.0.unwrap_err(), met.1.unwrap_err()] {
            assert!(refusal.to_string().contains("expected"), "{refusal}");
        }
    }

    /// An acceptor without the secret that sends the initiator's own proof back.
    #[tokio::test]
    async fn a_reflected_proof_is_refused() {
        let (mut near, mut far) = tokio::io::duplex(1 << 16);
        let mirror = async move {
            let _hello = read_message(&mut far).await.unwrap();
            let challenge = Challenge { node_id: 2, generation: 1, cluster_id: None, nonce: [0; 32] };
            write_message(&mut far, &encode(&Reply::Challenge(challenge)).unwrap()).await.unwrap();
            let proof = Proof::try_from(read_message(&mut far).await.unwrap().as_slice()).unwrap();
            write_message(&mut far, &encode(&Reply::Accepted(proof)).unwrap()).await.unwrap();
        };
        let me = identity(1, None);
        let keys = keys(&["s"]);
        let (met, ()) = tokio::join!(initiate(&mut near, &keys, &me, Channel::Control, None, &PLAIN), mirror);
        assert!(matches!(met, Err(HandshakeError::Refused(_))));
    }

    #[tokio::test]
    async fn another_version_is_told_so() {
        let (mut near, mut far) = tokio::io::duplex(1 << 16);
        let mut hello = MAGIC.to_vec();
        hello.extend_from_slice(&99_u16.to_be_bytes());
        write_message(&mut near, &hello).await.unwrap();
        let refused = accept(&mut far, &keys(&["s"]), &identity(1, None), &PLAIN).await;
        assert!(refused.unwrap_err().to_string().contains("version 99"));
        assert!(matches!(decode(&read_message(&mut near).await.unwrap()), Ok(Reply::Refused(_))));
    }
}
