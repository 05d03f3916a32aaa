//! One WebSocket connection as a client has it: opened, sending numbered events, taking what is pushed, ended – all of it
//! recorded. Imports history and cluster (addresses).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{json, Value};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{client_async, WebSocketStream};

use crate::history::{History, Micros, Op, Outcome};

/// A handshake that takes longer has failed.
const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// No close frame was seen.
pub const NO_CLOSE_FRAME: u16 = 1006;

/// Which client on which node, and since when.
pub struct Client {
    pub name: String,
    pub node: usize,
    history: Arc<History>,
    opened: Micros,
    socket: WebSocketStream<TcpStream>,
    sent: u64,
}

/// What came in.
pub enum Incoming {
    /// Something that was recorded.
    Message,
    /// The connection has ended; recorded.
    Ended,
}

impl Client {
    /// `from`: the address that it calls from, if that matters.
    pub async fn open(
        name: String,
        node: usize,
        address: SocketAddr,
        from: Option<IpAddr>,
        history: &Arc<History>,
    ) -> Result<Client, String> {
        let opening = async {
            let stream = connect(address, from).await.map_err(|err| err.to_string())?;
            stream.set_nodelay(true).map_err(|err| err.to_string())?;
            let url = format!("ws://{address}/talk?client={name}");
            client_async(url, stream).await.map_err(|err| err.to_string())
        };
        let opened = tokio::time::timeout(OPEN_WITHIN, opening).await;
        let (socket, _) = opened.map_err(|_| format!("no handshake within {OPEN_WITHIN:?}"))??;
        history.event(Op::Connected { client: name.clone(), node });
        Ok(Client { name, node, history: history.clone(), opened: history.now(), socket, sent: 0 })
    }

    /// Sends the next event. An error shows when reading.
    pub async fn send_next(&mut self) {
        self.sent += 1;
        let event = json!({"client": self.name, "id": self.sent}).to_string();
        // Recorded first: what the service may have seen must have been sent.
        self.history.event(Op::Sent { client: self.name.clone(), n: self.sent });
        if let Err(err) = self.socket.send(Message::text(event)).await {
            self.history.note(format!("{} could not send {}: {err}", self.name, self.sent));
        }
    }

    /// Waits for what comes next. May be dropped and called again; nothing is lost.
    pub async fn receive(&mut self) -> Incoming {
        let code = match self.socket.next().await {
            Some(Ok(Message::Text(text))) => {
                self.take(text.as_str());
                return Incoming::Message;
            }
            Some(Ok(Message::Close(frame))) => frame.map_or(1005, |frame| u16::from(frame.code)),
            Some(Ok(_)) => return Incoming::Message,
            Some(Err(err)) => {
                self.history.note(format!("{} on node {}: {err}", self.name, self.node));
                NO_CLOSE_FRAME
            }
            None => NO_CLOSE_FRAME,
        };
        self.ended(code, false);
        Incoming::Ended
    }

    fn take(&self, text: &str) {
        let message: Value = serde_json::from_str(text).unwrap_or_default();
        let client = self.name.clone();
        match (message["push"].as_u64(), message["clientEventId"].as_u64()) {
            (Some(push), _) => {
                let word = |field: &str| message[field].as_str().unwrap_or_default().to_owned();
                self.history.event(Op::Got { client, to: word("client"), connection: word("to"), push });
            }
            (None, Some(n)) if message["type"] == "error" => self.history.event(Op::Declared { client, n }),
            _ => self.history.note(format!("{client} did not understand {text}")),
        }
    }

    /// After the end: answers the gateway's close frame.
    pub async fn answer_close(mut self) {
        let _ended_either_way = tokio::time::timeout(OPEN_WITHIN, self.socket.close(None)).await;
    }

    /// Gives up on a connection on which nothing comes any more; nobody is told.
    pub fn give_up(self) {
        self.ended(NO_CLOSE_FRAME, false);
    }

    /// Says goodbye, and waits a little for the answer.
    pub async fn close(mut self) {
        let goodbye = async {
            self.socket.close(None).await?;
            while let Some(Ok(message)) = self.socket.next().await {
                if let Message::Text(text) = message {
                    self.take(text.as_str());
                }
            }
            Ok::<_, tokio_tungstenite::tungstenite::Error>(())
        };
        let _ended_either_way = tokio::time::timeout(OPEN_WITHIN, goodbye).await;
        self.ended(1000, true);
    }

    fn ended(&self, code: u16, by_client: bool) {
        let op = Op::Ended { client: self.name.clone(), node: self.node, code, by_client };
        self.history.add(self.opened, Outcome::Ok, op);
    }
}

async fn connect(to: SocketAddr, from: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let Some(from) = from else { return TcpStream::connect(to).await };
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}
