//! A backend service: an HTTP/1.1 server inside the test process that keeps what it received and answers as told. Written
//! on bare sockets, so that what is recorded is what arrived, byte for byte. Runs on the runtime of its test.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::cloud_event::Attributes;
use crate::wait::{eventually, PATIENCE};

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Another request to the same path was being answered when this one arrived.
    pub overlapped: bool,
    /// When it had arrived.
    pub at: Instant,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{} got no JSON: {error}", self.path))
    }

    pub fn attributes(&self) -> Attributes {
        Attributes::from_headers(&self.headers, "ce-")
    }
}

/// What the service does with a request.
#[derive(Clone, Debug)]
pub struct Behaviour {
    status: u16,
    body: String,
    headers: String,
    delay: Duration,
    hang_up: bool,
    unfinished: bool,
}

impl Behaviour {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            body: String::new(),
            headers: String::new(),
            delay: Duration::ZERO,
            hang_up: false,
            unfinished: false,
        }
    }

    pub fn body(mut self, body: &str) -> Self {
        self.body = body.into();
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers += &format!("{name}: {value}\r\n");
        self
    }

    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Announces a longer body than it sends, and keeps the connection.
    pub fn unfinished(mut self) -> Self {
        self.unfinished = true;
        self
    }

    /// Closes the socket instead of answering.
    pub fn hang_up() -> Self {
        Self { hang_up: true, ..Self::status(200) }
    }
}

type Decider = dyn Fn(&Request) -> Behaviour + Send + Sync;

#[derive(Default)]
struct Inner {
    requests: Vec<Request>,
    behaviours: HashMap<String, Behaviour>,
    /// What decides by the request, before all others.
    deciders: HashMap<String, Arc<Decider>>,
    /// For the next requests of a path, before its behaviour counts.
    turns: HashMap<String, VecDeque<Behaviour>>,
    in_flight: HashMap<String, usize>,
    most_in_flight: HashMap<String, usize>,
    /// How many requests of a path [`Service::next`] has handed out.
    taken: HashMap<String, usize>,
    accepted: usize,
    open: usize,
}

/// Counts a connection while it lives.
struct Open(Arc<Mutex<Inner>>);

impl Open {
    fn new(inner: &Arc<Mutex<Inner>>) -> Open {
        let mut counters = inner.lock().unwrap();
        counters.accepted += 1;
        counters.open += 1;
        Open(Arc::clone(inner))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // A test that failed while it held the lock has said so.
        if let Ok(mut inner) = self.0.lock() {
            inner.open -= 1;
        }
    }
}

#[derive(Clone)]
pub struct Service {
    addr: SocketAddr,
    scheme: &'static str,
    inner: Arc<Mutex<Inner>>,
}

impl Service {
    pub async fn start() -> Self {
        Self::start_on("127.0.0.1", None).await
    }

    /// Behind https.
    pub async fn start_tls(tls: Arc<rustls::ServerConfig>) -> Self {
        Self::start_on("127.0.0.1", Some(tls.into())).await
    }

    /// At another address of loopback.
    pub async fn start_on(address: &str, tls: Option<TlsAcceptor>) -> Self {
        Self::listen(TcpListener::bind((address, 0)).await.expect("a free port"), tls)
    }

    /// At an address that was free a moment ago.
    pub async fn start_at(addr: SocketAddr) -> Self {
        Self::listen(TcpListener::bind(addr).await.expect("the address is still free"), None)
    }

    fn listen(listener: TcpListener, tls: Option<TlsAcceptor>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let service = Self { addr: listener.local_addr().expect("bound"), scheme, inner: Arc::default() };
        let inner = Arc::clone(&service.inner);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let open = Open::new(&inner);
                let (inner, tls) = (Arc::clone(&inner), tls.clone());
                tokio::spawn(async move {
                    let _open = open;
                    let _ = socket.set_nodelay(true);
                    let Some(tls) = tls else { return serve(socket, inner).await };
                    // Whoever does not trust us hangs up.
                    if let Ok(socket) = tls.accept(socket).await {
                        serve(socket, inner).await;
                    }
                });
            }
        });
        service
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.addr)
    }

    /// The most requests to `path` that were under way at once.
    pub fn most_in_flight(&self, path: &str) -> usize {
        self.inner.lock().unwrap().most_in_flight.get(path).copied().unwrap_or_default()
    }

    /// TCP connections so far.
    pub fn accepted(&self) -> usize {
        self.inner.lock().unwrap().accepted
    }

    /// TCP connections that have not ended.
    pub fn open(&self) -> usize {
        self.inner.lock().unwrap().open
    }

    /// From now on requests to `path` are treated like this; before, and elsewhere, 200 without a body.
    pub fn behave(&self, path: &str, behaviour: Behaviour) {
        self.inner.lock().unwrap().behaviours.insert(path.into(), behaviour);
    }

    /// The next requests to `path` are treated like this, one after the other; the ones behind them as told elsewhere.
    pub fn behave_in_turn(&self, path: &str, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.inner.lock().unwrap().turns.entry(path.into()).or_default().extend(behaviours);
    }

    /// From now on requests to `path` are treated as this function says.
    pub fn decide(&self, path: &str, decider: impl Fn(&Request) -> Behaviour + Send + Sync + 'static) {
        self.inner.lock().unwrap().deciders.insert(path.into(), Arc::new(decider));
    }

    /// Everything that `path` received so far.
    pub fn received(&self, path: &str) -> Vec<Request> {
        self.inner.lock().unwrap().requests.iter().filter(|request| request.path == path).cloned().collect()
    }

    /// The oldest request to `path` that was not asked for yet; waits for it.
    pub async fn next(&self, path: &str) -> Request {
        eventually(&format!("a request to {path}"), PATIENCE, async || {
            let request = {
                let inner = self.inner.lock().unwrap();
                let taken = inner.taken.get(path).copied().unwrap_or_default();
                inner.requests.iter().filter(|request| request.path == path).nth(taken).cloned()
            }?;
            *self.inner.lock().unwrap().taken.entry(path.into()).or_default() += 1;
            Some(request)
        })
        .await
    }

    /// Waits until `path` has received at least `count` requests.
    pub async fn wait_for(&self, path: &str, count: usize) -> Vec<Request> {
        eventually(&format!("{count} requests to {path}"), PATIENCE, async || {
            let received = self.received(path);
            (received.len() >= count).then_some(received)
        })
        .await
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(socket: S, inner: Arc<Mutex<Inner>>) {
    let mut socket = BufReader::new(socket);
    while let Some(mut request) = read_request(&mut socket).await {
        let path = request.path.clone();
        let behaviour = {
            let mut inner = inner.lock().unwrap();
            let in_flight = inner.in_flight.entry(path.clone()).or_default();
            request.overlapped = *in_flight > 0;
            *in_flight += 1;
            let now = *in_flight;
            let most = inner.most_in_flight.entry(path.clone()).or_default();
            *most = now.max(*most);
            let decided = inner.deciders.get(&path).cloned().map(|decide| decide(&request));
            inner.requests.push(request);
            let turn = inner.turns.get_mut(&path).and_then(VecDeque::pop_front);
            decided.or(turn).or_else(|| inner.behaviours.get(&path).cloned()).unwrap_or_else(|| Behaviour::status(200))
        };
        tokio::time::sleep(behaviour.delay).await;
        *inner.lock().unwrap().in_flight.get_mut(&path).expect("counted above") -= 1;
        if behaviour.hang_up {
            return;
        }
        let answer = format!(
            "HTTP/1.1 {} Answer\r\n{}content-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
            behaviour.status,
            behaviour.headers,
            behaviour.body.len() + if behaviour.unfinished { 1_000 } else { 0 },
            behaviour.body
        );
        // TLS holds back what is not flushed.
        if socket.get_mut().write_all(answer.as_bytes()).await.is_err() || socket.get_mut().flush().await.is_err() {
            return;
        }
        if behaviour.unfinished {
            // Until the client hangs up.
            let _end = socket.read(&mut [0; 1]).await;
            return;
        }
    }
}

/// `None` at the end of the connection.
async fn read_request<S: AsyncRead + Unpin>(socket: &mut BufReader<S>) -> Option<Request> {
    let mut line = String::new();
    socket.read_line(&mut line).await.ok()?;
    let mut words = line.split_whitespace();
    let method = words.next()?.to_string();
    let path = words.next()?.split('?').next()?.to_string();
    let mut headers = Vec::new();
    loop {
        line.clear();
        socket.read_line(&mut line).await.ok()?;
        let trimmed = line.trim_end();
        if trimmed.is_empty() {
            break;
        }
        let (name, value) = trimmed.split_once(':')?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
    }
    let header = |name: &str| headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str());
    assert_eq!(header("transfer-encoding"), None, "the gateway knows the length of what it sends");
    let length: usize = header("content-length").map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    Some(Request { method, path, headers, body, overlapped: false, at: Instant::now() })
}

#[tokio::test]
async fn the_service_records_what_arrives_and_behaves_as_told() {
    let service = Service::start().await;
    service.behave("/b", Behaviour::status(503).body("\"later\""));
    let addr = service.addr;
    let headers = [("ce-id", "7"), ("X-Case", "Kept")];
    crate::http::call(addr, "POST", "/a?q=1", &headers, b"{\"n\": 1.0}").await.expect("an answer").expect(200);
    let answer = crate::http::call(addr, "PUT", "/b", &[], b"").await.expect("an answer").expect(503);
    assert_eq!(answer.json(), "later");
    let request = service.next("/a").await;
    assert_eq!((request.method.as_str(), request.text()), ("POST", "{\"n\": 1.0}"));
    assert_eq!((request.header("x-case"), request.attributes().get("id")), (Some("Kept"), "7"));
    assert!(service.next("/b").await.body.is_empty());
    service.behave("/c", Behaviour::hang_up());
    crate::http::call(addr, "GET", "/c", &[], b"").await.expect_err("no answer");
}
