//! Handshakes that are not answered with 101: a problem document (RFC 9457), counted, and a socket that is closed so that
//! the client can read it.

use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::runtime::InboundWorker;
use crate::listener::{ClientSocket, Excess};
use crate::telemetry::metrics::RefusalLabels;

/// How long a refused client may take to read why.
const GOODBYE: Duration = Duration::from_secs(2);

/// The same for one of whom its address has too many: each holds a socket meanwhile.
const SHORT_GOODBYE: Duration = Duration::from_millis(200);

/// A handshake that is not answered with 101.
#[derive(Debug)]
pub struct Refusal {
    pub status: u16,
    pub title: &'static str,
    /// A metric label.
    pub reason: &'static str,
    pub detail: String,
    pub header: Option<(&'static str, String)>,
}

pub fn refuse(status: u16, title: &'static str, reason: &'static str, detail: impl Into<String>) -> Refusal {
    Refusal { status, title, reason, detail: detail.into(), header: None }
}

/// Its address has its share of sockets, or of new ones.
pub fn too_many_of_address(excess: Excess) -> Refusal {
    let detail = match excess {
        Excess::Connections => "this address has as many connections as one may have",
        Excess::Rate { .. } => "this address connects too often",
    };
    let header = Some(("Retry-After", excess.retry_after_seconds().to_string()));
    Refusal { header, ..refuse(429, "Too Many Requests", excess.as_str(), detail) }
}

/// Tells a client why it is refused.
pub async fn answer(inbound: &InboundWorker, io: &mut ClientSocket, client: IpAddr, refusal: Refusal) {
    answer_within(GOODBYE, inbound, io, client, refusal).await;
}

/// The same to one of too many, from which nothing was read.
pub async fn answer_one_of_many(inbound: &InboundWorker, io: &mut ClientSocket, client: IpAddr, excess: Excess) {
    answer_within(SHORT_GOODBYE, inbound, io, client, too_many_of_address(excess)).await;
}

async fn answer_within(
    time: Duration,
    inbound: &InboundWorker,
    io: &mut ClientSocket,
    client: IpAddr,
    refusal: Refusal,
) {
    let Refusal { status, title, reason, detail, header } = refusal;
    tracing::debug!(%client, status, "handshake refused: {detail}");
    let labels = RefusalLabels { status: u32::from(status), reason };
    inbound.metrics.handshakes_refused.get_or_create(&labels).inc();
    let body =
        serde_json::json!({"type": "about:blank", "title": title, "status": status, "code": reason, "detail": detail})
            .to_string();
    let mut answer = format!(
        "HTTP/1.1 {status} {title}\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\nConnection: close\r\n",
        body.len()
    );
    if status == 426 {
        answer.push_str("Upgrade: websocket\r\n");
    }
    if let Some((name, value)) = header {
        answer.push_str(&format!("{name}: {value}\r\n"));
    }
    answer.push_str("\r\n");
    answer.push_str(&body);
    let goodbye = async {
        io.write_all(answer.as_bytes()).await?;
        io.shutdown().await?;
        // Read what is left, a little: a reset would take the answer with it.
        let mut rest = [0; 4096];
        while io.read(&mut rest).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    let bounded = tokio::time::timeout(time, goodbye).await;
    if let Ok(Err(err)) = bounded {
        tracing::debug!(%client, "refusal not delivered: {err}");
    }
}
