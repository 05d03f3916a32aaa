//! As much HTTP/1.1 as the load needs: heads of requests and answers, bodies with a Content-Length, and one-off
//! calls to the gateway's admin listener. Used by backend, push senders, floor and gateway alike, so that a
//! server's figures never differ because of its peer.

use std::net::SocketAddr;
use std::ops::Range;

use anyhow::{bail, Context};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::event::read_number;

/// A head that has not ended within this is not one of ours.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// A parsed head: where things are in the buffer it was parsed from. Positions are bytes from its start.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    /// Length of the head with its blank line: the body starts here.
    pub bytes: usize,
    /// Request: the target. Answer: the status code.
    pub second_word: Range<usize>,
    pub content_length: usize,
    /// Value of `ce-connectionid`.
    pub connection_id: Option<Range<usize>>,
    /// Value of `sec-websocket-key`.
    pub websocket_key: Option<Range<usize>>,
}

impl Head {
    /// Head and body together.
    pub fn message_bytes(&self) -> usize {
        self.bytes + self.content_length
    }
}

/// `Ok(None)`: the head is not complete yet.
pub fn parse_head(input: &[u8]) -> anyhow::Result<Option<Head>> {
    let Some(end) = memchr::memmem::find(input, b"\r\n\r\n") else {
        anyhow::ensure!(input.len() <= HEAD_BYTES_MAX, "no end of the HTTP head within {HEAD_BYTES_MAX} bytes");
        return Ok(None);
    };
    let first_line_end = memchr::memchr(b'\r', input).unwrap_or(end);
    let mut spaces = memchr::memchr_iter(b' ', &input[..first_line_end]);
    let Some(first_space) = spaces.next() else { bail!("not an HTTP head") };
    let second_word = first_space + 1..spaces.next().unwrap_or(first_line_end);
    let mut head = Head { bytes: end + 4, second_word, content_length: 0, connection_id: None, websocket_key: None };

    let mut line_start = first_line_end + 2;
    while line_start < end {
        let line_end = memchr::memchr(b'\n', &input[line_start..]).map_or(end, |at| line_start + at - 1);
        let line = &input[line_start..line_end];
        if let Some(colon) = memchr::memchr(b':', line) {
            let leading = line[colon + 1..].iter().take_while(|byte| **byte == b' ').count();
            let value = line_start + colon + 1 + leading..line_end;
            // The length decides first: most headers are dismissed without comparing letters.
            match colon {
                14 if line[..14].eq_ignore_ascii_case(b"content-length") => {
                    let (length, _) = read_number(&input[value]).context("Content-Length is not a number")?;
                    head.content_length = usize::try_from(length)?;
                }
                15 if line[..15].eq_ignore_ascii_case(b"ce-connectionid") => head.connection_id = Some(value),
                17 if line[..17].eq_ignore_ascii_case(b"sec-websocket-key") => head.websocket_key = Some(value),
                17 if line[..17].eq_ignore_ascii_case(b"transfer-encoding") => {
                    bail!("a chunked body: only Content-Length is understood here")
                }
                _ => {}
            }
        }
        line_start = line_end + 2;
    }
    Ok(Some(head))
}

/// Reads one whole answer on a keep-alive connection, throws its body away, and gives its status.
/// Bytes are taken off `buffer`, which must be empty or hold the start of this answer.
pub async fn read_answer(stream: &mut TcpStream, buffer: &mut BytesMut) -> anyhow::Result<u16> {
    loop {
        if let Some(head) = parse_head(buffer)? {
            if buffer.len() >= head.message_bytes() {
                let status = read_number(&buffer[head.second_word.clone()]).context("no status in the answer")?.0;
                buffer.advance(head.message_bytes());
                return Ok(u16::try_from(status)?);
            }
        }
        anyhow::ensure!(stream.read_buf(buffer).await? > 0, "the connection was closed instead of an answer");
    }
}

/// One request on a connection of its own. Gives status and raw body.
pub async fn call(address: SocketAddr, method: &str, path: &str, body: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no HTTP status")?;
    Ok((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] =
        b"POST /events HTTP/1.1\r\nHost: a\r\nCONTENT-LENGTH: 5\r\nce-connectionid:  c1\r\n\r\nhello";

    #[test]
    fn a_request_in_any_split() {
        for length in 0..REQUEST.len() - 5 {
            assert_eq!(parse_head(&REQUEST[..length]).unwrap(), None);
        }
        let head = parse_head(REQUEST).unwrap().unwrap();
        assert_eq!(&REQUEST[head.second_word.clone()], b"/events");
        assert_eq!(&REQUEST[head.bytes..head.message_bytes()], b"hello");
        assert_eq!(&REQUEST[head.connection_id.unwrap()], b"c1");
    }

    #[test]
    fn an_answer_without_headers_or_reason() {
        for answer in [&b"HTTP/1.1 204 No Content\r\n\r\n"[..], b"HTTP/1.1 204\r\n\r\n"] {
            let head = parse_head(answer).unwrap().unwrap();
            assert_eq!(&answer[head.second_word.clone()], b"204");
            assert_eq!(head.message_bytes(), answer.len());
        }
    }

    #[test]
    fn refuses_what_it_would_misread() {
        assert!(parse_head(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(parse_head(b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n").is_err());
        assert!(parse_head(b"nonsense\r\n\r\n").is_err());
        assert!(parse_head(&vec![b'a'; HEAD_BYTES_MAX + 1]).is_err());
    }
}
