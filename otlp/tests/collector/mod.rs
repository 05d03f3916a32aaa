//! A collector for tests, on bare sockets: keeps what it is sent, and answers as it is told.
// Not every program that includes it uses all of it.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use wsgateway_otlp::wire::Fields;

/// One request.
pub struct Received {
    pub head: String,
    pub body: Vec<u8>,
    pub at: Instant,
}

/// What is looked at of a span.
pub struct Span {
    pub name: String,
    pub trace_id: Vec<u8>,
}

impl Received {
    /// `ResourceSpans`, of which there is one.
    fn resource_spans(&self) -> Fields<'_> {
        Fields::read(Fields::read(&self.body).unwrap().bytes(1)).unwrap()
    }

    pub fn resource_attributes(&self) -> usize {
        Fields::read(self.resource_spans().bytes(1)).unwrap().all(1).count()
    }

    pub fn spans(&self) -> Vec<Span> {
        let of_scope = Fields::read(self.resource_spans().bytes(2)).unwrap();
        let spans = of_scope.all(2).map(|span| Fields::read(span).unwrap());
        spans.map(|span| Span { name: span.text(5), trace_id: span.bytes(1).to_vec() }).collect()
    }
}

/// What a request is answered.
#[derive(Clone)]
pub enum Say {
    Answer(u16, &'static str, Vec<u8>),
    /// As 200, and then the connection is closed, of which the answer says nothing.
    ThenClose,
    Silence,
}

impl Say {
    pub fn ok() -> Say {
        Say::Answer(200, "", Vec::new())
    }
}

/// Of the request's number, from 0.
pub type Script = Arc<dyn Fn(usize) -> Say + Send + Sync>;

#[derive(Clone)]
pub struct Collector {
    pub addr: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
}

impl Collector {
    pub async fn start(script: impl Fn(usize) -> Say + Send + Sync + 'static) -> Collector {
        Collector::serve_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), script, None)
    }

    pub fn serve_on(
        listener: TcpListener,
        script: impl Fn(usize) -> Say + Send + Sync + 'static,
        tls: Option<TlsAcceptor>,
    ) -> Collector {
        let addr = listener.local_addr().unwrap();
        let made = Collector { addr, received: Arc::default(), connections: Arc::default() };
        let (all, script): (_, Script) = (made.clone(), Arc::new(script));
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                all.connections.fetch_add(1, Ordering::SeqCst);
                let (all, script, tls) = (all.clone(), script.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => all.serve(socket, script).await,
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                all.serve(socket, script).await;
                            }
                        }
                    }
                });
            }
        });
        made
    }

    async fn serve(self, mut socket: impl AsyncRead + AsyncWrite + Unpin, script: Script) {
        let mut buffer = Vec::new();
        loop {
            let head_end = loop {
                if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                    break at + 4;
                }
                if socket.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                    return;
                }
            };
            let head = String::from_utf8(buffer[..head_end].to_vec()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let length: usize = length.parse().unwrap();
            while buffer.len() < head_end + length {
                assert_ne!(socket.read_buf(&mut buffer).await.unwrap(), 0, "a body that broke off");
            }
            let rest = buffer.split_off(head_end + length);
            let body = buffer[head_end..].to_vec();
            buffer = rest;
            let number = {
                let mut received = self.received.lock().unwrap();
                received.push(Received { head, body, at: Instant::now() });
                received.len() - 1
            };
            let said = script(number);
            let (status, headers, body) = match &said {
                Say::Answer(status, headers, body) => (*status, *headers, body.as_slice()),
                Say::ThenClose => (200, "", &b""[..]),
                Say::Silence => std::future::pending().await,
            };
            let head = format!("HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\n\r\n", body.len());
            socket.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
            if matches!(said, Say::ThenClose) {
                return;
            }
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn look<T>(&self, at: impl FnOnce(&[Received]) -> T) -> T {
        at(&self.received.lock().unwrap())
    }

    /// Spans of each request.
    pub fn sizes(&self) -> Vec<usize> {
        self.look(|received| received.iter().map(|one| one.spans().len()).collect())
    }
}

/// Waits until something holds, which it does well before this gives up.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "it never came that {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
