//! What only TCP links have: secrets, hostile bytes, full queues, and peers that say nothing.

mod support;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use wsgateway_cluster::tcp::{QueueBounds, TcpOptions, TcpTransport};
use wsgateway_cluster::{Channel, PeerAddress, PeerError};

const PLENTY: Duration = Duration::from_secs(10);

fn options(secrets: &[&str]) -> TcpOptions {
    let secrets = secrets.iter().map(|secret| secret.as_bytes().to_vec()).collect();
    TcpOptions::new("127.0.0.1:0".parse().unwrap(), secrets)
}

fn node(id: u64, secrets: &[&str]) -> Node {
    TcpHarness::start_with(id, options(secrets))
}

async fn echo(from: &Node, to: &PeerAddress) -> Result<Bytes, PeerError> {
    from.transport.call(to, Channel::Control, ECHO, "x".into(), PLENTY).await
}

/// The far side closes, instead of waiting for more.
async fn assert_closed(mut io: TcpStream) {
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(PLENTY, io.read_to_end(&mut rest)).await.expect("still open");
    assert!(closed.is_ok() || closed.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_wrong_secret_is_refused_with_the_reason() {
    let (a, b, open) = (node(1, &["one"]), node(2, &["two"]), node(3, &[]));
    for (from, to) in [(&a, &b), (&b, &a), (&open, &a), (&a, &open)] {
        let refused = echo(from, &to.peer()).await;
        assert!(matches!(&refused, Err(PeerError::Refused { reason, .. }) if reason.contains("secret")), "{refused:?}");
        let at_once = echo(from, &to.peer()).await;
        assert!(matches!(at_once, Err(PeerError::Refused { .. })), "{at_once:?}");
        assert_eq!(to.seen(), 0);
    }
}

/// The three steps of a rotation: every pair of neighbouring steps talks both ways.
#[tokio::test]
async fn the_second_secret_is_accepted_during_a_rotation() {
    let steps: [&[&str]; 4] = [&["old"], &["old", "new"], &["new", "old"], &["new"]];
    for pair in steps.windows(2) {
        let (a, b) = (node(1, pair[0]), node(2, pair[1]));
        assert_eq!(echo(&a, &b.peer()).await, Ok("x".into()), "{pair:?}");
        assert_eq!(echo(&b, &a.peer()).await, Ok("x".into()), "{pair:?}");
    }
}

#[tokio::test]
async fn without_a_secret_only_this_machine_is_talked_to() {
    let (a, b) = (node(1, &[]), node(2, &[]));
    assert_eq!(echo(&a, &b.peer()).await, Ok("x".into()));
    // TEST-NET-1: nobody is there, and nobody is asked.
    let far = PeerAddress { node_id: None, addr: "192.0.2.1:7000".into() };
    let refused = echo(&a, &far).await;
    assert!(matches!(&refused, Err(PeerError::Refused { reason, .. }) if reason.contains("loopback")), "{refused:?}");

    let start = |options| TcpTransport::start(options, identity(3), services().0);
    let mut everywhere = options(&[]);
    everywhere.listen = "0.0.0.0:0".parse().unwrap();
    let error = start(everywhere).unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("secret"), "{error}");
    let mut bound = options(&[]);
    bound.listener = Some(std::net::TcpListener::bind("0.0.0.0:0").unwrap());
    assert_eq!(start(bound).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(start(options(&["a", "b", "c"])).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(start(options(&[""])).unwrap_err().kind(), ErrorKind::InvalidInput);
    start(options(&["a"])).unwrap().shutdown().await;
}

#[tokio::test]
async fn garbage_closes_the_connection() {
    let a = node(1, &["s"]);
    let mut short_and_wrong = vec![0, 0, 0, 20];
    short_and_wrong.extend_from_slice(&[7; 20]);
    let oversize = [0x7f, 0xff, 0xff, 0xff, 0, 0];
    for bytes in [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], &short_and_wrong, &oversize, &[0, 0, 0, 0]] {
        let mut io = TcpStream::connect(&a.addr).await.unwrap();
        io.write_all(bytes).await.unwrap();
        assert_closed(io).await;
    }
    assert_eq!(a.seen(), 0);
    let b = node(2, &["s"]);
    assert_eq!(echo(&b, &a.peer()).await, Ok("x".into()), "others are still served");
}

#[tokio::test]
async fn a_silent_connection_is_closed_after_the_handshake_deadline() {
    let mut soon = options(&["s"]);
    soon.timeouts.handshake = Duration::from_millis(200);
    let a = TcpHarness::start_with(1, soon);
    let began = Instant::now();
    assert_closed(TcpStream::connect(&a.addr).await.unwrap()).await;
    assert!(began.elapsed() >= Duration::from_millis(190) && began.elapsed() < Duration::from_secs(2));
}

/// Passes bytes on to `to` and keeps what the dialling side said.
async fn listen_in(to: String) -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let keep = heard.clone();
    tokio::spawn(async move {
        let (near, _) = listener.accept().await.unwrap();
        let far = TcpStream::connect(to).await.unwrap();
        let (mut near_read, mut near_write) = near.into_split();
        let (mut far_read, mut far_write) = far.into_split();
        tokio::spawn(async move { tokio::io::copy(&mut far_read, &mut near_write).await });
        let mut buffer = [0; 4_096];
        while let Ok(count @ 1..) = near_read.read(&mut buffer).await {
            keep.lock().await.extend_from_slice(&buffer[..count]);
            far_write.write_all(&buffer[..count]).await.unwrap();
        }
    });
    (addr, heard)
}

#[tokio::test]
async fn a_replayed_handshake_serves_nothing() {
    let (a, b) = (node(1, &["s"]), node(2, &["s"]));
    let (addr, heard) = listen_in(b.addr.clone()).await;
    let through = PeerAddress { node_id: Some(2), addr };
    assert_eq!(echo(&a, &through).await, Ok("x".into()));
    assert_eq!(b.seen(), 1);
    let heard = heard.lock().await.clone();
    let mut io = TcpStream::connect(&b.addr).await.unwrap();
    io.write_all(&heard).await.unwrap();
    assert_closed(io).await;
    assert_eq!(b.seen(), 1, "the recorded request was not executed again");
}

/// An authenticated peer that goes mad ends its own link only, whichever frame it sends.
#[tokio::test]
async fn bad_frames_after_the_handshake_end_the_link() {
    for bad in [&[0xff, 0xff, 0xff, 0xff][..], &[0, 0, 0, 0], &[0, 0, 0, 3, 0xff, 0xff, 0xff]] {
        let (a, b) = (node(1, &["s"]), node(2, &["s"]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let through = PeerAddress { node_id: Some(2), addr: listener.local_addr().unwrap().to_string() };
        let to = b.addr.clone();
        let tampering = tokio::spawn(async move {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect(to).await.unwrap();
            let (mut near_read, mut near_write) = near.into_split();
            let (mut far_read, mut far_write) = far.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut near_read, &mut far_write).await.map(|_| far_write) });
            // Towards the dialling side: its answer is followed by the bad frame.
            let mut buffer = [0; 4_096];
            let mut passed = 0;
            while let Ok(count @ 1..) = far_read.read(&mut buffer).await {
                near_write.write_all(&buffer[..count]).await.unwrap();
                passed += 1;
                if passed == 3 {
                    near_write.write_all(bad).await.unwrap();
                }
            }
        });
        assert_eq!(echo(&a, &through).await, Ok("x".into()));
        let never = a.transport.call(&through, Channel::Control, NEVER, Bytes::new(), PLENTY).await;
        assert!(matches!(never, Err(PeerError::Unreachable { .. })), "{never:?}");
        tampering.abort();
        assert_eq!(echo(&a, &b.peer()).await, Ok("x".into()));
    }
}

#[tokio::test]
async fn a_full_queue_is_said_at_once() {
    // Connections are made by the kernel, but nobody answers the handshake, so requests wait in the queue.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut small = options(&["s"]);
    small.push_queue = QueueBounds { messages_max: 3, bytes_max: 1 << 20 };
    small.control_queue = QueueBounds { messages_max: 1_000, bytes_max: 10_000 };
    let a = TcpHarness::start_with(1, small);
    let peer = PeerAddress { node_id: None, addr: silent.local_addr().unwrap().to_string() };
    for (channel, bytes, fit) in [(Channel::Push, 1, 3), (Channel::Control, 3_000, 3)] {
        let mut waiting = Vec::new();
        for _ in 0..fit {
            let mut call = a.transport.call(&peer, channel, ECHO, vec![0; bytes].into(), PLENTY);
            assert!(futures::poll!(&mut call).is_pending());
            waiting.push(call);
        }
        let full = a.transport.call(&peer, channel, ECHO, vec![0; bytes].into(), PLENTY).await;
        assert!(matches!(full, Err(PeerError::QueueFull { .. })), "{full:?}");
    }
}

#[tokio::test]
async fn a_peer_that_never_shakes_hands_is_given_up_and_then_fails_fast() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut soon = options(&["s"]);
    soon.timeouts.open = Duration::from_millis(200);
    let a = TcpHarness::start_with(1, soon);
    let peer = PeerAddress { node_id: None, addr: silent.local_addr().unwrap().to_string() };
    let failed = echo(&a, &peer).await;
    assert!(matches!(failed, Err(PeerError::Unreachable { sent: false, .. })), "{failed:?}");
    let began = Instant::now();
    for _ in 0..30 {
        assert!(echo(&a, &peer).await.is_err());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(2), "calls waited for a link known to be down");
}

/// Thousands of abandoned calls leave nothing behind that would fill the link.
#[tokio::test]
async fn cancelled_calls_free_their_place() {
    let (a, b) = (node(1, &["s"]), node(2, &["s"]));
    for _ in 0..3_000 {
        let short = Duration::from_micros(1);
        let _ = a.transport.call(&b.peer(), Channel::Push, ECHO_LATER, vec![0; 60_000].into(), short).await;
    }
    assert_eq!(
        a.transport.call(&b.peer(), Channel::Push, ECHO, "x".into(), PLENTY).await,
        Ok("x".into()),
        "the queue is free again"
    );
}

/// More requests than may be in flight wait in the sockets and the queue; all are answered in the end.
#[tokio::test]
async fn more_calls_than_the_peer_handles_at_once_all_end() {
    let (a, b) = (node(1, &["s"]), node(2, &["s"]));
    let peer = b.peer();
    let calls = (0..4_000).map(|_| a.transport.call(&peer, Channel::Push, ECHO_LATER, "x".into(), PLENTY));
    for answer in futures::future::join_all(calls).await {
        assert_eq!(answer, Ok("x".into()));
    }
}

#[tokio::test]
async fn after_shutdown_the_port_is_free_and_calls_fail() {
    let (a, b) = (node(1, &["s"]), node(2, &["s"]));
    assert_eq!(echo(&a, &b.peer()).await, Ok("x".into()));
    let began = Instant::now();
    a.tcp.as_ref().unwrap().shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(matches!(echo(&a, &b.peer()).await, Err(PeerError::Unreachable { sent: false, .. })));
    assert!(TcpStream::connect(&a.addr).await.is_err());
}
