//! A small HTTP/1.1 client: one connection per request, so that what is known of a failed request is simple: not sent,
//! or unknown. Imports nothing of the crate.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The token of every node's admin listener; it goes with each request.
pub const ADMIN_TOKEN: &str = "a-token-that-only-chaos-uses";
/// An answer larger than this is no answer of the gateway's.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// No answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// Nobody listened: the request did not leave.
    NotSent(String),
    /// It may have been carried out.
    Unknown(String),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoAnswer::NotSent(why) => write!(f, "not sent: {why}"),
            NoAnswer::Unknown(why) => write!(f, "no answer: {why}"),
        }
    }
}

impl std::error::Error for NoAnswer {}

/// A request to be sent.
pub struct Request<'a> {
    pub method: &'static str,
    pub path: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

pub async fn get(to: SocketAddr, path: &str, within: Duration) -> Result<Answer, NoAnswer> {
    send(to, &Request { method: "GET", path, headers: &[], body: b"" }, within).await
}

pub async fn send(to: SocketAddr, request: &Request<'_>, within: Duration) -> Result<Answer, NoAnswer> {
    let mut sent = false;
    match tokio::time::timeout(within, exchange(to, request, &mut sent)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(why)) if sent => Err(NoAnswer::Unknown(why)),
        Ok(Err(why)) => Err(NoAnswer::NotSent(why)),
        Err(_) if sent => Err(NoAnswer::Unknown(format!("not within {within:?}"))),
        Err(_) => Err(NoAnswer::NotSent(format!("no connection within {within:?}"))),
    }
}

async fn exchange(to: SocketAddr, request: &Request<'_>, sent: &mut bool) -> Result<Answer, String> {
    let mut stream = TcpStream::connect(to).await.map_err(|err| err.to_string())?;
    let mut bytes = format!(
        "{} {} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n",
        request.method, request.path,
    )
    .into_bytes();
    let length = request.body.len();
    bytes.extend_from_slice(format!("Content-Type: application/json\r\nContent-Length: {length}\r\n").as_bytes());
    for (name, value) in request.headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(request.body);
    *sent = true;
    stream.write_all(&bytes).await.map_err(|err| err.to_string())?;
    let mut answer = Vec::with_capacity(1024);
    loop {
        if let Some(answer) = parse(&answer)? {
            return Ok(answer);
        }
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(format!("an answer of more than {ANSWER_BYTES_MAX} bytes"));
        }
        if stream.read_buf(&mut answer).await.map_err(|err| err.to_string())? == 0 {
            return Err("the connection ended before a whole answer".to_owned());
        }
    }
}

/// The answer, once all of it is there.
fn parse(bytes: &[u8]) -> Result<Option<Answer>, String> {
    let Some(end) = head_end(bytes) else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|err| err.to_string())?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| format!("not an answer: {:?}", head.lines().next().unwrap_or_default()))?;
    let length = match header(head, "content-length") {
        Some(length) => length.parse().map_err(|_| format!("Content-Length {length}"))?,
        None if header(head, "transfer-encoding").is_some() => return Err("a chunked answer".to_owned()),
        None => 0,
    };
    let body = &bytes[end + 4..];
    Ok((body.len() >= length).then(|| Answer { status, body: body[..length].to_vec() }))
}

/// Where the head ends, its empty line not counted.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n")
}

/// A header's value in a request or answer head.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_or_not_yet_there() {
        let text = b"HTTP/1.1 503 Service Unavailable\r\nContent-length: 3\r\n\r\n{} ";
        assert!(parse(&text[..20]).unwrap().is_none());
        assert!(parse(&text[..text.len() - 1]).unwrap().is_none());
        let answer = parse(text).unwrap().unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (503, &b"{} "[..]));
        assert_eq!(parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap().status, 204);
        assert!(parse(b"nonsense\r\n\r\n").is_err());
    }
}
