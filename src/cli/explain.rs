//! `wsgateway explain`: what would happen to one event, from a file without a cluster or by a running one.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use awc::http::Method;
use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{json, Value};

use super::api::{encoded, findings, sentence, text, Connect, Output};
use super::files::{self, EndpointFile};
use super::{block_on, Failed};
use crate::config::compile::compile;
use crate::config::validate::{validate, NodeFacts};
use crate::explain::{explain, ConnectionInput, Place};
use crate::model::endpoint::CompiledEndpoint;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  wsgateway explain -f shop.yaml --event '{\"action\": \"buy\"}'\n  wsgateway explain /shop --event '{\"action\": \"buy\"}' --connection '{\"user\": \"ann\"}'\n  wsgateway explain /shop -f changed.yaml --event-file event.json --output json"
)]
pub struct Explain {
    /// Id or path of a running endpoint; without one the file is explained offline
    #[arg(required_unless_present = "file")]
    endpoint: Option<String>,
    /// Endpoint file: explained offline, or with an endpoint as the candidate that would replace it
    #[arg(short, long, conflicts_with = "version")]
    file: Option<PathBuf>,
    /// A stored version; default: the active one
    #[arg(long)]
    version: Option<u64>,
    /// The event as a client sends it
    #[arg(short, long, required_unless_present = "event_file")]
    event: Option<String>,
    /// File with the event; - is standard input
    #[arg(long, conflicts_with = "event")]
    event_file: Option<PathBuf>,
    /// Who sends it: {path, params, query, headers, user, claims, sourceIp}, all optional
    #[arg(short, long)]
    connection: Option<String>,
    #[command(flatten)]
    connect: Connect,
}

impl Explain {
    pub fn run(self) -> anyhow::Result<()> {
        let event = match (&self.event, &self.event_file) {
            (Some(event), _) => event.clone(),
            (None, Some(file)) => files::read_text(file)?,
            (None, None) => String::new(),
        };
        let connection: Value = match &self.connection {
            Some(connection) => serde_json::from_str(connection)
                .map_err(|err| Failed::usage(format!("--connection is no JSON: {err}")))?,
            None => json!({}),
        };
        let file = self.file.as_deref().map(files::read).transpose()?;
        let file = file.transpose().map_err(|line| anyhow::anyhow!("{line}"))?;
        let explained = match (&self.endpoint, file) {
            (None, Some(file)) => offline(&file, &event, connection)?,
            (endpoint, file) => {
                block_on(self.online(endpoint.as_deref().unwrap_or_default(), file, &event, connection))?
            }
        };
        match self.connect.output {
            Output::Json => println!("{explained}"),
            Output::Text => print!("{}", shown(&explained)?),
        }
        Ok(())
    }

    async fn online(
        &self,
        endpoint: &str,
        file: Option<EndpointFile>,
        event: &str,
        connection: Value,
    ) -> anyhow::Result<String> {
        let api = self.connect.api()?;
        let found = api.find(endpoint).await?;
        // Put together as text: the event keeps its bytes.
        let event = match serde_json::from_str::<&RawValue>(event) {
            Ok(event) => format!("\"event\": {event}"),
            Err(_) => format!("\"text\": {}", Value::from(event)),
        };
        let version = self.version.map(|version| format!(", \"version\": {version}")).unwrap_or_default();
        let document = file.as_ref().map(|file| format!(", \"document\": {}", file.source.json)).unwrap_or_default();
        let body = format!("{{{event}, \"connection\": {connection}{version}{document}}}");
        let target = format!("/api/v1/endpoints/{}/explain", encoded(text(&found, "id")));
        let answer = api.call(Method::POST, &target, Some(body)).await?;
        match (answer.status, file) {
            (200, _) => Ok(answer.text),
            (400, Some(file)) => {
                let lines: Vec<_> = findings(&answer).iter().map(|finding| file.located(finding)).collect();
                anyhow::bail!("{}\n{}", sentence(&answer), lines.join("\n"))
            }
            _ => anyhow::bail!("{}", sentence(&answer)),
        }
    }
}

/// Compiles a file's document, or says line by line what is wrong with it.
pub fn compiled(file: &EndpointFile, facts: &NodeFacts) -> Result<CompiledEndpoint, Vec<String>> {
    let compiled = validate(&file.source.json, facts).and_then(|sound| compile("ep-of-file", 0, &sound.document));
    compiled.map_err(|findings| findings.iter().map(|finding| file.located(finding)).collect())
}

/// The node that a file is explained for.
pub fn here() -> Place<'static> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Place { node: "local", unix_millis: since.as_millis() as u64 }
}

fn offline(file: &EndpointFile, event: &str, connection: Value) -> anyhow::Result<String> {
    let endpoint =
        compiled(file, &NodeFacts::default()).map_err(|lines| anyhow::anyhow!("not valid\n{}", lines.join("\n")))?;
    let connection: ConnectionInput =
        serde_json::from_value(connection).map_err(|err| Failed::usage(format!("--connection: {err}")))?;
    let explained = explain(&endpoint, event.as_bytes(), &connection, &here()).map_err(|findings| {
        let lines: Vec<_> = findings.iter().map(|finding| format!("{}: {}", finding.path, finding.message)).collect();
        anyhow::anyhow!("{}", lines.join("\n"))
    })?;
    serde_json::to_string(&explained).context("the explanation")
}

/// What keeps its bytes: a tree would write 1.50 as 1.5.
#[derive(Deserialize)]
struct Verbatim<'a> {
    #[serde(borrow)]
    taken: Vec<VerbatimBody<'a>>,
    #[serde(borrow)]
    client: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct VerbatimBody<'a> {
    #[serde(borrow)]
    body: &'a RawValue,
}

/// For people.
fn shown(text_of_it: &str) -> anyhow::Result<String> {
    let explained: &Value = &serde_json::from_str(text_of_it).context("the explanation")?;
    let verbatim: Verbatim<'_> = serde_json::from_str(text_of_it).context("the explanation")?;
    let mut lines = Vec::new();
    let endpoint = &explained["endpoint"];
    let version = match endpoint["version"].as_u64() {
        Some(0) | None => "not stored".to_owned(),
        Some(version) => format!("version {version}"),
    };
    lines.push(format!("endpoint  {} ({version})", text(endpoint, "path")));
    for limit in explained["limits"].as_array().into_iter().flatten() {
        lines.push(format!(
            "limit     {} of {}: {} a second, {} at once; scope {}, above it {}",
            text(limit, "at"),
            text(limit, "of"),
            limit["rate"],
            limit["burst"],
            text(limit, "scope"),
            text(limit, "onExceeded"),
        ));
    }
    if let Some(selector) = explained.get("selector") {
        lines.push(format!("selector  {} is {}", text(selector, "path"), or_missing(&selector["value"])));
    }
    let ordering = &explained["ordering"];
    match text(ordering, "rule") {
        "connection" => {}
        "key" => lines.push(format!(
            "ordering  by key {}, {} keys at once",
            or_missing(&ordering["key"]),
            ordering["atOnce"]
        )),
        rule => lines.push(format!("ordering  {rule}, {} at once", ordering["atOnce"])),
    }
    for route in explained["customRoutes"].as_array().into_iter().flatten() {
        route_lines(route, &mut lines);
    }
    let outcome = text(explained, "outcome");
    match explained.get("error") {
        Some(error) if error.get("at").is_some() => {
            let (code, at, message) = (text(error, "code"), text(error, "at"), text(error, "message"));
            lines.push(format!("outcome   {outcome}: {code} by {at}: {message}"));
        }
        Some(error) => lines.push(format!("outcome   {outcome}: {}: {}", text(error, "code"), text(error, "message"))),
        None => lines.push(format!("outcome   {outcome}")),
    }
    for (taken, body) in explained["taken"].as_array().into_iter().flatten().zip(verbatim.taken) {
        lines.push(format!("takes     {} {:?} ({})", text(taken, "at"), text(taken, "name"), text(taken, "type")));
        if taken.get("schema").is_some() {
            lines.push("  schema  holds".to_owned());
        }
        let made = if taken["transformed"] == true { " (transformed)" } else { "" };
        lines.push(format!("  body    {}{made}", body.body));
        for request in taken["requests"].as_array().into_iter().flatten() {
            request_lines(request, &mut lines);
        }
        if let Some(letter) = taken.get("deadLetter") {
            lines.push("  when it failed for good:".to_owned());
            request_lines(letter, &mut lines);
        }
    }
    if let Some(ack) = explained.get("ack").filter(|ack| ack["when"] == "delivered") {
        lines.push(format!("ack       when delivered: {}", ack["frame"]));
    }
    if let Some(failed) = explained.pointer("/ack/templateFailed") {
        lines.push(format!("ack       its template failed: {failed}"));
    }
    for frame in verbatim.client {
        lines.push(format!("client    {frame}"));
    }
    Ok(lines.join("\n") + "\n")
}

fn or_missing(value: &Value) -> String {
    if value.is_null() {
        "missing".to_owned()
    } else {
        value.to_string()
    }
}

fn route_lines(route: &Value, lines: &mut Vec<String>) {
    let matched = match route["matched"].as_bool() {
        Some(true) if route["continue"] == true => "yes, goes on",
        Some(true) => "yes",
        Some(false) => "no",
        None => "not looked at",
    };
    let key = route["key"].as_str().map(|key| format!(", key {key:?}")).unwrap_or_default();
    lines.push(format!("route     {} {:?}{key}: {matched}", text(route, "at"), text(route, "name")));
    if let Some(step) = route.get("expression") {
        let prefix = format!("{}.expression", text(route, "at"));
        step_lines(step, &prefix, &route["decidedBy"], lines);
    }
}

/// Comparisons only: their places say how they are combined. A star marks those that decided.
fn step_lines(step: &Value, prefix: &str, deciders: &Value, lines: &mut Vec<String>) {
    if let Some(comparison) = step.get("comparison") {
        let seen: Vec<_> = comparison["seen"].as_array().into_iter().flatten().map(Value::to_string).collect();
        let seen = if seen.is_empty() { "missing".to_owned() } else { seen.join(", ") };
        let decided = deciders.as_array().is_some_and(|deciders| deciders.contains(&step["at"]));
        let at = text(step, "at").strip_prefix(prefix).unwrap_or_default().trim_start_matches('.');
        let source = if comparison["source"] == "connection" { " of the connection" } else { "" };
        lines.push(format!(
            "        {} {at} {}: {}{source} is {seen}, {} {}",
            if decided { "*" } else { " " },
            if step["held"] == true { "true" } else { "false" },
            text(comparison, "path"),
            text(comparison, "operator"),
            comparison["value"],
        ));
    }
    for part in step["parts"].as_array().into_iter().flatten() {
        step_lines(part, prefix, deciders, lines);
    }
}

fn request_lines(request: &Value, lines: &mut Vec<String>) {
    let effort = if request["required"] == true { "" } else { " (best effort)" };
    lines.push(match text(request, "type") {
        "http" => format!("  {} {}{effort}", text(request, "method"), text(request, "url")),
        "kafka" => format!("  kafka {} with key {}{effort}", text(request, "topic"), request["key"]),
        "echo" => "  echo to the client".to_owned(),
        _ => format!("  cannot be sent: {}", text(request, "reason")),
    });
    if let Some(retry) = request.get("retry").filter(|retry| retry["attempts"] != 1) {
        let after = if retry["after"] == "passing" { "what passes" } else { "lost connections only" };
        lines.push(format!(
            "    up to {} attempts after {after}, pauses of {} to {} ms",
            retry["attempts"], retry["backoffInMillis"], retry["maxBackoffInMillis"]
        ));
    }
    if request["signed"] == true {
        lines.push("    signed (Standard Webhooks)".to_owned());
    }
    if let Some(batch) = request.get("batch") {
        let (events, bytes, millis) = (&batch["maxEvents"], &batch["maxBytes"], &batch["maxDelayMillis"]);
        lines.push(format!("    in a batch of up to {events} events or {bytes} bytes, filled for {millis} ms"));
    }
    if let Some(breaker) = request.get("circuitBreaker") {
        let (failures, millis) = (&breaker["failures"], &breaker["openInMillis"]);
        lines.push(format!("    left alone for {millis} ms after {failures} failures in a row"));
    }
    for header in request["headers"].as_array().into_iter().flatten() {
        lines.push(format!("    {}: {}", text_at(header, 0), text_at(header, 1)));
    }
}

fn text_at(header: &Value, index: usize) -> &str {
    header[index].as_str().unwrap_or_default()
}
