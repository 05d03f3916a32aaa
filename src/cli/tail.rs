//! `wsgateway tail`: events and messages as they pass, on all nodes.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use futures::StreamExt;
use serde_json::Value;

use super::api::{encoded, text, Api, Connect, Output};
use super::block_on;

/// Before a stream that broke off is opened again.
const PAUSE: Duration = Duration::from_secs(1);
/// One event is smaller than this.
const LINE_BYTES_MAX: usize = 1024 * 1024;

#[derive(Args)]
#[command(
    after_help = "Of payloads, keys are shown, and those values that the endpoint's custom routes are chosen by.\n\nExamples:\n  wsgateway tail\n  wsgateway tail --endpoint /chat/{room} --direction in --outcome delivery_failed\n  wsgateway tail --match '$.order' --count 10 --output json"
)]
pub struct Tail {
    /// Only of the endpoint with this id or path
    #[arg(long)]
    endpoint: Option<String>,
    /// Only of this connection
    #[arg(long)]
    connection: Option<String>,
    /// Only of this user's connections
    #[arg(long)]
    user: Option<String>,
    /// Only events that this route took
    #[arg(long)]
    route: Option<String>,
    /// in: from clients; out: to clients
    #[arg(long, value_enum)]
    direction: Option<Direction>,
    /// Only with this outcome: delivered, queued, delivery_failed, no_route, …
    #[arg(long)]
    outcome: Option<String>,
    /// Only where this JSONPath finds something in what is shown of the payload
    #[arg(long = "match", value_name = "JSONPATH")]
    matches: Option<String>,
    /// The most events in a second; what is above is counted
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    /// End after so many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Clone, Copy, ValueEnum)]
enum Direction {
    In,
    Out,
}

/// What one line of the stream was.
enum Told {
    Nothing,
    Event,
    /// Nobody reads what is printed.
    Closed,
}

impl Tail {
    pub fn run(self) -> anyhow::Result<()> {
        block_on(async {
            let api = self.connect.api()?;
            let path = self.path();
            let mut left = self.count;
            // The first time, what is wrong is an error; later it is waited for.
            let mut first = true;
            loop {
                match self.follow(&api, &path, &mut left).await {
                    Ok(true) => return Ok(()),
                    Ok(false) => eprintln!("the stream has ended; looking for a node"),
                    Err(err) if first => return Err(err),
                    Err(err) => eprintln!("{err:#}"),
                }
                first = false;
                tokio::time::sleep(PAUSE).await;
            }
        })
    }

    fn path(&self) -> String {
        let direction = self.direction.map(|direction| match direction {
            Direction::In => "in".to_owned(),
            Direction::Out => "out".to_owned(),
        });
        let mut path = format!("/api/v1/live?topics=events&eventsPerSecond={}", self.limit);
        for (name, value) in [
            ("endpoint", &self.endpoint),
            ("connection", &self.connection),
            ("user", &self.user),
            ("route", &self.route),
            ("direction", &direction),
            ("outcome", &self.outcome),
            ("match", &self.matches),
        ] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", encoded(value)));
            }
        }
        path
    }

    /// Whether everything that was asked for has been told.
    async fn follow(&self, api: &Api, path: &str, left: &mut Option<u64>) -> anyhow::Result<bool> {
        let mut stream = api.stream(path).await?;
        let mut buffer = Vec::new();
        let mut name = String::new();
        while let Some(chunk) = stream.next().await {
            buffer.extend_from_slice(&chunk.context("the stream broke off")?);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&buffer[..end]).into_owned();
                buffer.drain(..=end);
                match self.line(&line, &mut name)? {
                    Told::Nothing => {}
                    Told::Closed => return Ok(true),
                    Told::Event => {
                        if let Some(left) = left {
                            *left = left.saturating_sub(1);
                            if *left == 0 {
                                return Ok(true);
                            }
                        }
                    }
                }
            }
            anyhow::ensure!(buffer.len() <= LINE_BYTES_MAX, "that is no stream of events");
        }
        Ok(false)
    }

    fn line(&self, line: &str, name: &mut String) -> anyhow::Result<Told> {
        if let Some(event) = line.strip_prefix("event: ") {
            event.clone_into(name);
        }
        let Some(data) = line.strip_prefix("data: ") else { return Ok(Told::Nothing) };
        let data: Value = serde_json::from_str(data).context("that is no stream of events")?;
        match name.as_str() {
            "event" => {
                let shown = match self.connect.output {
                    Output::Json => data.to_string(),
                    Output::Text => sentence(&data),
                };
                return match writeln!(std::io::stdout(), "{shown}") {
                    Err(err) if err.kind() == ErrorKind::BrokenPipe => Ok(Told::Closed),
                    written => Ok(written.map(|()| Told::Event)?),
                };
            }
            "skipped" => eprintln!("… {} more left out: above --limit", data["events"]),
            "unreachable" => {
                let nodes = data["nodes"].as_array().into_iter().flatten();
                let names: Vec<&str> = nodes.map(|node| text(node, "node")).collect();
                match names.is_empty() {
                    true => eprintln!("… all nodes are heard again"),
                    false => eprintln!("… not heard: {}", names.join(", ")),
                }
            }
            _ => {}
        }
        Ok(Told::Nothing)
    }
}

/// An event in a line for people.
fn sentence(event: &Value) -> String {
    let at = text(event, "at");
    // RFC 3339: the time of day is behind the T.
    let time = at.split_once('T').map_or(at, |(_, time)| time.trim_end_matches('Z'));
    let arrow = if event["direction"] == "out" { "<-" } else { "->" };
    let mut line = format!("{time} {} {arrow} {}", text(event, "node"), text(event, "path"));
    if event["kind"] != "message" {
        line.push_str(&format!(" {}", text(event, "kind")));
    }
    if let Some(route) = event["route"].as_str() {
        line.push_str(&format!(" [{route}]"));
    }
    line.push_str(&format!(" {}", text(event, "outcome")));
    if let Some(millis) = event["tookMillis"].as_u64() {
        line.push_str(&format!(" {millis} ms"));
    }
    if let Some(detail) = event["detail"].as_str() {
        line.push_str(&format!(" ({detail})"));
    }
    line.push_str(&format!(" {}", text(event, "connectionId")));
    if let Some(user) = event["user"].as_str() {
        line.push_str(&format!(" {user}"));
    }
    match &event["data"] {
        Value::Null if event["bytes"] != 0 => line.push_str(&format!(" {} bytes", event["bytes"])),
        Value::Null => {}
        data => line.push_str(&format!(" {data}")),
    }
    // What clients send may not move the terminal's cursor.
    line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_one_line() {
        let event = json!({"at": "2026-11-30T12:00:01.123Z", "node": "n2", "path": "/chat", "connectionId": "c1", "user": "ann\u{1b}[2J",
            "direction": "in", "kind": "message", "route": "orders", "outcome": "delivery_failed", "detail": "http/orders/0: 500",
            "tookMillis": 3, "bytes": 20, "data": {"type": "order"}});
        assert_eq!(
            sentence(&event),
            "12:00:01.123 n2 -> /chat [orders] delivery_failed 3 ms (http/orders/0: 500) c1 ann\u{fffd}[2J {\"type\":\"order\"}"
        );
    }
}
