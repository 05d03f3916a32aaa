//! WebSocket clients, as cheap as they get: a fleet of connections on one event loop, that answers pings, reports
//! what it receives to the board, and sends events as its windows allow.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use bytes::{Buf, BytesMut};
use futures::{Stream, StreamExt, TryStreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinHandle};

use crate::event::{read_ack, Stamp, HELLO_RUN};
use crate::event_loop::EventLoop;
use crate::frame::{self, Frame};
use crate::http1;
use crate::meter::{now_nanos, Board, Run};
use crate::transport::{connect, connect_tls, Line, Reader, Transport, Writer};

/// Handshakes under way at once: well below any server's listen backlog.
const CONCURRENT_HANDSHAKES: usize = 64;
/// Connections that make themselves known to the backend at once.
const INTRODUCED_AT_ONCE: usize = 256;
pub const HANDSHAKE_LONGEST: Duration = Duration::from_secs(10);
/// Grows where needed; ten thousand idle clients should not need gigabytes.
const READ_BUFFER_BYTES: usize = 1024;

/// Open connections. Dropping it closes them.
pub struct Fleet {
    clients: Vec<Arc<Client>>,
    readers: Vec<AbortHandle>,
}

struct Client {
    writer: Writer,
    /// Frames that the writer has not taken yet; appended whole, so that writers never tear each other's.
    unsent: Mutex<BytesMut>,
}

impl Fleet {
    /// Opens `count` connections to `path`, at the `addresses` in turn.
    pub async fn connect(
        event_loop: &EventLoop,
        board: &Arc<Board>,
        (transport, addresses): (&Transport, &[SocketAddr]),
        path: &'static str,
        count: usize,
    ) -> anyhow::Result<Self> {
        let board = board.clone();
        let all: Vec<SocketAddr> = addresses.iter().copied().cycle().take(count).collect();
        let transport = transport.clone();
        let what = format!("opening WebSocket connections to {addresses:?}{path}");
        event_loop
            .run(async move {
                some_at_a_time(all, |address| handshake_through(&transport, address, path))
                    .try_fold(Fleet { clients: Vec::new(), readers: Vec::new() }, |mut fleet, (line, input)| {
                        fleet.adopt(line, input, board.clone());
                        std::future::ready(Ok(fleet))
                    })
                    .await
                    .context(what)
            })
            .await
    }

    fn adopt(&mut self, line: Line, input: BytesMut, board: Arc<Board>) {
        let (reader, writer) = line.into_halves();
        let client = Arc::new(Client { writer, unsent: Mutex::new(BytesMut::new()) });
        let slot = self.clients.len();
        self.clients.push(client.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = receive(reader, input, (slot, &client), &board).await {
                board.complain(format!("client: {error:#}"));
            }
        });
        self.readers.push(task.abort_handle());
    }

    /// From now on nothing is read; the connections stay open.
    pub fn stop_reading(&mut self) {
        self.readers.drain(..).for_each(|reader| reader.abort());
    }

    /// Makes every connection known to the backend by one event each, and waits for the ids the server gave them.
    pub async fn introduce(&self, handle: &Handle, board: &Board) -> anyhow::Result<Vec<String>> {
        const POLL: Duration = Duration::from_millis(10);
        const POLLS_MAX: usize = 1000;
        board.expect_connections(self.clients.len());
        let mut slots = 0..self.clients.len();
        let mut introduced = 0;
        while introduced < self.clients.len() {
            // Ten thousand at once would wait longer for the backend than the server waits.
            for slot in slots.by_ref().take(INTRODUCED_AT_ONCE) {
                let client = self.clients[slot].clone();
                introduced += 1;
                handle.spawn(async move {
                    let stamp = Stamp { run: HELLO_RUN, slot: slot as u64, sent_nanos: now_nanos() };
                    client.append_event(stamp, false, 0, &mut BytesMut::new());
                    client.flush().await
                });
            }
            let mut polls = 0;
            while board.known_connections() < introduced {
                polls += 1;
                anyhow::ensure!(
                    polls <= POLLS_MAX,
                    "the backend did not hear from every connection within 10 s {:?}",
                    board.take_complaints()
                );
                tokio::time::sleep(POLL).await;
            }
        }
        board.connection_ids().context("the backend knows every connection")
    }

    /// Starts sending events of `event_bytes` on all connections, as `run` allows. The slot is the client's index.
    /// The tasks end with the run.
    pub fn send(&self, handle: &Handle, board: &Arc<Board>, run: &Arc<Run>, event_bytes: usize) -> Vec<JoinHandle<()>> {
        let start = |(slot, client): (usize, Arc<Client>)| {
            let (run, board) = (run.clone(), board.clone());
            handle.spawn(async move {
                let mut event = BytesMut::new();
                while let Some(count) = run.claim(slot).await {
                    for _ in 0..count {
                        client.append_event(run.stamp(slot), run.wants_acks(), event_bytes, &mut event);
                    }
                    if let Err(error) = client.flush().await {
                        return board.complain(format!("client: {error}"));
                    }
                }
            })
        };
        self.clients.iter().cloned().enumerate().map(start).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.readers.iter().for_each(AbortHandle::abort);
    }
}

impl Client {
    fn append_event(&self, stamp: Stamp, with_id: bool, bytes: usize, scratch: &mut BytesMut) {
        scratch.clear();
        match with_id {
            true => stamp.write_with_id(bytes, scratch),
            false => stamp.write(bytes, scratch),
        }
        self.append(frame::TEXT, scratch);
    }

    fn append(&self, opcode: u8, payload: &[u8]) {
        let mut unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner);
        frame::write_masked(opcode, payload, rand::random(), &mut unsent);
    }

    /// Writes what the socket takes now. `Ok(true)`: nothing is left.
    fn try_flush(&self) -> io::Result<bool> {
        self.writer.try_write_all(&mut self.unsent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn flush(&self) -> io::Result<()> {
        while !self.try_flush()? {
            self.writer.writable().await?;
        }
        Ok(())
    }
}

/// Opens a connection to each of `addresses`, some of them at a time.
pub fn open(
    addresses: Vec<SocketAddr>,
    path: &'static str,
) -> impl Stream<Item = anyhow::Result<(TcpStream, BytesMut)>> {
    some_at_a_time(addresses, move |address| handshake(address, path))
}

fn some_at_a_time<T, F: Future<Output = anyhow::Result<T>>>(
    addresses: Vec<SocketAddr>,
    opening: impl Fn(SocketAddr) -> F,
) -> impl Stream<Item = anyhow::Result<T>> {
    futures::stream::iter(addresses)
        .map(move |address| tokio::time::timeout(HANDSHAKE_LONGEST, opening(address)))
        .buffer_unordered(CONCURRENT_HANDSHAKES)
        .map(|opened| opened.context("handshake timed out").and_then(|opened| opened))
}

/// Opens one connection; gives the socket and what came after the handshake's answer.
pub async fn handshake(address: SocketAddr, path: &str) -> anyhow::Result<(TcpStream, BytesMut)> {
    handshake_with(address, path, "").await
}

/// The same with further headers: whole lines.
pub async fn handshake_with(address: SocketAddr, path: &str, headers: &str) -> anyhow::Result<(TcpStream, BytesMut)> {
    let mut stream = connect(address).await?;
    let input = upgrade(&mut stream, address, path, headers).await?;
    Ok((stream, input))
}

/// The same by whatever transport.
pub async fn handshake_through(
    transport: &Transport,
    address: SocketAddr,
    path: &str,
) -> anyhow::Result<(Line, BytesMut)> {
    let connector = match transport {
        Transport::Clear => return handshake(address, path).await.map(|(stream, input)| (Line::Clear(stream), input)),
        Transport::Tls(connector) => connector,
    };
    let mut stream = connect_tls(connector, address).await?;
    let input = upgrade(&mut stream, address, path, "").await?;
    Ok((Line::Tls(Box::new(stream)), input))
}

/// The WebSocket handshake alone; gives what came after its answer.
async fn upgrade(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    address: SocketAddr,
    path: &str,
    headers: &str,
) -> anyhow::Result<BytesMut> {
    // The key only has to be 16 bytes in Base64; that the server answers this one is the conformance tests' matter.
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    // TLS may still have a part of it.
    stream.flush().await?;
    let mut input = BytesMut::with_capacity(READ_BUFFER_BYTES);
    loop {
        if let Some(head) = http1::parse_head(&input)? {
            let status = &input[head.second_word.clone()];
            if status != b"101" {
                let status = String::from_utf8_lossy(status).into_owned();
                input.advance(head.bytes);
                anyhow::bail!("handshake answered {status}{}", problem_code(&input));
            }
            input.advance(head.bytes);
            return Ok(input);
        }
        anyhow::ensure!(stream.read_buf(&mut input).await? > 0, "closed during the handshake");
    }
}

/// What the refusal's JSON calls its reason, after a blank; nothing where it doesn't, or where it has not come yet.
fn problem_code(body: &[u8]) -> String {
    const CODE: &[u8] = b"\"code\":\"";
    let Some(at) = memchr::memmem::find(body, CODE) else { return String::new() };
    let code = &body[at + CODE.len()..];
    format!(" {}", String::from_utf8_lossy(&code[..memchr::memchr(b'"', code).unwrap_or(code.len())]))
}

async fn receive(
    mut reader: Reader,
    mut input: BytesMut,
    (slot, client): (usize, &Client),
    board: &Board,
) -> anyhow::Result<()> {
    loop {
        while let Some(Frame { opcode, payload }) = frame::read_unmasked(&mut input).map_err(anyhow::Error::msg)? {
            match opcode {
                frame::TEXT => match (Stamp::read(&payload), read_ack(&payload)) {
                    (Some(stamp), _) => board.received(stamp, None),
                    (None, Some(sent_nanos)) => board.acknowledged(slot, sent_nanos),
                    _ => board.complain(format!("client received {}", String::from_utf8_lossy(&payload))),
                },
                frame::PING => {
                    client.append(frame::PONG, &payload);
                    // What does not fit now goes out before the next event does.
                    client.try_flush()?;
                }
                frame::CLOSE => anyhow::bail!("closed by the server: {:?}", payload.get(..2).map(close_code)),
                _ => {}
            }
        }
        anyhow::ensure!(reader.read(&mut input).await? > 0, "cut off by the server");
    }
}

fn close_code(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |code, byte| code << 8 | u16::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_called_by_its_code() {
        assert_eq!(problem_code(br#"{"status":503,"code":"connections_max","detail":"x"}"#), " connections_max");
        assert_eq!(problem_code(br#"{"status":503,"code":"conn"#), " conn");
        assert_eq!(problem_code(b"Service Unavailable"), "");
    }
}
