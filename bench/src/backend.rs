//! The HTTP service behind the gateway: a keep-alive sink that answers everything with 204 and reports our own
//! events to the board. Runs on the services' event loop.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::event::Stamp;
use crate::event_loop::EventLoop;
use crate::http1::parse_head;
use crate::meter::Board;

const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
/// Connections that wait to be accepted: as many as the kernel has room for, so that a server that opens many at once is
/// measured and not this.
const WAITING_MAX: u32 = 4_096;
const READ_BUFFER_BYTES: usize = 8 * 1024;

/// Starts the sink on a free loopback port; it runs as long as its event loop.
pub async fn start(event_loop: &EventLoop, board: &Arc<Board>) -> anyhow::Result<SocketAddr> {
    let board = board.clone();
    event_loop
        .run(async move {
            let socket = TcpSocket::new_v4()?;
            socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
            let listener = socket.listen(WAITING_MAX)?;
            let address = listener.local_addr()?;
            tokio::spawn(async move {
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => drop(tokio::spawn(connection(stream, board.clone()))),
                        Err(error) => {
                            board.complain(format!("backend: accept: {error}"));
                            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                        }
                    }
                }
            });
            Ok(address)
        })
        .await
}

async fn connection(stream: TcpStream, board: Arc<Board>) {
    if let Err(error) = serve(stream, &board).await {
        // A server that is killed at the end of its leg resets its connections; anything else is news.
        let reset = error.downcast_ref::<std::io::Error>().is_some();
        if !reset {
            board.complain(format!("backend: {error:#}"));
        }
    }
}

async fn serve(mut stream: TcpStream, board: &Board) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BytesMut::with_capacity(READ_BUFFER_BYTES);
    let mut answers = Vec::new();
    loop {
        while let Some(taken) = take_request(&input, board)? {
            input.advance(taken);
            answers.extend_from_slice(ANSWER);
        }
        if !answers.is_empty() {
            stream.write_all(&answers).await?;
            answers.clear();
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

/// Reports the request at the start of `input` when all of it is there, and gives its length.
fn take_request(input: &[u8], board: &Board) -> anyhow::Result<Option<usize>> {
    let Some(head) = parse_head(input)? else { return Ok(None) };
    let Some(body) = input.get(head.bytes..head.message_bytes()) else { return Ok(None) };
    // Without a stamp it is a connect event or the like: answered, and no more.
    if let Some(stamp) = Stamp::read(body) {
        board.requested();
        board.received(stamp, head.connection_id.map(|at| &input[at]));
    } else if body.starts_with(b"[") {
        board.requested();
        take_batch(body, board);
    }
    Ok(Some(head.bytes + body.len()))
}

/// Reports each event of a list of CloudEvents.
fn take_batch(body: &[u8], board: &Board) {
    const DATA: &[u8] = b"\"data\":";
    for at in memchr::memmem::find_iter(body, DATA) {
        if let Some(stamp) = Stamp::read(&body[at + DATA.len()..]) {
            board.received(stamp, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_taken_whole_or_not_at_all() {
        let board = Board::default();
        board.expect_connections(1);
        let body = r#"{"run":0,"slot":0,"ts":5}"#;
        let request = format!(
            "POST /events HTTP/1.1\r\ncontent-length: {}\r\nce-connectionid: abc\r\n\r\n{body}POST",
            body.len()
        );
        let whole = request.len() - 4;
        for length in 0..whole {
            assert_eq!(take_request(&request.as_bytes()[..length], &board).unwrap(), None);
        }
        assert_eq!(board.connection_ids(), None);
        assert_eq!(take_request(request.as_bytes(), &board).unwrap(), Some(whole));
        assert_eq!(board.connection_ids(), Some(vec!["abc".to_owned()]));
        assert_eq!(board.requests(), 1);
    }

    #[tokio::test]
    async fn all_events_of_a_batch_are_reported() {
        let board = Board::default();
        let run = board.start(1, 2, 2);
        assert_eq!(run.claim(0).await, Some(2));
        let event = |id: u8| {
            let mut data = BytesMut::new();
            run.stamp(0).write(64, &mut data);
            format!(r#"{{"id":"{id}","source":"/endpoints/e","data":{}}}"#, String::from_utf8_lossy(&data))
        };
        let body = format!("[{},{}]", event(1), event(2));
        let request = format!("POST /events HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        assert_eq!(take_request(request.as_bytes(), &board).unwrap(), Some(request.len()));
        let outcome = board.finish(&run, 0, std::time::Duration::from_secs(1)).await;
        assert_eq!((outcome.completed, outcome.missing, board.requests()), (2, 0, 1));
    }
}
