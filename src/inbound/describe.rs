//! The connection description of docs/http-api.md: the body of connect events, and with the end added, of disconnect events.
//! Credentials are never among it.

use std::net::IpAddr;

use actix_http::header::HeaderMap;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::backends::event::rfc3339;
use crate::connections::Connection;
use crate::model::delivery::{CloseCause, Initiator};

/// Headers that carry credentials, or only the handshake itself.
const HIDDEN_HEADERS: [&str; 10] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
    "connection",
    "upgrade",
];

/// What a handshake says about a connection.
pub struct Described<'a> {
    pub connection_id: &'a str,
    pub endpoint: &'a str,
    pub path: &'a str,
    pub params: &'a [(String, String)],
    pub query: &'a [(String, String)],
    pub headers: &'a HeaderMap,
    /// Lower-case header name, or query parameter, that held the credential.
    pub secret_header: Option<&'a str>,
    pub secret_query: Option<&'a str>,
    pub source_ip: &'a str,
    pub user: Option<&'a str>,
    pub claims: Option<&'a Value>,
    pub connected_at_millis: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Description<'a> {
    connection_id: &'a str,
    endpoint: &'a str,
    path: &'a str,
    params: Map<String, Value>,
    query: Map<String, Value>,
    headers: Map<String, Value>,
    source_ip: &'a str,
    user: Option<&'a str>,
    claims: Option<&'a Value>,
    connected_at: String,
}

/// The description as JSON text. A name that comes several times has an array.
pub fn description(facts: &Described<'_>) -> String {
    let shown_headers = facts
        .headers
        .iter()
        .filter(|(name, _)| !HIDDEN_HEADERS.contains(&name.as_str()) && facts.secret_header != Some(name.as_str()));
    let headers =
        shown_headers.map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let query = facts.query.iter().filter(|(name, _)| facts.secret_query != Some(name.as_str()));
    let described = Description {
        connection_id: facts.connection_id,
        endpoint: facts.endpoint,
        path: facts.path,
        params: object(facts.params.iter().map(|(name, value)| (name.as_str(), value.clone()))),
        query: object(query.map(|(name, value)| (name.as_str(), value.clone()))),
        headers: object(headers),
        source_ip: facts.source_ip,
        user: facts.user,
        claims: facts.claims,
        connected_at: rfc3339(facts.connected_at_millis),
    };
    // Maps with text keys, texts and numbers: cannot fail.
    serde_json::to_string(&described).unwrap_or_else(|_| "{}".to_owned())
}

/// Headers of the handshake's own machinery: of no use to an authorizer.
const HANDSHAKE_HEADERS: [&str; 5] =
    ["sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions", "connection", "upgrade"];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Handshake<'a> {
    endpoint: &'a str,
    path: &'a str,
    params: Map<String, Value>,
    query: Map<String, Value>,
    headers: Map<String, Value>,
    source_ip: String,
}

/// What an authorizer is asked: the handshake with the credentials in it.
pub fn authorizer_question(
    endpoint: &str,
    path: &str,
    params: &[(String, String)],
    query: &[(String, String)],
    headers: &HeaderMap,
    source_ip: IpAddr,
) -> String {
    let shown = headers.iter().filter(|(name, _)| !HANDSHAKE_HEADERS.contains(&name.as_str()));
    let headers = shown.map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    let handshake = Handshake {
        endpoint,
        path,
        params: object(params.iter().map(|(name, value)| (name.as_str(), value.clone()))),
        query: object(query.iter().map(|(name, value)| (name.as_str(), value.clone()))),
        headers: object(headers),
        source_ip: source_ip.to_string(),
    };
    // Maps with text keys and texts: cannot fail.
    serde_json::to_string(&handshake).unwrap_or_else(|_| "{}".to_owned())
}

fn object<'a>(entries: impl Iterator<Item = (&'a str, String)>) -> Map<String, Value> {
    let mut object = Map::new();
    for (name, value) in entries {
        match object.get_mut(name) {
            None => drop(object.insert(name.to_owned(), Value::String(value))),
            Some(Value::Array(values)) => values.push(Value::String(value)),
            Some(first) => *first = Value::Array(vec![first.take(), Value::String(value)]),
        }
    }
    object
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct End<'a> {
    code: u16,
    reason: &'a str,
    initiator: Initiator,
    duration_millis: u64,
    /// None: its node has taken that with it.
    events_in: Option<u64>,
    events_out: Option<u64>,
}

/// The description with how the connection ended.
pub fn disconnect_body(connection: &Connection, cause: &CloseCause) -> Vec<u8> {
    let end = End {
        code: cause.code,
        reason: &cause.reason,
        initiator: cause.initiator,
        duration_millis: connection.age().as_millis() as u64,
        events_in: Some(connection.events_in()),
        events_out: Some(connection.outlet.events_out()),
    };
    with_end(&connection.facts.description, &end)
}

/// The description of a connection that was refused after its connect event had gone out.
pub fn refused_body(description: &str, duration_millis: u64) -> Vec<u8> {
    let (code, reason) = (crate::close_code::POLICY.code, "refused by the connect route");
    let initiator = Initiator::Service;
    with_end(description, &End { code, reason, initiator, duration_millis, events_in: Some(0), events_out: Some(0) })
}

/// The description of a connection whose node is dead.
pub fn bereaved_body(description: &str, duration_millis: u64) -> Vec<u8> {
    let (code, reason, initiator) = (1006, "the node of the connection is gone", Initiator::Gateway);
    with_end(description, &End { code, reason, initiator, duration_millis, events_in: None, events_out: None })
}

fn with_end(description: &str, end: &End<'_>) -> Vec<u8> {
    let end = serde_json::to_string(end).unwrap_or_else(|_| "{}".to_owned());
    // Both are non-empty objects: {…description…} and {…end…} become one.
    let mut body = Vec::with_capacity(description.len() + end.len());
    body.extend_from_slice(&description.as_bytes()[..description.len() - 1]);
    body.push(b',');
    body.extend_from_slice(&end.as_bytes()[1..]);
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_http::header::{HeaderName, HeaderValue};

    #[test]
    fn hides_credentials_and_keeps_the_rest() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("authorization", "secret-1"), ("cookie", "secret-2"), ("x-key", "secret-3"), ("x-a", "1"), ("x-a", "2")]
        {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let query = [("token".to_owned(), "secret-4".to_owned()), ("q".to_owned(), "v".to_owned())];
        let text = description(&Described {
            connection_id: "c",
            endpoint: "e",
            path: "/p",
            params: &[],
            query: &query,
            headers: &headers,
            secret_header: Some("x-key"),
            secret_query: Some("token"),
            source_ip: "127.0.0.1",
            user: None,
            claims: Some(&serde_json::json!({"role": "tester"})),
            connected_at_millis: 0,
        });
        assert!(!text.contains("secret"), "{text}");
        let tree: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(tree["headers"]["x-a"], serde_json::json!(["1", "2"]));
        assert_eq!(tree["query"], serde_json::json!({"q": "v"}));
        assert_eq!(tree["claims"]["role"], "tester");
        assert_eq!(tree["connectedAt"], "1970-01-01T00:00:00.000Z");
    }
}
