//! The UDP port of a node that has a secret, as chitchat wants it. Called by `membership`; imports all of this folder.
//!
//! chitchat ends for good when a receive fails. So a receive goes past everything that a datagram can cause, and fails
//! only when the port itself is gone.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use aws_lc_rs::error::Unspecified;
use chitchat::transport::{RecvOutcome, SendOutcome, Socket, Transport};
use chitchat::ChitchatEnvelope;
use tokio::net::UdpSocket;

use super::codec::Codec;
use super::refusals::{Refusal, Refusals};
use super::replay::RunId;
use super::seal::{extract, Opener, Sealer, DATAGRAM_BYTES_MAX, LABEL_BYTES_MAX};
use crate::spacing::Spacing;

/// Between receives that fail for lack of memory, so that they do not take a core.
const TROUBLE_PAUSE: Duration = Duration::from_millis(10);

/// Opens the port. For one start: a second port would use the numbers of the first again, so there is none.
pub(crate) struct SealedTransport {
    ends: Mutex<Option<(Sealer, Opener)>>,
    refusals: Arc<Refusals>,
}

impl SealedTransport {
    /// One run: from here to the end of the node. `secrets` is not empty.
    pub(crate) fn new(secrets: &[Vec<u8>], label: &str, refusals: Arc<Refusals>) -> anyhow::Result<SealedTransport> {
        let bytes = label.len();
        anyhow::ensure!(bytes <= LABEL_BYTES_MAX, "the label has {bytes} bytes, at most {LABEL_BYTES_MAX} may be");
        let run: RunId = rand::random();
        let keys = extract(secrets);
        let first = keys.first().context("no secret to seal with")?;
        let sealer = Sealer::new(first, label, &run).map_err(no_key)?;
        let opener = Opener::new(keys, label, run);
        Ok(SealedTransport { ends: Mutex::new(Some((sealer, opener))), refusals })
    }
}

fn no_key(_: Unspecified) -> anyhow::Error {
    anyhow::anyhow!("no key could be made of the cluster secret")
}

#[async_trait]
impl Transport for SealedTransport {
    async fn open(&self, listen_addr: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let port =
            UdpSocket::bind(listen_addr).await.with_context(|| format!("failed to bind to {listen_addr}/UDP"))?;
        let codec = Codec::open().await.context("a pair of UDP ports on 127.0.0.1")?;
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (sealer, opener) = ends.context("opened before")?;
        let buffer = vec![0; DATAGRAM_BYTES_MAX].into_boxed_slice();
        let refusals = self.refusals.clone();
        let codec = Some(codec);
        let too_long = Spacing::default();
        Ok(Box::new(SealedSocket { port, buffer, sealer, opener, codec, decoding: None, refusals, too_long }))
    }
}

struct SealedSocket {
    port: UdpSocket,
    buffer: Box<[u8]>,
    sealer: Sealer,
    opener: Opener,
    /// `None` after it failed, until it is needed.
    codec: Option<Codec>,
    /// Who sent what the codec is decoding, and in how many bytes.
    decoding: Option<(SocketAddr, usize)>,
    refusals: Arc<Refusals>,
    too_long: Spacing,
}

#[async_trait]
impl Socket for SealedSocket {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.port.local_addr()?)
    }

    async fn send(&mut self, to: SocketAddr, message: ChitchatEnvelope) -> anyhow::Result<SendOutcome> {
        let codec = opened_again(&mut self.codec, &mut self.decoding).await?;
        let encoded = codec.encode(message).await;
        if encoded.is_err() {
            self.codec = None;
        }
        let datagram = self.sealer.seal(&encoded?).map_err(|_| anyhow::anyhow!("the message could not be sealed"))?;
        self.check_length(datagram.len())?;
        let num_bytes_sent = self.port.send_to(&datagram, to).await.with_context(|| format!("gossip to {to}"))?;
        Ok(SendOutcome { num_bytes_sent })
    }

    /// May be dropped at any await: what was begun is in `self`, and goes on in the next call.
    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        loop {
            if let Some(received) = self.finish_decoding().await {
                return Ok(received);
            }
            let (length, from) = self.receive().await?;
            match self.opener.open(&self.buffer[..length]) {
                Ok(message) => self.begin_decoding(message, from, length).await,
                Err(refusal) => self.refusals.note(refusal, from),
            }
        }
    }
}

impl SealedSocket {
    async fn receive(&mut self) -> anyhow::Result<(usize, SocketAddr)> {
        loop {
            match self.port.recv_from(&mut self.buffer).await {
                Ok(received) => return Ok(received),
                Err(err) if is_passing(err.kind()) => tokio::time::sleep(TROUBLE_PAUSE).await,
                Err(err) => return Err(err).context("the UDP port of gossip failed"),
            }
        }
    }

    async fn begin_decoding(&mut self, message: Vec<u8>, from: SocketAddr, length: usize) {
        match opened_again(&mut self.codec, &mut self.decoding).await {
            Ok(codec) => {
                codec.decode(message);
                self.decoding = Some((from, length));
            }
            Err(err) => tracing::warn!(%from, "a gossip datagram is lost: {err:#}"),
        }
    }

    /// What the codec was given, if it was given something that is a message.
    async fn finish_decoding(&mut self) -> Option<RecvOutcome> {
        let (from_addr, num_bytes_received) = self.decoding?;
        let decoded = match &mut self.codec {
            Some(codec) => codec.decoded().await,
            None => Err(anyhow::anyhow!("its decoder has failed")),
        };
        self.decoding = None;
        match decoded {
            Ok(Some(envelope)) => return Some(RecvOutcome { from_addr, envelope, num_bytes_received }),
            Ok(None) => self.refusals.note(Refusal::Content, from_addr),
            Err(err) => {
                self.codec = None;
                tracing::warn!(from = %from_addr, "a gossip datagram is lost: {err:#}");
            }
        }
        None
    }

    /// chitchat fills its messages up to what a datagram holds and knows nothing of the seal.
    fn check_length(&mut self, bytes: usize) -> anyhow::Result<()> {
        if bytes <= DATAGRAM_BYTES_MAX {
            return Ok(());
        }
        if let Some(unsaid) = self.too_long.due(std::time::Instant::now()) {
            tracing::warn!(bytes, unsaid, "a gossip datagram is too long to be sent: the cluster has too many nodes");
        }
        anyhow::bail!("{bytes} bytes, at most {DATAGRAM_BYTES_MAX} fit into a datagram")
    }
}

/// What a broken codec was decoding is lost with it.
async fn opened_again<'a>(
    codec: &'a mut Option<Codec>,
    decoding: &mut Option<(SocketAddr, usize)>,
) -> anyhow::Result<&'a mut Codec> {
    if codec.is_none() {
        *decoding = None;
        *codec = Some(Codec::open().await.context("a pair of UDP ports on 127.0.0.1")?);
    }
    codec.as_mut().context("just opened")
}

/// Says something about one datagram, or about this moment, not about the port.
fn is_passing(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable, OutOfMemory, WouldBlock,
    };
    matches!(
        kind,
        ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkUnreachable
            | OutOfMemory
            | WouldBlock
    )
}

#[cfg(test)]
mod tests {
    use chitchat::{ChitchatMessage, ProtocolVersion};

    use super::*;

    const SECRET: &[u8] = b"a shared secret";

    async fn open() -> Box<dyn Socket> {
        let transport = SealedTransport::new(&[SECRET.to_vec()], "test", Arc::default()).unwrap();
        transport.open("127.0.0.1:0".parse().unwrap()).await.unwrap()
    }

    fn syn(cluster_id: &str) -> ChitchatEnvelope {
        let message = ChitchatMessage::Syn { cluster_id: cluster_id.into(), digest: Default::default() };
        ChitchatEnvelope { version: ProtocolVersion::V1, message }
    }

    async fn received(socket: &mut dyn Socket) -> RecvOutcome {
        tokio::time::timeout(Duration::from_secs(10), socket.recv()).await.expect("a message").unwrap()
    }

    #[tokio::test]
    async fn a_message_arrives_with_its_sender_and_its_length() {
        let (mut near, mut far) = (open().await, open().await);
        for text in ["a", &"b".repeat(60_000)] {
            let sent = near.send(far.local_addr().unwrap(), syn(text)).await.unwrap();
            let arrived = received(&mut *far).await;
            assert_eq!((arrived.from_addr, arrived.envelope), (near.local_addr().unwrap(), syn(text)));
            assert_eq!(arrived.num_bytes_received, sent.num_bytes_sent);
        }
    }

    /// chitchat knows the length that a datagram may have, and not what the seal takes of it.
    #[tokio::test]
    async fn what_is_too_long_with_its_seal_is_an_error_of_its_own() {
        let (mut near, mut far) = (open().await, open().await);
        let to = far.local_addr().unwrap();
        // The longest that can be sent in the clear, by bisection, and in the seal.
        let mut longest = 0;
        for step in (0..16).rev().map(|bit| 1 << bit) {
            if longest + step < usize::from(u16::MAX) && near.send(to, syn(&"c".repeat(longest + step))).await.is_ok() {
                longest += step;
                assert_eq!(received(&mut *far).await.envelope, syn(&"c".repeat(longest)));
            }
        }
        let refused = near.send(to, syn(&"c".repeat(longest + 1))).await.unwrap_err();
        assert_eq!(refused.to_string(), "65508 bytes, at most 65507 fit into a datagram");
        near.send(to, syn("after it")).await.unwrap();
        assert_eq!(received(&mut *far).await.envelope, syn("after it"));
    }

    #[tokio::test]
    async fn one_run_has_one_port() {
        let transport = SealedTransport::new(&[SECRET.to_vec()], "test", Arc::default()).unwrap();
        let any = "127.0.0.1:0".parse().unwrap();
        assert!(transport.open(any).await.is_ok());
        assert!(transport.open(any).await.is_err(), "its numbers would be used twice");
    }
}
