//! Tells those that watch what becomes of a connection's events (`telemetry::tail`). Called where an event's fate is known;
//! whoever calls has asked first whether anybody watches.

use super::dispatch::FailedDelivery;
use crate::backends::Event;
use crate::connections::connection::{unix_millis, Facts};
use crate::model::delivery::{CloseCause, Initiator};
use crate::model::endpoint::CompiledEndpoint;
use crate::model::event::EventKind;
use crate::model::redaction::hidden;
use crate::model::reply::ErrorCode;
use crate::telemetry::tail::{Direction, Passing, Tail};

/// Whose events they are, and who is told.
pub struct Teller<'a> {
    pub tail: &'a Tail,
    pub facts: &'a Facts,
    pub endpoint: &'a CompiledEndpoint,
}

/// Says something if anybody watches.
pub fn if_watched(tail: &Tail, facts: &Facts, endpoint: &CompiledEndpoint, say: impl FnOnce(&Teller<'_>)) {
    if tail.is_watched() {
        say(&Teller { tail, facts, endpoint });
    }
}

impl Teller<'_> {
    fn passing(&self, kind: &'static str, outcome: &'static str) -> Passing<'_> {
        Passing {
            endpoint: self.endpoint,
            connection: &self.facts.id_text,
            user: self.facts.user.as_deref(),
            direction: Direction::In,
            kind,
            route: None,
            outcome,
            detail: None,
            event_id: None,
            sequence: None,
            payload: None,
            took_millis: None,
        }
    }

    /// A connection is there.
    pub fn opened(&self) {
        self.tail.offer(&self.passing("connect", "opened"));
    }

    /// It has ended.
    pub fn closed(&self, cause: &CloseCause) {
        let by = match cause.initiator {
            Initiator::Client => "client",
            Initiator::Gateway => "gateway",
            Initiator::Service => "service",
        };
        // The gateway's own words are known; what others say may be anything. 1006 never travels: that is ours as well.
        let reason = match cause.initiator {
            Initiator::Client | Initiator::Service if cause.code != 1006 => hidden(&cause.reason),
            _ => cause.reason.clone(),
        };
        let blank = if reason.is_empty() { "" } else { " " };
        let detail = Some(format!("{}{blank}{reason} (by the {by})", cause.code));
        self.tail.offer(&Passing { detail, ..self.passing("disconnect", "closed") });
    }

    /// The backends of one of its routes have taken an event, or have not. `payload` is what came, not what was made of it.
    pub fn settled(
        &self,
        route: &str,
        event: &Event,
        came_unix_millis: u64,
        payload: &[u8],
        failed: Option<&FailedDelivery>,
    ) {
        let kind = if event.kind == EventKind::Error { "error" } else { "message" };
        let outcome = failed.map_or("delivered", |_| ErrorCode::DeliveryFailed.as_str());
        self.tail.offer(&Passing {
            route: Some(route),
            detail: failed.map(|failed| format!("{}: {}", failed.backend, failed.undelivered)),
            event_id: Some(event.id.as_str()),
            sequence: Some(event.sequence),
            payload: Some(payload),
            took_millis: Some(unix_millis().saturating_sub(came_unix_millis)),
            ..self.passing(kind, outcome)
        });
    }

    /// No route has taken an event.
    pub fn refused(
        &self,
        (code, message): (ErrorCode, &str),
        route: Option<&str>,
        event_id: Option<&str>,
        payload: &[u8],
    ) {
        self.tail.offer(&Passing {
            route,
            detail: Some(message.to_owned()),
            event_id,
            payload: Some(payload),
            ..self.passing("message", code.as_str())
        });
    }

    /// It was answered before anything looked at it.
    pub fn echoed(&self, route: &str, payload: &[u8]) {
        self.tail.offer(&Passing {
            route: Some(route),
            payload: Some(payload),
            ..self.passing("message", "delivered")
        });
    }
}
