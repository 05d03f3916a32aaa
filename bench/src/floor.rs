//! The floor: a server that does the same I/O as the gateway and nothing else. WebSocket frames with actix-http's
//! codec, one POST per event over keep-alive connections (in order per connection, as the gateway does by default),
//! pushes written straight to the socket, or to all sockets, by whichever worker received them, who ends connections
//! that don't take them. No JSON, no routes, no ids worth the name.
//! Runs as a child process (`bench floor`), so that its CPU and memory are counted like the gateway's.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, PoisonError, RwLock};

use actix_http::ws::{self, hash_key};
use anyhow::Context;
use bytes::{Buf, BufMut, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{channel, Receiver, Sender};
use tokio_util::codec::{Decoder, Encoder};

use crate::event::{read_number, write_number};
use crate::http1::{parse_head, read_answer};
use crate::kafka::Producer;
use crate::target::KafkaTopic;

pub const PUSH_PREFIX: &str = "/push/";
/// To all connections.
pub const BROADCAST_PATH: &str = "/broadcast";
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// The gateway's default `maxMessageBytes`.
const FRAME_BYTES_MAX: usize = 128 * 1024;

/// Where a started floor listens: the one line that it prints.
#[derive(Serialize, Deserialize)]
pub struct Listening {
    pub client: SocketAddr,
    pub push: SocketAddr,
}

/// What all workers share.
struct Floor {
    backend: SocketAddr,
    /// `None`: events go to `backend`, as connect events do in any case.
    kafka: Option<Producer>,
    /// Request head up to the connection's number.
    request_head: Vec<u8>,
    /// By connection number; `None` once closed.
    connections: RwLock<Vec<Option<Arc<OwnedWriteHalf>>>>,
}

enum Incoming {
    Client(StdStream),
    Push(StdStream),
}

/// Accepted sockets that may wait for one worker.
const ACCEPTED_WAITING_MAX: usize = 1024;

/// Serves until its standard input ends, that is until the program that started it is gone or done.
pub fn run(backend: SocketAddr, kafka: Option<KafkaTopic>, workers: usize) -> anyhow::Result<()> {
    let floor = Arc::new(Floor {
        backend,
        kafka: kafka.map(|kafka| Producer::start(&kafka.brokers, &kafka.topic)).transpose()?,
        request_head: format!(
            "POST /events HTTP/1.1\r\nHost: {backend}\r\nContent-Type: application/json\r\nce-connectionid: "
        )
        .into_bytes(),
        connections: RwLock::new(Vec::new()),
    });
    let mut queues = Vec::new();
    for _ in 0..workers.max(1) {
        let (queue, incoming) = channel(ACCEPTED_WAITING_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let floor = floor.clone();
        std::thread::spawn(move || runtime.block_on(worker(floor, incoming)));
        queues.push(queue);
    }
    let listening =
        Listening { client: accept(Incoming::Client, queues.clone())?, push: accept(Incoming::Push, queues)? };
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", serde_json::to_string(&listening)?)?;
    stdout.flush()?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Accepts on a thread of its own and deals the sockets out to the workers in turn, as actix-server does.
fn accept(kind: fn(StdStream) -> Incoming, queues: Vec<Sender<Incoming>>) -> anyhow::Result<SocketAddr> {
    let listener = StdListener::bind("127.0.0.1:0")?;
    // std's backlog of 128 is less than the clients that connect at once may need.
    // SAFETY: listen on a descriptor that `listener` owns; a second call only changes the backlog.
    unsafe { libc::listen(listener.as_raw_fd(), 2048) };
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for queue in queues.iter().cycle() {
            match listener.accept() {
                Ok((stream, _)) => drop(queue.blocking_send(kind(stream))),
                Err(error) => eprintln!("floor: accept: {error}"),
            }
        }
    });
    Ok(address)
}

async fn worker(floor: Arc<Floor>, mut incoming: Receiver<Incoming>) {
    let prepare = |stream: StdStream| {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        bound_unsent(&stream)?;
        TcpStream::from_std(stream)
    };
    while let Some(incoming) = incoming.recv().await {
        // A failure here means that the peer is gone already.
        match incoming {
            Incoming::Client(stream) => drop(prepare(stream).map(|stream| tokio::spawn(client(floor.clone(), stream)))),
            Incoming::Push(stream) => drop(prepare(stream).map(|stream| tokio::spawn(service(floor.clone(), stream)))),
        }
    }
}

/// Bytes that the kernel takes beyond what is under way. Without a bound, a thousand clients that never read would have
/// gigabytes of its memory, which is the whole machine's.
fn bound_unsent(stream: &StdStream) -> io::Result<()> {
    const UNSENT_BYTES_MAX: libc::c_int = 64 * 1024;
    let (value, length) = (std::ptr::from_ref(&UNSENT_BYTES_MAX).cast(), size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: the descriptor is open as long as `stream` is borrowed; the value is a constant of that length.
    match unsafe { libc::setsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, value, length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn report(who: &str, ended: anyhow::Result<()>) {
    match ended {
        // Peers that go away without a goodbye are how every load ends.
        Err(error) if error.downcast_ref::<io::Error>().is_none() => eprintln!("floor: {who}: {error:#}"),
        _ => {}
    }
}

/// One client: handshake and connect event once, then events until it goes away.
async fn client(floor: Arc<Floor>, stream: TcpStream) {
    // Boxed: inlined, every idle connection would carry the room that its handshake needed.
    let (number, reader, writer) = match Box::pin(open(floor.clone(), stream)).await {
        Ok(opened) => opened,
        Err(error) => return report("client", Err(error)),
    };
    let ended = events(&floor, number, reader, &writer).await;
    floor.connections.write().unwrap_or_else(PoisonError::into_inner)[number] = None;
    report("client", ended);
}

async fn service(floor: Arc<Floor>, stream: TcpStream) {
    report("push", pushes(&floor, stream).await);
}

async fn open(floor: Arc<Floor>, mut stream: TcpStream) -> anyhow::Result<(usize, OwnedReadHalf, Arc<OwnedWriteHalf>)> {
    let mut input = take_buffer();
    let head = loop {
        if let Some(head) = parse_head(&input)? {
            break head;
        }
        anyhow::ensure!(stream.read_buf(&mut input).await? > 0, "closed during the handshake");
    };
    let key = head.websocket_key.context("not a WebSocket handshake")?;
    let mut answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Accept: "
        .to_vec();
    answer.extend_from_slice(&hash_key(&input[key]));
    answer.extend_from_slice(b"\r\n\r\n");
    give_buffer(input);
    stream.write_all(&answer).await?;

    let (reader, writer) = stream.into_split();
    let writer = Arc::new(writer);
    let number = {
        let mut connections = floor.connections.write().unwrap_or_else(PoisonError::into_inner);
        connections.push(Some(writer.clone()));
        connections.len() - 1
    };
    post(&floor, number, format!("{{\"connectionId\":\"{number}\"}}").as_bytes()).await?;
    Ok((number, reader, writer))
}

async fn events(
    floor: &Floor,
    number: usize,
    mut reader: OwnedReadHalf,
    writer: &OwnedWriteHalf,
) -> anyhow::Result<()> {
    let mut codec = ws::Codec::new().max_size(FRAME_BYTES_MAX);
    // Holds a buffer only while there is something in it: an idle connection costs none.
    let mut input = BytesMut::new();
    loop {
        if input.is_empty() {
            give_buffer(std::mem::take(&mut input));
            reader.readable().await?;
            input = take_buffer();
        }
        if reader.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        while let Some(frame) = codec.decode(&mut input)? {
            match frame {
                // Boxed: inlined, every idle connection would carry the room that a POST under way needs.
                ws::Frame::Text(body) => Box::pin(event(floor, number, &body)).await?,
                ws::Frame::Ping(body) => {
                    let mut output = take_buffer();
                    codec.encode(ws::Message::Pong(body), &mut output)?;
                    writer.try_write(&output)?;
                    give_buffer(output);
                }
                ws::Frame::Close(_) => return Ok(()),
                _ => {}
            }
        }
    }
}

async fn event(floor: &Floor, number: usize, body: &[u8]) -> anyhow::Result<()> {
    match &floor.kafka {
        Some(producer) => producer.send(number, body).await,
        None => post(floor, number, body).await,
    }
}

/// Sends one event to the backend and waits for its answer.
async fn post(floor: &Floor, number: usize, body: &[u8]) -> anyhow::Result<()> {
    let idle = IDLE_TO_BACKEND.with_borrow_mut(Vec::pop);
    let mut stream = match idle {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(floor.backend).await?;
            stream.set_nodelay(true)?;
            stream
        }
    };
    let mut buffer = take_buffer();
    buffer.put_slice(&floor.request_head);
    write_number(number as u64, &mut buffer);
    buffer.put_slice(b"\r\nContent-Length: ");
    write_number(body.len() as u64, &mut buffer);
    buffer.put_slice(b"\r\n\r\n");
    buffer.put_slice(body);
    stream.write_all(&buffer).await?;
    buffer.clear();
    let status = read_answer(&mut stream, &mut buffer).await?;
    anyhow::ensure!((200..300).contains(&status), "the backend answered {status}");
    give_buffer(buffer);
    IDLE_TO_BACKEND.with_borrow_mut(|idle| idle.push(stream));
    Ok(())
}

/// One service's keep-alive connection: `POST /push/{number}` or `POST /broadcast`, again and again.
async fn pushes(floor: &Floor, mut stream: TcpStream) -> anyhow::Result<()> {
    let mut codec = ws::Codec::new();
    let mut input = BytesMut::with_capacity(READ_BUFFER_BYTES);
    loop {
        while let Some(head) = parse_head(&input)?.filter(|head| input.len() >= head.message_bytes()) {
            let path = &input[head.second_word.clone()];
            let to_all = path == BROADCAST_PATH.as_bytes();
            let number = path.strip_prefix(PUSH_PREFIX.as_bytes()).and_then(read_number).map(|(number, _)| number);
            input.advance(head.bytes);
            let body = input.split_to(head.content_length).freeze();
            let taken = match number {
                _ if to_all => broadcast(floor, &mut codec, body)?,
                Some(number) => push(floor, &mut codec, number as usize, body)?,
                None => anyhow::bail!("neither /push/{{number}} nor /broadcast"),
            };
            let answer = match taken {
                true => &b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"[..],
                false => b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n",
            };
            stream.write_all(answer).await?;
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

/// `Ok(false)`: no such connection, or its socket is full (then the floor gives it up).
fn push(floor: &Floor, codec: &mut ws::Codec, number: usize, body: bytes::Bytes) -> anyhow::Result<bool> {
    let connection = {
        let connections = floor.connections.read().unwrap_or_else(PoisonError::into_inner);
        connections.get(number).cloned().flatten()
    };
    let Some(connection) = connection else { return Ok(false) };
    let mut output = take_buffer();
    codec.encode(ws::Message::Text(body.try_into().context("not UTF-8")?), &mut output)?;
    let whole = write_whole(&connection, &output);
    give_buffer(output);
    if !whole {
        give_up(floor, number, &connection);
    }
    Ok(whole)
}

/// To all of them, encoded once. `Ok(false)`: some socket was full.
fn broadcast(floor: &Floor, codec: &mut ws::Codec, body: bytes::Bytes) -> anyhow::Result<bool> {
    let mut output = take_buffer();
    codec.encode(ws::Message::Text(body.try_into().context("not UTF-8")?), &mut output)?;
    let mut full = Vec::new();
    {
        let connections = floor.connections.read().unwrap_or_else(PoisonError::into_inner);
        for (number, connection) in connections.iter().enumerate() {
            if let Some(connection) = connection.as_ref().filter(|connection| !write_whole(connection, &output)) {
                full.push((number, connection.clone()));
            }
        }
    }
    give_buffer(output);
    full.iter().for_each(|(number, connection)| give_up(floor, *number, connection));
    Ok(full.is_empty())
}

/// The kernel takes a small frame whole, so frames written by several workers don't mix.
fn write_whole(connection: &OwnedWriteHalf, output: &[u8]) -> bool {
    matches!(connection.try_write(output), Ok(written) if written == output.len())
}

/// Ends a connection whose frames can no longer be whole: its task reads the end, and the socket closes with it.
fn give_up(floor: &Floor, number: usize, connection: &OwnedWriteHalf) {
    floor.connections.write().unwrap_or_else(PoisonError::into_inner)[number] = None;
    let stream: &TcpStream = connection.as_ref();
    // SAFETY: the descriptor is open as long as `stream` is borrowed. A failure means that the peer is gone already.
    unsafe { libc::shutdown(stream.as_raw_fd(), libc::SHUT_RDWR) };
}

thread_local! {
    /// Keep-alive connections to the backend that no event occupies; each worker has its own.
    static IDLE_TO_BACKEND: RefCell<Vec<TcpStream>> = const { RefCell::new(Vec::new()) };
    /// Empty buffers, so that steady load allocates nothing.
    static BUFFERS: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

fn take_buffer() -> BytesMut {
    let mut buffer = BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default();
    buffer.reserve(READ_BUFFER_BYTES);
    buffer
}

fn give_buffer(mut buffer: BytesMut) {
    /// More than this is a burst's memory, not steady load's.
    const KEPT_MAX: usize = 256;
    if buffer.capacity() == 0 {
        return;
    }
    buffer.clear();
    BUFFERS.with_borrow_mut(|buffers| {
        if buffers.len() < KEPT_MAX {
            buffers.push(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_printed_line_is_what_the_parent_reads() {
        let line = serde_json::to_string(&Listening {
            client: "127.0.0.1:1".parse().unwrap(),
            push: "127.0.0.1:2".parse().unwrap(),
        })
        .unwrap();
        let read: Listening = serde_json::from_str(&line).unwrap();
        assert_eq!((read.client.port(), read.push.port()), (1, 2));
    }
}
