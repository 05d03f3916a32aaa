//! Handshakes by hand: from any address of loopback, with exactly the headers that are given, and the whole answer.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::http::Answer;
use crate::sandbox::Node;
use crate::wait::soon;

/// A handshake by hand: from this address, with exactly these headers.
#[derive(Clone, Copy)]
pub struct Handshake<'a> {
    pub to: SocketAddr,
    pub from: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
}

/// The answer's head, and the socket, which stays open while it is held.
pub struct Answered {
    pub answer: Answer,
    _socket: TcpStream,
}

impl Handshake<'_> {
    pub async fn at(self, target: &str) -> Answered {
        let from: IpAddr = self.from.parse().expect("an address");
        let socket = if from.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.expect("a socket");
        socket.bind(SocketAddr::new(from, 0)).expect("an address of loopback");
        let mut socket = soon("a TCP connection", socket.connect(self.to)).await.expect("the client port is open");
        let mut request = format!("GET {target} HTTP/1.1\r\n");
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request += &format!("Host: {}\r\n", self.to);
        }
        for (name, value) in self.headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        socket.write_all(request.as_bytes()).await.expect("the socket takes the handshake");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon("the handshake's answer", socket.read_u8()).await.expect("the handshake is answered"));
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let status: u16 = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut headers = Vec::new();
        for line in head.lines().skip(1) {
            headers.extend(line.split_once(": ").map(|(name, value)| (name.to_string(), value.to_string())));
        }
        let mut body = Vec::new();
        if status != 101 {
            soon("the rest of a refusal", socket.read_to_end(&mut body)).await.expect("a whole refusal");
        }
        Answered { answer: Answer { status, headers, body }, _socket: socket }
    }

    /// The status, and for a refusal its code.
    pub async fn outcome(self, target: &str) -> (u16, String) {
        let answer = self.at(target).await.answer;
        let code = if answer.status == 101 { Value::Null } else { answer.json()["code"].clone() };
        (answer.status, code.as_str().unwrap_or_default().to_string())
    }
}

/// An ordinary one.
pub fn to(node: &Node) -> Handshake<'static> {
    Handshake { to: node.client, from: "127.0.0.1", headers: &[] }
}
