//! Services that push: concurrent senders, each with one keep-alive connection and one push outstanding at a time.
//! The next one leaves when the last has been answered *and* received by its client. Runs on the services' loop.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::event::write_number;
use crate::http1::read_answer;
use crate::meter::{Board, Run};

/// Where pushes go: `POST {prefix}{connection id}`.
#[derive(Clone, Copy)]
pub struct PushDoor {
    pub address: SocketAddr,
    pub prefix: &'static str,
}

/// Starts `senders` senders, whose pushes go round all `connection_ids`. The slot is the sender's index. They end with
/// the run.
pub fn send(
    handle: &Handle,
    board: &Arc<Board>,
    run: &Arc<Run>,
    door: PushDoor,
    connection_ids: &Arc<Vec<String>>,
    senders: usize,
    event_bytes: usize,
) -> Vec<JoinHandle<()>> {
    let start = |slot| {
        let (board, run, connection_ids) = (board.clone(), run.clone(), connection_ids.clone());
        handle.spawn(async move {
            // Each sender starts elsewhere, so that they don't all push to the same connection at once.
            let first = slot * connection_ids.len() / senders;
            let order = connection_ids[first..].iter().chain(&connection_ids[..first]).cycle();
            if let Err(error) = sender(&board, &run, door, order, slot, event_bytes).await {
                board.complain(format!("push sender: {error:#}"));
            }
        })
    };
    (0..senders).map(start).collect()
}

async fn sender(
    board: &Board,
    run: &Run,
    door: PushDoor,
    mut connection_ids: impl Iterator<Item = &String>,
    slot: usize,
    event_bytes: usize,
) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(door.address).await?;
    stream.set_nodelay(true)?;
    let host = door.address.to_string();
    let (mut request, mut event, mut input) = (BytesMut::new(), BytesMut::new(), BytesMut::with_capacity(4096));
    while run.claim(slot).await.is_some() {
        let Some(connection_id) = connection_ids.next() else { return Ok(()) };
        event.clear();
        run.stamp(slot).write(event_bytes, &mut event);
        request.clear();
        request.put_slice(b"POST ");
        request.put_slice(door.prefix.as_bytes());
        request.put_slice(connection_id.as_bytes());
        request.put_slice(b" HTTP/1.1\r\nHost: ");
        request.put_slice(host.as_bytes());
        request.put_slice(b"\r\nContent-Type: application/json\r\nContent-Length: ");
        write_number(event.len() as u64, &mut request);
        request.put_slice(b"\r\n\r\n");
        request.put_slice(&event);
        stream.write_all(&request).await?;
        let status = read_answer(&mut stream, &mut input).await?;
        if !(200..300).contains(&status) {
            board.complain(format!("a push was answered {status}"));
            run.fail(slot);
        }
    }
    Ok(())
}
