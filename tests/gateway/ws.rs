//! WebSocket clients: a well-behaved one, and a raw one for what no library would send.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::WebSocketStream;

use crate::sandbox::Node;
use crate::service::{Request, Service};
use crate::wait::{eventually, soon, PATIENCE};

/// A handshake that was answered with something else than 101.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Refused {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The status with the problem document's `code`.
    pub fn why(&self) -> (u16, String) {
        let problem: Value = serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no problem: {self:?}"));
        (self.status, problem["code"].as_str().expect("a code").to_owned())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    Text(String),
    Binary(Vec<u8>),
    /// A close frame; 1005 when it carried no code.
    Close(u16),
    /// The socket ended without a close frame.
    Lost,
}

/// What a service learnt when a client connected.
pub struct Visit {
    /// The connection id.
    pub id: String,
    /// The value of the query parameter `who`.
    pub name: String,
    pub call: Request,
}

/// A connection to a node, in the clear or not.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A client that answers pings and closes in order.
pub struct Client {
    stream: WebSocketStream<Box<dyn Io>>,
    /// The headers of the 101.
    pub handshake: Vec<(String, String)>,
}

impl Client {
    /// Connects to a node that is expected to accept. `target` is the path with its query.
    pub async fn connect(node: &Node, target: &str) -> Self {
        match Self::try_connect(node, target, &[]).await {
            Ok(client) => client,
            Err(refused) => panic!("{} refused {target}: {refused:?}\n{}", node.name, node.log_tail()),
        }
    }

    /// Connects to an endpoint whose connect route calls `/connect` of `service`; answers the client and that call,
    /// which tells its connection id.
    pub async fn connect_known(node: &Node, path: &str, service: &Service) -> (Self, Visit) {
        static VISITS: AtomicUsize = AtomicUsize::new(1);
        let name = format!("visitor-{}", VISITS.fetch_add(1, Ordering::Relaxed));
        let client = Self::connect(node, &format!("{path}?who={name}")).await;
        let call = eventually(&format!("the connect event of {name}"), PATIENCE, async || {
            service.received("/connect").into_iter().find(|call| call.text().contains(&format!("\"{name}\"")))
        })
        .await;
        let id = call.attributes().get("connectionid").to_string();
        (client, Visit { id, name, call })
    }

    pub async fn try_connect(node: &Node, target: &str, headers: &[(&str, &str)]) -> Result<Self, Refused> {
        Self::try_connect_from("127.0.0.1", node, target, headers).await
    }

    /// The same from another address of loopback.
    pub async fn try_connect_from(
        from: &str,
        node: &Node,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Refused> {
        Self::over(connected_from(from, node).await, node, target, headers).await
    }

    /// The same over a connection that is there.
    pub async fn over(
        io: impl Io + 'static,
        node: &Node,
        target: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Refused> {
        let mut request = format!("ws://{}{target}", node.client).into_client_request().expect("a valid target");
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("a header name");
            request.headers_mut().insert(name, HeaderValue::from_str(value).expect("a header value"));
        }
        let io: Box<dyn Io> = Box::new(io);
        let handshake = tokio_tungstenite::client_async(request, io);
        match soon(&format!("the handshake with {}", node.name), handshake).await {
            Ok((stream, response)) => Ok(Self { stream, handshake: pairs(response.headers()) }),
            Err(Error::Http(response)) => Err(Refused {
                status: response.status().as_u16(),
                headers: pairs(response.headers()),
                body: String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned(),
            }),
            Err(error) => panic!("no handshake with {}: {error}\n{}", node.name, node.log_tail()),
        }
    }

    pub async fn send(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.expect("the socket takes a message");
    }

    /// Whether the socket still takes messages.
    pub async fn try_send(&mut self, text: &str) -> bool {
        self.stream.send(Message::text(text)).await.is_ok()
    }

    pub async fn send_binary(&mut self, bytes: &[u8]) {
        self.stream.send(Message::binary(bytes.to_vec())).await.expect("the socket takes a message");
    }

    /// The next message or the end; pings are answered on the way.
    pub async fn receive(&mut self) -> Received {
        soon("a message from the gateway", self.receive_without_deadline()).await
    }

    async fn receive_without_deadline(&mut self) -> Received {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Received::Text(text.to_string()),
                Some(Ok(Message::Binary(bytes))) => return Received::Binary(bytes.to_vec()),
                Some(Ok(Message::Close(frame))) => {
                    // Lets the library answer the close frame before the socket goes away.
                    let _ = tokio::time::timeout(Duration::from_millis(200), self.stream.next()).await;
                    return Received::Close(frame.map_or(1005, |frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Received::Lost,
            }
        }
    }

    /// The next message, which must be text.
    pub async fn text(&mut self) -> String {
        match self.receive().await {
            Received::Text(text) => text,
            other => panic!("expected a text message, got {other:?}"),
        }
    }

    pub async fn json(&mut self) -> Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("not JSON ({error}): {text}"))
    }

    /// The next message, which must be the gateway's error frame with this code; answers the frame.
    pub async fn error_frame(&mut self, code: &str) -> Value {
        let frame = self.json().await;
        assert_eq!(frame["type"], "error", "{frame}");
        assert_eq!(frame["error"]["code"], code, "{frame}");
        assert!(frame["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "no message in {frame}");
        frame
    }

    /// Reads on until the gateway closes; answers its code. Messages before that are dropped.
    pub async fn closed(&mut self) -> u16 {
        loop {
            match self.receive().await {
                Received::Close(code) => return code,
                Received::Lost => panic!("the socket ended without a close frame"),
                _ => {}
            }
        }
    }

    /// The same for what may take longer than anything else here.
    pub async fn closed_within(&mut self, time: Duration) -> u16 {
        let reading = async {
            loop {
                match self.receive_without_deadline().await {
                    Received::Close(code) => return code,
                    Received::Lost => panic!("the socket ended without a close frame"),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(time, reading).await.unwrap_or_else(|_| panic!("still open after {time:?}"))
    }

    /// Panics when anything but a ping arrives within `time`.
    pub async fn hears_nothing_for(&mut self, time: Duration) {
        if let Ok(received) = tokio::time::timeout(time, self.receive_without_deadline()).await {
            panic!("expected silence, got {received:?}");
        }
    }

    /// Leaves in order, with code 1000, and waits for the gateway's answer.
    pub async fn leave(mut self) {
        use tokio_tungstenite::tungstenite::protocol::{frame::coding::CloseCode, CloseFrame};
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.stream.send(Message::Close(Some(frame))).await.expect("the socket takes a close frame");
        soon("the gateway's close frame", async { while let Some(Ok(_)) = self.stream.next().await {} }).await;
    }
}

/// A TCP connection to the client listener of a node, from an address of loopback.
pub async fn connected_from(from: &str, node: &Node) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    // A port that closed connections still hold is no obstacle.
    socket.set_reuseaddr(true).expect("an option");
    socket.bind(format!("{from}:0").parse().expect("an IPv4 address")).expect("an address of loopback");
    let socket = soon("a TCP connection", socket.connect(node.client)).await.expect("the client port is open");
    socket.set_nodelay(true).expect("an option");
    socket
}

/// An address of the loopback network that no other test uses: failures are counted by address.
pub fn own_address() -> String {
    static ADDRESSES: AtomicUsize = AtomicUsize::new(0);
    let [.., high, low] = (ADDRESSES.fetch_add(1, Ordering::Relaxed) as u32 + 1).to_be_bytes();
    format!("127.77.{high}.{low}")
}

fn pairs(headers: &tokio_tungstenite::tungstenite::http::HeaderMap) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into())).collect()
}

pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;

/// The bytes of [`RawSocket::send_frame`].
pub fn masked_frame(opcode: u8, fin: bool, payload: &[u8], announced: Option<u64>) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let length = announced.unwrap_or(payload.len() as u64);
    let mut frame = vec![opcode | if fin { 0x80 } else { 0 }];
    match length {
        0..126 => frame.push(0x80 | length as u8),
        126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&length.to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A socket after the handshake, on which frames are written by hand and nothing is read or answered unasked.
pub struct RawSocket {
    socket: TcpStream,
}

impl RawSocket {
    /// `receive_buffer` in bytes, for a client that shall be slow; `None` leaves it to the kernel.
    pub async fn connect(node: &Node, target: &str, receive_buffer: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes).expect("a buffer size");
        }
        let mut socket = soon("a TCP connection", socket.connect(node.client)).await.expect("the client port is open");
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: {}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            node.client
        );
        socket.write_all(request.as_bytes()).await.expect("the socket takes the handshake");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = soon("the handshake's answer", socket.read_u8()).await;
            head.push(byte.expect("the handshake is answered"));
        }
        let head = String::from_utf8_lossy(&head);
        assert!(head.starts_with("HTTP/1.1 101"), "the handshake failed: {head}");
        // The accept key that RFC 6455 gives for the nonce above.
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "wrong accept key: {head}");
        Self { socket }
    }

    /// A masked frame; `announced` is the payload length that its header tells, when it shall not be the true one.
    pub async fn send_frame(&mut self, opcode: u8, fin: bool, payload: &[u8], announced: Option<u64>) {
        let frame = masked_frame(opcode, fin, payload, announced);
        self.socket.write_all(&frame).await.expect("the socket takes a frame");
    }

    /// Bytes as they are.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.expect("the socket takes them");
    }

    /// Writes these bytes again and again, reading nothing, for so long or until the gateway takes no more; answers how
    /// many bytes it took.
    pub async fn flood(&mut self, bytes: &[u8], time: Duration) -> usize {
        let mut taken = 0;
        let writing = async {
            while self.socket.write_all(bytes).await.is_ok() {
                taken += bytes.len();
            }
        };
        let _ended = tokio::time::timeout(time, writing).await;
        taken
    }

    /// Reads frames, answering none, until a close frame comes; answers its code.
    pub async fn closed(&mut self, within: Duration) -> u16 {
        let reading = async {
            loop {
                let (opcode, payload) = self.read_frame().await;
                if opcode == CLOSE {
                    return payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
                }
            }
        };
        match tokio::time::timeout(within, reading).await {
            Ok(code) => code,
            Err(_) => panic!("waited {within:?} for a close frame"),
        }
    }

    /// The next frame: opcode and payload.
    pub async fn read_frame(&mut self) -> (u8, Vec<u8>) {
        let what = "the socket ended without a close frame";
        let first = self.socket.read_u8().await.expect(what);
        let length = match self.socket.read_u8().await.expect(what) & 0x7f {
            126 => u64::from(self.socket.read_u16().await.expect(what)),
            127 => self.socket.read_u64().await.expect(what),
            short => u64::from(short),
        };
        let mut payload = vec![0; length as usize];
        self.socket.read_exact(&mut payload).await.expect(what);
        (first & 0x0f, payload)
    }
}
