//! Tells those that watch what is sent to a client (`telemetry::tail`). Used by outlet, which has asked first whether anybody
//! watches.

use super::offered::Offered;
use super::outlet::Outlet;
use crate::model::delivery::PushOutcome;
use crate::telemetry::tail::{Direction, Passing};

impl Outlet {
    pub(super) fn tell(&self, message: &Offered<'_>, outcome: &PushOutcome) {
        self.counters.tail.offer(&Passing {
            endpoint: &self.endpoint.current(),
            connection: &self.facts.id_text,
            user: self.facts.user.as_deref(),
            direction: Direction::Out,
            kind: "message",
            route: None,
            outcome: outcome.as_str(),
            detail: None,
            event_id: None,
            sequence: None,
            payload: Some(message.payload()),
            took_millis: None,
        });
    }
}
