//! chitchat's messages as bytes, and back. Called by `socket`. Imports nothing of this crate.
//!
//! chitchat keeps its encoding to itself; its own UDP socket is the only way to it. So that socket is opened on
//! loopback: what it sends is received here (that encodes), and what is sent to it comes out as a message (that
//! decodes). Nobody else is heard: this end is connected, and of that end's messages only those from this end count.
//!
//! Bytes that are no message come out as nothing at all. Behind each, a message is sent that nobody else can make, the
//! *mark*: when it comes out, everything before it has.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use chitchat::transport::{RecvOutcome, Socket, UdpSocket as ChitchatSocket};
use chitchat::{ChitchatEnvelope, ChitchatMessage, ProtocolVersion};
use tokio::net::UdpSocket;
use tokio::time::{timeout_at, Instant};

/// On loopback a datagram is there at once, or it was dropped because somebody has filled the buffer.
const LOOPBACK_TIME: Duration = Duration::from_secs(1);
/// The most that one UDP datagram carries, and one byte, so that nothing longer looks like it.
const BUFFER_BYTES: usize = 65_508;

/// After an error it is of no use any more, since an answer may still come: open another one.
pub(super) struct Codec {
    chitchat: ChitchatSocket,
    chitchat_addr: SocketAddr,
    bytes: UdpSocket,
    bytes_addr: SocketAddr,
    /// The cluster id of the mark: random, never sent anywhere else.
    mark_id: String,
    mark: Vec<u8>,
    buffer: Box<[u8]>,
    decoding: Option<Decoding>,
}

/// Kept between calls of [`Codec::decoded`], which are dropped at any await.
struct Decoding {
    bytes: Vec<u8>,
    /// Of the bytes and the mark.
    sent: usize,
    message: Option<ChitchatEnvelope>,
    deadline: Instant,
}

impl Codec {
    pub(super) async fn open() -> anyhow::Result<Codec> {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let chitchat = ChitchatSocket::open(any_port).await?;
        let chitchat_addr = chitchat.local_addr()?;
        let bytes = UdpSocket::bind(any_port).await?;
        let bytes_addr = bytes.local_addr()?;
        bytes.connect(chitchat_addr).await?;
        let mark_id = format!("mark {:032x}", rand::random::<u128>());
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        let mut codec =
            Codec { chitchat, chitchat_addr, bytes, bytes_addr, mark_id, mark: Vec::new(), buffer, decoding: None };
        codec.make_mark().await?;
        Ok(codec)
    }

    /// Also throws away what others have sent here before this end was connected.
    async fn make_mark(&mut self) -> anyhow::Result<()> {
        let message = ChitchatMessage::Syn { cluster_id: self.mark_id.clone(), digest: Default::default() };
        let mut found = self.encode(ChitchatEnvelope { version: ProtocolVersion::V0, message }).await?;
        let is_mark = |bytes: &[u8]| bytes.windows(self.mark_id.len()).any(|piece| piece == self.mark_id.as_bytes());
        while !is_mark(&found) {
            found = receive(&self.bytes, &mut self.buffer).await?;
        }
        self.mark = found;
        Ok(())
    }

    pub(super) async fn encode(&mut self, message: ChitchatEnvelope) -> anyhow::Result<Vec<u8>> {
        self.chitchat.send(self.bytes_addr, message).await?;
        Ok(receive(&self.bytes, &mut self.buffer).await?)
    }

    /// Begins to decode; one at a time.
    pub(super) fn decode(&mut self, bytes: Vec<u8>) {
        let deadline = Instant::now() + LOOPBACK_TIME;
        self.decoding = Some(Decoding { bytes, sent: 0, message: None, deadline });
    }

    /// The message, or `None` if the bytes are none. May be dropped and called again.
    pub(super) async fn decoded(&mut self) -> anyhow::Result<Option<ChitchatEnvelope>> {
        let Some(decoding) = &mut self.decoding else { return Ok(None) };
        while let Some(part) = [&decoding.bytes, &self.mark].get(decoding.sent) {
            timeout_at(decoding.deadline, self.bytes.send(part)).await.map_err(|_| lost())??;
            decoding.sent += 1;
        }
        loop {
            let received = timeout_at(decoding.deadline, self.chitchat.recv()).await.map_err(|_| lost())?;
            let RecvOutcome { from_addr, envelope, .. } = received?;
            match &envelope.message {
                _ if from_addr != self.bytes_addr => {}
                ChitchatMessage::Syn { cluster_id, .. } if *cluster_id == self.mark_id => break,
                _ => decoding.message = Some(envelope),
            }
        }
        Ok(self.decoding.take().and_then(|decoding| decoding.message))
    }
}

async fn receive(bytes: &UdpSocket, buffer: &mut [u8]) -> io::Result<Vec<u8>> {
    let received = timeout_at(Instant::now() + LOOPBACK_TIME, bytes.recv(buffer)).await.map_err(|_| lost())?;
    Ok(buffer[..received?].to_vec())
}

fn lost() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "a datagram got lost on loopback")
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Codec at {} and {}", self.chitchat_addr, self.bytes_addr)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn syn(cluster_id: &str) -> ChitchatEnvelope {
        let message = ChitchatMessage::Syn { cluster_id: cluster_id.into(), digest: Default::default() };
        ChitchatEnvelope { version: ProtocolVersion::V1, message }
    }

    #[tokio::test]
    async fn messages_become_bytes_and_messages_again() {
        let mut codec = Codec::open().await.unwrap();
        for text in ["a", "b", &"c".repeat(60_000)] {
            let bytes = codec.encode(syn(text)).await.unwrap();
            assert!(bytes.windows(text.len()).any(|piece| piece == text.as_bytes()));
            codec.decode(bytes);
            assert_eq!(codec.decoded().await.unwrap(), Some(syn(text)));
        }
        let bad = ChitchatEnvelope { version: ProtocolVersion::V0, message: ChitchatMessage::BadCluster };
        let bytes = codec.encode(bad).await.unwrap();
        codec.decode(bytes);
        assert!(
            matches!(codec.decoded().await.unwrap(), Some(message) if message.message == ChitchatMessage::BadCluster)
        );
    }

    #[tokio::test]
    async fn what_is_no_message_comes_out_as_none_and_costs_no_time() {
        let mut codec = Codec::open().await.unwrap();
        let good = codec.encode(syn("good")).await.unwrap();
        let began = Instant::now();
        for bad in [&b""[..], b"x", &good[..good.len() - 1], &vec![7; 65_507]] {
            codec.decode(bad.to_vec());
            assert_eq!(codec.decoded().await.unwrap(), None, "{} bytes", bad.len());
            codec.decode(good.clone());
            assert_eq!(codec.decoded().await.unwrap(), Some(syn("good")));
        }
        assert!(began.elapsed() < LOOPBACK_TIME, "{:?}", began.elapsed());
    }

    /// chitchat drops a receive whenever it has something else to do.
    #[tokio::test]
    async fn decoding_goes_on_after_it_was_dropped() {
        let mut codec = Codec::open().await.unwrap();
        let bytes = codec.encode(syn("dropped")).await.unwrap();
        let mut drops = 0;
        for _ in 0..50 {
            codec.decode(bytes.clone());
            let found = loop {
                let polled = {
                    let mut decoded = std::pin::pin!(codec.decoded());
                    decoded.as_mut().poll(&mut Context::from_waker(Waker::noop()))
                };
                match polled {
                    Poll::Ready(found) => break found,
                    Poll::Pending => drops += 1,
                }
                let message = syn("in between");
                let encoded = codec.encode(message).await.unwrap();
                assert!(encoded.ends_with(b"in between"));
            };
            assert_eq!(found.unwrap(), Some(syn("dropped")));
        }
        assert!(drops > 0, "nothing was dropped");
    }

    #[tokio::test]
    async fn nobody_else_is_heard() {
        let mut codec = Codec::open().await.unwrap();
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (forged, good) = (codec.encode(syn("forged")).await.unwrap(), codec.encode(syn("good")).await.unwrap());
        stranger.send_to(&forged, codec.chitchat_addr).await.unwrap();
        // The kernel refuses what does not come from the other end.
        let _ = stranger.send_to(&forged, codec.bytes_addr).await;
        assert_eq!(codec.encode(syn("good")).await.unwrap(), good);
        codec.decode(b"nothing".to_vec());
        assert_eq!(codec.decoded().await.unwrap(), None);
        codec.decode(good);
        assert_eq!(codec.decoded().await.unwrap(), Some(syn("good")));
    }
}
