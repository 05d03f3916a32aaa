//! Nodes with a service that tests can look into, on each of the transports.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod authority;
pub mod tls_nodes;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey, AES_256_GCM_SIV};
use aws_lc_rs::hkdf::{Salt, HKDF_SHA256};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::FutureExt;
use wsgateway_cluster::memory::MemoryNetwork;
use wsgateway_cluster::tcp::{PeerTlsMode, TcpOptions, TcpTransport};
use wsgateway_cluster::{kinds, ClusterId, Identity, NodeId, PeerAddress, PeerService, PeerTransport, Services};

/// Answers with the request.
pub const ECHO: u16 = 900;
/// The same, a moment later.
pub const ECHO_LATER: u16 = 901;
pub const NEVER: u16 = 902;
pub const FAIL: u16 = 903;
pub const PANIC_AT_ONCE: u16 = 904;
pub const PANIC_LATER: u16 = 905;
/// Notes the payload before `handle` returns.
pub const RECORD: u16 = 906;
pub const WHO_ASKS: u16 = 907;

#[derive(Default)]
pub struct TestService {
    seen: Mutex<Vec<(u16, Bytes)>>,
}

impl PeerService for TestService {
    fn handle(&self, from: NodeId, kind: u16, payload: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        self.seen.lock().unwrap().push((kind, payload.clone()));
        assert_ne!(kind, PANIC_AT_ONCE, "as asked");
        async move {
            match kind {
                ECHO_LATER => tokio::time::sleep(Duration::from_millis(5)).await,
                NEVER => futures::future::pending().await,
                FAIL => return Err(format!("no: {}", String::from_utf8_lossy(&payload))),
                PANIC_LATER => panic!("as asked, later"),
                WHO_ASKS => return Ok(from.to_string().into()),
                _ => {}
            }
            Ok(payload)
        }
        .boxed()
    }
}

pub struct Node {
    pub addr: String,
    pub transport: Arc<dyn PeerTransport>,
    pub tcp: Option<Arc<TcpTransport>>,
    pub identity: Identity,
    pub service: Arc<TestService>,
}

impl Node {
    pub fn peer(&self) -> PeerAddress {
        PeerAddress { node_id: Some(self.identity.node_id), addr: self.addr.clone() }
    }

    pub fn set_cluster(&self, id: u128) {
        self.identity.cluster_id.set(ClusterId(id)).unwrap();
    }

    pub fn seen(&self) -> usize {
        self.service.seen.lock().unwrap().len()
    }

    pub async fn seen_at_least(&self, count: usize) {
        while self.seen() < count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub fn recorded(&self) -> Vec<String> {
        let seen = self.service.seen.lock().unwrap();
        seen.iter().map(|(_, payload)| String::from_utf8(payload.to_vec()).unwrap()).collect()
    }
}

pub fn identity(node_id: NodeId) -> Identity {
    Identity { node_id, generation: 1, name: format!("n{node_id}"), cluster_id: Arc::new(OnceLock::new()) }
}

pub fn services() -> (Services, Arc<TestService>) {
    let (services, service) = (Services::default(), Arc::new(TestService::default()));
    services.register(kinds::TESTS, service.clone());
    (services, service)
}

/// A way to run nodes that reach each other.
#[async_trait]
pub trait Harness: Send + Sync {
    fn new() -> Self;
    /// At a free address, or at that of a node that was stopped.
    async fn start(&self, node_id: NodeId, addr: Option<&str>) -> Node;
    async fn stop(&self, node: Node);
}

pub struct TcpHarness;

impl TcpHarness {
    pub fn start_with(node_id: NodeId, options: TcpOptions) -> Node {
        let (services, service) = services();
        let identity = identity(node_id);
        let tcp = TcpTransport::start(options, identity.clone(), services).unwrap();
        Node { addr: tcp.local_addr().to_string(), transport: tcp.clone(), tcp: Some(tcp), identity, service }
    }
}

#[async_trait]
impl Harness for TcpHarness {
    fn new() -> Self {
        Self
    }

    async fn start(&self, node_id: NodeId, addr: Option<&str>) -> Node {
        let listen = addr.unwrap_or("127.0.0.1:0").parse().unwrap();
        Self::start_with(node_id, TcpOptions::new(listen, vec![b"a shared secret".to_vec()]))
    }

    async fn stop(&self, node: Node) {
        node.tcp.unwrap().shutdown().await;
    }
}

/// The same under TLS.
pub struct TlsHarness;

#[async_trait]
impl Harness for TlsHarness {
    fn new() -> Self {
        Self
    }

    async fn start(&self, node_id: NodeId, addr: Option<&str>) -> Node {
        let mut options = TcpOptions::new(addr.unwrap_or("127.0.0.1:0").parse().unwrap(), vec![b"a secret".to_vec()]);
        options.tls = Some(authority::Authority::shared().tls(PeerTlsMode::Required));
        TcpHarness::start_with(node_id, options)
    }

    async fn stop(&self, node: Node) {
        node.tcp.unwrap().shutdown().await;
    }
}

pub struct MemoryHarness(pub Arc<MemoryNetwork>);

#[async_trait]
impl Harness for MemoryHarness {
    fn new() -> Self {
        Self(MemoryNetwork::new())
    }

    async fn start(&self, node_id: NodeId, addr: Option<&str>) -> Node {
        let addr = addr.map_or_else(|| format!("memory-{node_id}"), str::to_owned);
        let (services, service) = services();
        let identity = identity(node_id);
        let transport = self.0.join(&addr, identity.clone(), services);
        Node { addr, transport, tcp: None, identity, service }
    }

    async fn stop(&self, node: Node) {
        self.0.leave(&node.addr);
    }
}

/// A gossip datagram as somebody else would make it who knows the secret, by the description in docs/adr/0048.
pub fn sealed_by_another_program(secret: &[u8], label: &str, number: u64, message: &[u8]) -> Vec<u8> {
    let run = [9_u8; 16];
    let secret = Salt::new(HKDF_SHA256, b"wsgateway gossip datagrams v1").extract(secret);
    let info = [b"aes-256-gcm-siv of run ".as_slice(), &run];
    let key = LessSafeKey::new(UnboundKey::from(secret.expand(&info, &AES_256_GCM_SIV).unwrap()));
    let head = [b"WSGG\x01", [label.len() as u8].as_slice(), label.as_bytes(), &run, &number.to_be_bytes()].concat();
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    let mut sealed = message.to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&head), &mut sealed).unwrap();
    [head, sealed].concat()
}
