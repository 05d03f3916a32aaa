//! Nodes under TLS, and waiting for what they make of each other.

#![allow(dead_code, reason = "each test file uses its part")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use wsgateway_cluster::tcp::{LinkRefusal, PeerTls, PeerTlsMode, TcpOptions, TcpTransport};
use wsgateway_cluster::{Channel, PeerAddress, PeerError};

use super::authority::Authority;
use super::{Node, TcpHarness, ECHO};

pub const PLENTY: Duration = Duration::from_secs(10);
pub const ANY_PORT: &str = "127.0.0.1:0";

pub fn options_at(addr: &str, tls: Option<PeerTls>) -> TcpOptions {
    let mut options = TcpOptions::new(addr.parse().unwrap(), vec![b"a shared secret".to_vec()]);
    options.tls = tls;
    options
}

pub fn node(id: u64, tls: Option<PeerTls>) -> Node {
    TcpHarness::start_with(id, options_at(ANY_PORT, tls))
}

pub fn of_shared(id: u64, mode: PeerTlsMode) -> Node {
    node(id, Some(Authority::shared().tls(mode)))
}

pub fn tcp(node: &Node) -> &TcpTransport {
    node.tcp.as_ref().unwrap()
}

pub async fn echo(from: &Node, to: &PeerAddress) -> Result<Bytes, PeerError> {
    from.transport.call(to, Channel::Control, ECHO, "x".into(), PLENTY).await
}

pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PLENTY, "waited for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub async fn until_refused(node: &Node, why: LinkRefusal) {
    let waiting = format!("{why:?}");
    until(&waiting, || tcp(node).refusals().count(why) > 0).await;
}
