//! A small HTTP/1.1 client: one request per connection, nothing cached, nothing retried, so that a scenario sees exactly
//! what a node answered.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A node that does not answer within this is taken for dead.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("the body of a {} is not JSON ({error}): {}", self.status, self.text()))
    }

    /// Panics with the whole answer unless the status is `expected`.
    #[track_caller]
    pub fn expect(self, expected: u16) -> Self {
        assert_eq!(self.status, expected, "answer: {}", self.text());
        self
    }

    /// An RFC 9457 problem document with this status and `code`; answers the document.
    #[track_caller]
    pub fn expect_problem(self, status: u16, code: &str) -> Value {
        let answer = self.expect(status);
        let content_type = answer.header("content-type").unwrap_or_default().to_string();
        assert!(content_type.starts_with("application/problem+json"), "content type {content_type}: {}", answer.text());
        let problem = answer.json();
        for field in ["type", "title", "status", "detail", "code"] {
            assert!(problem.get(field).is_some(), "the problem has no {field}: {problem}");
        }
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["code"], code, "{problem}");
        problem
    }
}

/// Sends one request and reads the whole answer.
pub async fn call(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    match tokio::time::timeout(ANSWER_WITHIN, exchange(addr, method, target, headers, body)).await {
        Ok(answer) => answer,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer to {method} {target} at {addr}"))),
    }
}

async fn exchange(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {addr}\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("connection")) {
        head += "connection: close\r\n";
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() || matches!(method, "POST" | "PUT") {
        head += &format!("content-length: {}\r\n", body.len());
    }
    head += "\r\n";
    let mut socket = TcpStream::connect(addr).await?;
    // A server may answer and close before it has read a large body; what it answered counts then.
    let sent = async {
        socket.write_all(head.as_bytes()).await?;
        socket.write_all(body).await
    }
    .await;
    let mut received = Vec::new();
    loop {
        let read = socket.read_buf(&mut received).await;
        let ended = !matches!(read, Ok(1..));
        if let Some(answer) = parse(&received, ended) {
            return Ok(answer);
        }
        if ended {
            sent?;
            read?;
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("half an answer: {received:?}")));
        }
    }
}

/// `None` when the answer is not complete; without a length it ends with the connection.
fn parse(received: &[u8], ended: bool) -> Option<Answer> {
    let head_end = received.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&received[..head_end]).ok()?;
    let rest = &received[head_end + 4..];
    let mut lines = head.split("\r\n");
    let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    if status == 100 {
        return parse(rest, ended);
    }
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_string()))
        .collect();
    let header = |name: &str| headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str());
    let body = if header("transfer-encoding") == Some("chunked") {
        unchunk(rest)?
    } else if let Some(length) = header("content-length") {
        rest.get(..length.parse().ok()?)?.to_vec()
    } else if ended || status == 204 {
        rest.to_vec()
    } else {
        return None;
    };
    Some(Answer { status, headers, body })
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line_end = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..line_end]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        rest = &rest[line_end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

/// The admin listener of one node, with a token or without.
#[derive(Clone, Debug)]
pub struct Admin {
    pub addr: SocketAddr,
    pub token: Option<String>,
}

impl Admin {
    /// Any request; an error when the node does not answer.
    pub async fn try_call(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let mut all = headers.to_vec();
        if let Some(bearer) = &bearer {
            all.push(("authorization", bearer));
        }
        call(self.addr, method, target, &all, body).await
    }

    /// Any request to a node that is expected to live.
    pub async fn call(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_call(method, target, headers, body)
            .await
            .unwrap_or_else(|error| panic!("{method} {target} at {}: {error}", self.addr))
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.call("GET", target, &[], b"").await
    }

    pub async fn post(&self, target: &str, body: &Value) -> Answer {
        self.call("POST", target, JSON, body.to_string().as_bytes()).await
    }

    pub async fn put(&self, target: &str, body: &Value) -> Answer {
        self.call("PUT", target, JSON, body.to_string().as_bytes()).await
    }

    pub async fn delete(&self, target: &str) -> Answer {
        self.call("DELETE", target, &[], b"").await
    }

    /// Pushes this very text to a connection.
    pub async fn push(&self, connection_id: &str, json: &str) -> Answer {
        self.call("POST", &format!("/api/v1/connections/{connection_id}"), JSON, json.as_bytes()).await
    }
}

pub const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
