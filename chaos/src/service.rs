//! The service behind the gateway: takes every event, records it, and knows which connections there are – what a user's
//! service would know. Imports history, http (parsing), cluster (names).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use rand::Rng;
use serde_json::{json, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::cluster;
use crate::history::{Event, EventKind, History, Op};
use crate::http::{head_end, header};

/// An event with its head fits easily.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// Generous: a node that was stopped for seconds, or a busy machine, is no failure of the service.
const TIMEOUT_MILLIS: u64 = 20_000;
const CONNECT_TIMEOUT_MILLIS: u64 = 10_000;

/// A connection that the service believes to be open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub connection: String,
    pub owner: usize,
}

/// The service's knowledge: client → connection.
#[derive(Default)]
pub struct Directory {
    known: Mutex<BTreeMap<String, Known>>,
}

impl Directory {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn pick(&self, rng: &mut impl Rng) -> Option<(String, Known)> {
        let known = self.lock();
        let at = rng.random_range(0..known.len().max(1));
        known.iter().nth(at).map(|(client, known)| (client.clone(), known.clone()))
    }

    /// The connections of one node.
    pub fn owned_by(&self, node: usize) -> Vec<(String, Known)> {
        let known = self.lock();
        known.iter().filter(|(_, known)| known.owner == node).map(|(c, known)| (c.clone(), known.clone())).collect()
    }

    pub fn forget(&self, client: &str) {
        self.lock().remove(client);
    }

    fn learn(&self, client: String, known: Known) {
        self.lock().insert(client, known);
    }
}

/// The running service; ended when dropped.
pub struct Service {
    pub address: SocketAddr,
    pub directory: Arc<Directory>,
    serving: JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Service {
    /// Starts it at an address that the nodes reach.
    pub async fn start(at: IpAddr, history: Arc<History>) -> anyhow::Result<Service> {
        let listener = TcpListener::bind((at, 0)).await.context("the service's listener")?;
        let address = listener.local_addr()?;
        let directory = Arc::new(Directory::default());
        let known = directory.clone();
        let serving = tokio::spawn(async move {
            // Ends with the service: the set aborts what is in it.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                while connections.try_join_next().is_some() {}
                match listener.accept().await {
                    Ok((stream, _)) => drop(connections.spawn(serve(stream, history.clone(), known.clone()))),
                    Err(err) => history.note(format!("the service could not accept: {err}")),
                }
            }
        });
        Ok(Service { address, directory, serving })
    }

    /// An endpoint whose events of all kinds come here.
    pub fn endpoint(&self, path: &str) -> Value {
        let backend = json!({
            "type": "http", "destination": format!("http://{}/", self.address),
            "timeoutInMillis": TIMEOUT_MILLIS, "connectTimeoutInMillis": CONNECT_TIMEOUT_MILLIS,
        });
        let route = |kind: &str| json!({"type": kind, "name": kind, "backends": [backend]});
        json!({"path": path, "name": "talk", "routes": [route("connect"), route("disconnect"), route("default")]})
    }
}

async fn serve(mut stream: TcpStream, history: Arc<History>, directory: Arc<Directory>) {
    let mut bytes = Vec::with_capacity(4096);
    loop {
        while let Some(end) = head_end(&bytes) {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length: usize = header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            if bytes.len() < end + 4 + length {
                break;
            }
            let body: Vec<u8> = bytes.drain(..end + 4 + length).skip(end + 4).collect();
            take(&head, &body, &history, &directory);
            if stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.is_err() {
                return;
            }
        }
        // Ended, broken or absurd: the gateway makes another connection.
        if bytes.len() > REQUEST_BYTES_MAX || !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
            return;
        }
    }
}

fn take(head: &str, body: &[u8], history: &History, directory: &Directory) {
    let text = |name: &str| header(head, name).unwrap_or_default().to_owned();
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let kind = match text("ce-type").rsplit('.').next() {
        Some("connect") => EventKind::Connect,
        Some("message") => EventKind::Message,
        Some("disconnect") => EventKind::Disconnect,
        _ => EventKind::Other,
    };
    let client = match kind {
        EventKind::Message => &body["client"],
        _ => &body["query"]["client"],
    };
    let event = Event {
        kind,
        connection: text("ce-connectionid"),
        client: client.as_str().unwrap_or_default().to_owned(),
        event_id: text("ce-id"),
        sequence: text("ce-sequence").parse().unwrap_or(0),
        n: body["id"].as_u64().filter(|_| kind == EventKind::Message),
        events_in: body["eventsIn"].as_u64().filter(|_| kind == EventKind::Disconnect),
    };
    match (kind, cluster::index(&text("ce-node"))) {
        // Not at the connect event: until that is answered there is no connection to push to.
        (EventKind::Message, Some(owner)) => {
            directory.learn(event.client.clone(), Known { connection: event.connection.clone(), owner });
        }
        (EventKind::Disconnect, _) => directory.forget(&event.client),
        _ => {}
    }
    history.event(Op::Event(event));
}
