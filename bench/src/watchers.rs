//! Operators who look at a gateway while it is under load: what the page of the admin UI with its live tail asks for, without
//! the browser, whose work is not the gateway's.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::http1;

/// As the page does it.
const TRAFFIC_INTERVAL: Duration = Duration::from_secs(2);
/// For the watches to begin on the node.
const BEGUN_WITHIN: Duration = Duration::from_secs(1);

/// Watch until this is dropped.
pub struct Watchers(Vec<JoinHandle<()>>);

impl Watchers {
    /// So many of them at this admin listener.
    pub async fn start(admin: SocketAddr, count: usize) -> Watchers {
        let mut tasks = Vec::new();
        for _ in 0..count {
            tasks.push(tokio::spawn(stream(admin, "/api/v1/live?topics=samples,cluster")));
            tasks.push(tokio::spawn(stream(admin, "/api/v1/live?topics=events&eventsPerSecond=100")));
            tasks.push(tokio::spawn(polling(admin)));
        }
        if count > 0 {
            tokio::time::sleep(BEGUN_WITHIN).await;
        }
        Watchers(tasks)
    }

    /// Whether all of them still watch.
    pub fn all_there(&self) -> bool {
        self.0.iter().all(|task| !task.is_finished())
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Reads, and throws away. Ends when the stream does.
async fn stream(admin: SocketAddr, path: &'static str) {
    let Ok(mut socket) = TcpStream::connect(admin).await else { return };
    let request = format!("GET {path} HTTP/1.1\r\nhost: {admin}\r\n\r\n");
    if socket.write_all(request.as_bytes()).await.is_err() {
        return;
    }
    let mut buffer = vec![0; 64 * 1024];
    while matches!(socket.read(&mut buffer).await, Ok(1..)) {}
}

async fn polling(admin: SocketAddr) {
    while matches!(http1::call(admin, "GET", "/api/v1/traffic", "").await, Ok((200, _))) {
        tokio::time::sleep(TRAFFIC_INTERVAL).await;
    }
}
