//! The collector over HTTP/1.1: one connection, kept open, one request at a time. Called by export.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{handshake, SendRequest};
use hyper::header::{HeaderMap, HeaderValue, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::settings::Target;

/// An answer that is longer is not read, and its connection not used again.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// OTLP wants exporters to say who they are.
const PRODUCT: &str = concat!("wsgateway-otlp/", env!("CARGO_PKG_VERSION"));

pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Empty when it could not be read.
    pub body: Bytes,
}

type Open = SendRequest<Full<Bytes>>;

pub(crate) struct Collector {
    host: String,
    port: u16,
    tls: Option<(ServerName<'static>, TlsConnector)>,
    request: Request<()>,
    timeout: Duration,
    /// Kept after an answer that was read to its end.
    idle: Option<Open>,
}

impl Collector {
    pub fn new(target: Target, tls: Arc<ClientConfig>) -> Collector {
        let mut request = Request::post(target.path).body(()).unwrap_or_default();
        *request.headers_mut() = target.headers;
        let host = HeaderValue::try_from(target.authority);
        // An authority is always a legal value.
        request.headers_mut().insert(HOST, host.unwrap_or(HeaderValue::from_static("")));
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(PRODUCT));
        Collector {
            host: target.host,
            port: target.port,
            tls: target.tls.map(|name| (name, TlsConnector::from(tls))),
            request,
            timeout: target.timeout,
            idle: None,
        }
    }

    /// One request with this body. An error is a text for people.
    pub async fn post(&mut self, body: Bytes) -> Result<Answer, String> {
        let timeout = self.timeout;
        match tokio::time::timeout(timeout, self.exchange(body)).await {
            Ok(result) => result,
            Err(_elapsed) => Err(format!("no answer within {} ms", timeout.as_millis())),
        }
    }

    async fn exchange(&mut self, body: Bytes) -> Result<Answer, String> {
        if let Some(mut open) = self.idle.take() {
            // One that the collector has closed meanwhile is no failure; a new one will do.
            if open.ready().await.is_ok() {
                if let Ok(response) = open.send_request(self.request(body.clone())).await {
                    return Ok(self.read(open, response).await);
                }
            }
        }
        let mut open = self.connect().await?;
        let response = open.send_request(self.request(body)).await.map_err(|err| chain(&err))?;
        Ok(self.read(open, response).await)
    }

    fn request(&self, body: Bytes) -> Request<Full<Bytes>> {
        self.request.clone().map(|()| Full::new(body))
    }

    /// Reads the answer to its end, and keeps the connection if that was possible.
    async fn read(&mut self, open: Open, response: Response<Incoming>) -> Answer {
        let (head, body) = response.into_parts();
        let body = match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
            Ok(body) => {
                self.idle = Some(open);
                body.to_bytes()
            }
            Err(_broke_off) => Bytes::new(),
        };
        Answer { status: head.status, headers: head.headers, body }
    }

    async fn connect(&self) -> Result<Open, String> {
        let socket = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|err| err.to_string())?;
        socket.set_nodelay(true).map_err(|err| err.to_string())?;
        match &self.tls {
            None => open(socket).await,
            Some((name, connector)) => {
                let socket = connector.connect(name.clone(), socket).await.map_err(|err| format!("TLS: {err}"))?;
                open(socket).await
            }
        }
    }
}

async fn open(socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Open, String> {
    let (open, connection) = handshake(TokioIo::new(socket)).await.map_err(|err| chain(&err))?;
    // Ends when the sending half is dropped, or the collector closes; what went wrong is told to the sending half, too.
    tokio::spawn(connection);
    Ok(open)
}

/// hyper's errors have their reason below them.
fn chain(err: &hyper::Error) -> String {
    match std::error::Error::source(err) {
        Some(source) => format!("{err}: {source}"),
        None => err.to_string(),
    }
}
