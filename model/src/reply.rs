//! The gateway's own frames to a client: errors and acks, in the shapes of docs/http-api.md.

use serde::Serialize;

/// What is wrong with an event, as clients and the error route see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    InvalidJson,
    SchemaViolation,
    NoRoute,
    Throttled,
    TransformFailed,
    DeliveryFailed,
    RefreshRefused,
}

impl ErrorCode {
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::InvalidJson => "invalid_json",
            ErrorCode::SchemaViolation => "schema_violation",
            ErrorCode::NoRoute => "no_route",
            ErrorCode::Throttled => "throttled",
            ErrorCode::TransformFailed => "transform_failed",
            ErrorCode::DeliveryFailed => "delivery_failed",
            ErrorCode::RefreshRefused => "refresh_refused",
        }
    }
}

/// What a client hears about an event that no route takes.
pub const NO_ROUTE: &str = "no route takes this event";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorFrame<'a> {
    r#type: &'static str,
    error: ErrorDetail<'a>,
    connection_id: &'a str,
    event_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_event_id: Option<&'a serde_json::value::RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorDetail<'a> {
    code: ErrorCode,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_millis: Option<u64>,
}

/// The field `id` of a client's event object, echoed in frames about it.
#[derive(serde::Deserialize)]
struct ClientEvent<'a> {
    #[serde(borrow, default)]
    id: Option<&'a serde_json::value::RawValue>,
}

/// Only objects have an id; whatever else was sent (also what is no JSON at all) has none to echo.
fn client_event_id(event: &[u8]) -> Option<&serde_json::value::RawValue> {
    // A list would be read as an object whose members come in order.
    if !event.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    serde_json::from_slice::<ClientEvent>(event).ok().and_then(|event| event.id)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AckFrame<'a> {
    r#type: &'static str,
    event_id: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_event_id: Option<&'a serde_json::value::RawValue>,
}

/// `{"type": "ack", "eventId", "status", "clientEventId"}`.
pub fn ack_frame(status: &'static str, event_id: &str, event: &[u8]) -> Vec<u8> {
    let frame = AckFrame { r#type: "ack", event_id, status, client_event_id: client_event_id(event) };
    serde_json::to_vec(&frame).unwrap_or_else(|_| br#"{"type":"ack"}"#.to_vec())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RefreshedFrame<'a> {
    r#type: &'static str,
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_event_id: Option<&'a serde_json::value::RawValue>,
}

/// `{"type": "refreshed", "expiresAt", "clientEventId"}`: the token of the frame `asked` is the connection's now.
pub fn refreshed_frame(until_unix_millis: Option<u64>, asked: &[u8]) -> Vec<u8> {
    let expires_at = until_unix_millis.map(crate::timestamp::rfc3339);
    let frame = RefreshedFrame { r#type: "refreshed", expires_at, client_event_id: client_event_id(asked) };
    serde_json::to_vec(&frame).unwrap_or_else(|_| br#"{"type":"refreshed"}"#.to_vec())
}

/// `{"type": "error", "error": {code, message}, "connectionId", "eventId", "clientEventId"}`.
pub fn error_frame(code: ErrorCode, message: &str, connection_id: &str, event_id: &str, event: &[u8]) -> Vec<u8> {
    frame(ErrorDetail { code, message, retry_after_millis: None }, connection_id, event_id, event)
}

/// The same of a message that was too much; its `error` has `retryAfterMillis` as well.
pub fn throttled_frame(
    message: &str,
    retry_after_millis: u64,
    connection_id: &str,
    event_id: &str,
    event: &[u8],
) -> Vec<u8> {
    let detail = ErrorDetail { code: ErrorCode::Throttled, message, retry_after_millis: Some(retry_after_millis) };
    frame(detail, connection_id, event_id, event)
}

fn frame(error: ErrorDetail<'_>, connection_id: &str, event_id: &str, event: &[u8]) -> Vec<u8> {
    let client_event_id = client_event_id(event);
    let frame = ErrorFrame { r#type: "error", error, connection_id, event_id, client_event_id };
    serde_json::to_vec(&frame).unwrap_or_else(|_| br#"{"type":"error"}"#.to_vec())
}

/// Where an event has failed, and how often it was tried there.
#[derive(Clone, Copy, Debug, Default)]
pub struct FailedAt<'a> {
    pub route: Option<&'a str>,
    pub backend: Option<&'a str>,
    pub tried: Option<Tried>,
}

/// What a backend has made of an event.
#[derive(Clone, Copy, Debug)]
pub struct Tried {
    pub attempts: u32,
    /// The HTTP status of the last answer; None: there was none.
    pub status: Option<u16>,
    /// As the metrics call it.
    pub reason: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorEvent<'a, E: Serialize> {
    code: ErrorCode,
    message: &'a str,
    route: Option<&'a str>,
    backend: Option<&'a str>,
    event: E,
    event_id: &'a str,
    connection_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    /// null: tried, and not answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Option<u16>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// The body for the error route's backends: `{code, message, route, backend, event, eventId, connectionId}`, and of
/// failed deliveries `attempts`, `status`, `reason`. The client's event keeps its own bytes when it is JSON, else it is a
/// string of its text.
pub fn error_event(
    code: ErrorCode,
    message: &str,
    at: FailedAt<'_>,
    event: &[u8],
    event_id: &str,
    connection_id: &str,
) -> Vec<u8> {
    fn body<E: Serialize>(of: &ErrorEvent<'_, E>) -> Vec<u8> {
        serde_json::to_vec(of).unwrap_or_else(|_| b"{}".to_vec())
    }
    let FailedAt { route, backend, tried } = at;
    let (attempts, status) = (tried.map(|tried| tried.attempts), tried.map(|tried| tried.status));
    let reason = tried.map(|tried| tried.reason);
    macro_rules! with {
        ($event:expr) => {
            body(&ErrorEvent {
                code,
                message,
                route,
                backend,
                event: $event,
                event_id,
                connection_id,
                attempts,
                status,
                reason,
            })
        };
    }
    match serde_json::from_slice::<&serde_json::value::RawValue>(event) {
        Ok(event) => with!(event),
        Err(_) => with!(String::from_utf8_lossy(event)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_frame_echoes_the_clients_id() {
        let frame = error_frame(ErrorCode::NoRoute, "no", "c", "e", br#"{"id": 7, "a": 1}"#);
        let expected = r#"{"type":"error","error":{"code":"no_route","message":"no"},"connectionId":"c","eventId":"e","clientEventId":7}"#;
        assert_eq!(String::from_utf8(frame).unwrap(), expected);
        let frame = throttled_frame("no", 40, "c", "e", b"1");
        let expected = r#"{"code":"throttled","message":"no","retryAfterMillis":40}"#;
        assert!(String::from_utf8(frame).unwrap().contains(expected));
        let frame = error_frame(ErrorCode::InvalidJson, "no", "c", "e", b"[1");
        assert!(!String::from_utf8(frame).unwrap().contains("clientEventId"));
    }

    #[test]
    fn an_ack_frame_has_the_shape_of_the_contract() {
        let frame = String::from_utf8(ack_frame("received", "e", br#"{"id": "x"}"#)).unwrap();
        assert_eq!(frame, r#"{"type":"ack","eventId":"e","status":"received","clientEventId":"x"}"#);
        let frame = String::from_utf8(ack_frame("delivered", "e", b"[1]")).unwrap();
        assert_eq!(frame, r#"{"type":"ack","eventId":"e","status":"delivered"}"#);
    }

    #[test]
    fn an_error_event_keeps_the_events_bytes() {
        let tried = Some(Tried { attempts: 3, status: None, reason: "timeout" });
        let at = FailedAt { route: Some("Default"), backend: None, tried };
        let body = error_event(ErrorCode::DeliveryFailed, "m", at, b"{\"n\":1.00e2}", "e", "c");
        let body = String::from_utf8(body).unwrap();
        assert!(body.contains(r#""event":{"n":1.00e2}"#));
        assert!(body.ends_with(r#""connectionId":"c","attempts":3,"status":null,"reason":"timeout"}"#), "{body}");
        let body = error_event(ErrorCode::InvalidJson, "m", FailedAt::default(), b"{\"n\"", "e", "c");
        let body = String::from_utf8(body).unwrap();
        assert!(body.contains(r#""event":"{\"n\"""#) && body.ends_with(r#""connectionId":"c"}"#), "{body}");
    }
}
