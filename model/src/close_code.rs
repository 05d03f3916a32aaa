//! Every WebSocket close code that the gateway sends, in one place: they are an API. Below 4400 a client should
//! reconnect with backoff; from 4400 on it must change something first (4408 excepted). May be used from everywhere.

/// A close code with the reason text that goes into the close frame (at most 123 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseCode {
    pub code: u16,
    pub reason: &'static str,
}

const fn close(code: u16, reason: &'static str) -> CloseCode {
    CloseCode { code, reason }
}

pub const NORMAL: CloseCode = close(1000, "");
pub const PROTOCOL_ERROR: CloseCode = close(1002, "protocol error");
pub const BINARY_NOT_ACCEPTED: CloseCode = close(1003, "binary messages are not accepted");
pub const NOT_UTF8: CloseCode = close(1007, "text is not UTF-8");
pub const POLICY: CloseCode = close(1008, "policy violation");
pub const THROTTLED: CloseCode = close(1008, "throttled");
pub const TOO_MANY_FRAGMENTS: CloseCode = close(1008, "too many fragments");
pub const TOO_MANY_CONTROL_FRAMES: CloseCode = close(1008, "too many control frames");
pub const MAX_DURATION: CloseCode = close(1008, "maximum connection duration reached");
pub const IDLE: CloseCode = close(1000, "idle timeout");
pub const TOO_BIG: CloseCode = close(1009, "message too big");
pub const INTERNAL: CloseCode = close(1011, "internal error");
pub const RESTARTING: CloseCode = close(1012, "node restarting, reconnect");
pub const NEW_VERSION: CloseCode = close(1012, "endpoint changed, reconnect");
pub const SLOW_CONSUMER: CloseCode = close(1013, "slow consumer");
pub const CREDENTIAL_EXPIRED: CloseCode = close(4401, "credential expired");
pub const CREDENTIAL_REVOKED: CloseCode = close(4401, "credential no longer accepted");
pub const REMOVED_BY_OPERATOR: CloseCode = close(4403, "removed by an operator");
pub const HEARTBEAT_MISSED: CloseCode = close(4408, "heartbeat missed");
pub const SUPERSEDED: CloseCode = close(4409, "resumed on another socket");
pub const ENDPOINT_DELETED: CloseCode = close(4410, "endpoint deleted");

/// The closes that are about what a client does or leaves undone, with their label in metrics.
const MISCONDUCT: &[(CloseCode, &str)] = &[
    (PROTOCOL_ERROR, "protocol_error"),
    (BINARY_NOT_ACCEPTED, "binary"),
    (NOT_UTF8, "not_utf8"),
    (THROTTLED, "throttled"),
    (TOO_MANY_FRAGMENTS, "too_many_fragments"),
    (TOO_MANY_CONTROL_FRAMES, "too_many_control_frames"),
    (TOO_BIG, "too_big"),
    (SLOW_CONSUMER, "slow_consumer"),
    (HEARTBEAT_MISSED, "heartbeat_missed"),
];

/// A metric's label when the gateway closes a connection for what its client does; `None` for other closes.
pub fn misconduct(code: u16, reason: &str) -> Option<&'static str> {
    let found = MISCONDUCT.iter().find(|(close, _)| close.code == code && close.reason == reason);
    found.map(|(_, label)| *label)
}
