//! Services that push: concurrent senders, each with one keep-alive connection and one push outstanding at a time.
//! The next one leaves when the last has been answered *and* received by its client. Runs on the services' loop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::event::write_number;
use crate::http1::read_answer;
use crate::meter::{Board, Run};

/// One keep-alive connection of a service, with one request under way at a time.
pub struct Caller {
    stream: TcpStream,
    host: String,
    request: BytesMut,
    input: BytesMut,
}

impl Caller {
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (request, input) = (BytesMut::new(), BytesMut::with_capacity(4096));
        Ok(Self { stream, host: address.to_string(), request, input })
    }

    /// `POST {prefix}{name}`; answers the status.
    pub async fn post(&mut self, prefix: &str, name: &str, body: &[u8]) -> anyhow::Result<u16> {
        let request = &mut self.request;
        request.clear();
        request.put_slice(b"POST ");
        request.put_slice(prefix.as_bytes());
        request.put_slice(name.as_bytes());
        request.put_slice(b" HTTP/1.1\r\nHost: ");
        request.put_slice(self.host.as_bytes());
        request.put_slice(b"\r\nContent-Type: application/json\r\nContent-Length: ");
        write_number(body.len() as u64, request);
        request.put_slice(b"\r\n\r\n");
        request.put_slice(body);
        self.stream.write_all(request).await?;
        read_answer(&mut self.stream, &mut self.input).await
    }
}

/// Where pushes go: `POST {prefix}{connection id}`.
#[derive(Clone, Copy)]
pub struct PushDoor {
    pub address: SocketAddr,
    pub prefix: &'static str,
}

/// How many push, and what.
#[derive(Clone, Copy)]
pub struct Senders {
    pub count: usize,
    pub event_bytes: usize,
    /// Between an answer and the next push.
    pub pause: Option<Duration>,
}

/// Starts senders whose pushes go round all `connection_ids`. The slot is the sender's index. They end with the run.
pub fn send(
    handle: &Handle,
    board: &Arc<Board>,
    run: &Arc<Run>,
    door: PushDoor,
    connection_ids: &Arc<Vec<String>>,
    senders: Senders,
) -> Vec<JoinHandle<()>> {
    let start = |slot| {
        let (board, run, connection_ids) = (board.clone(), run.clone(), connection_ids.clone());
        handle.spawn(async move {
            // Each sender starts elsewhere, so that they don't all push to the same connection at once.
            let first = slot * connection_ids.len() / senders.count;
            let order = connection_ids[first..].iter().chain(&connection_ids[..first]).cycle();
            if let Err(error) = sender(&board, &run, door, order, slot, senders).await {
                board.complain(format!("push sender: {error:#}"));
            }
        })
    };
    (0..senders.count).map(start).collect()
}

async fn sender(
    board: &Board,
    run: &Run,
    door: PushDoor,
    mut connection_ids: impl Iterator<Item = &String>,
    slot: usize,
    Senders { event_bytes, pause, .. }: Senders,
) -> anyhow::Result<()> {
    let mut caller = Caller::connect(door.address).await?;
    let mut event = BytesMut::new();
    while run.claim(slot).await.is_some() {
        let Some(connection_id) = connection_ids.next() else { return Ok(()) };
        event.clear();
        run.stamp(slot).write(event_bytes, &mut event);
        let status = caller.post(door.prefix, connection_id, &event).await?;
        if !(200..300).contains(&status) {
            board.complain(format!("a push was answered {status}"));
            run.fail(slot);
        }
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }
    Ok(())
}
