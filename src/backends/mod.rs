//! Where events go: HTTP services and Kafka topics, behind one trait. Called by inbound; imports `model` and
//! `telemetry` and `egress`. One instance per worker and backend, made by [`pool::BackendPool`], so that an event never
//! changes threads; what workers share about a backend is its [`destination::Destination`].

mod batch;
mod batching;
mod breaker;
pub mod destination;
pub mod event;
pub mod http;
mod in_flight;
pub mod kafka;
pub mod letters;
pub mod pool;
mod retry;
mod retry_budget;
mod signing;
mod spans;

use std::rc::Rc;

use bytes::Bytes;
use futures::future::LocalBoxFuture;

pub use destination::Destinations;
pub use event::{Event, EventSource};
pub use pool::BackendPool;

/// The backend took the event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// HTTP status, for those that have one.
    pub status: Option<u16>,
    /// JSON that goes back to the sender.
    pub reply: Option<Bytes>,
}

/// The backend did not take the event. Says why and whose fault it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("no answer within {millis} ms")]
    Timeout { millis: u128 },
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The connection ended before an answer: the event may have been taken.
    #[error("the connection broke off: {0}")]
    BrokeOff(String),
    /// The node's egress rules.
    #[error("{0}")]
    EgressDenied(String),
    /// It is not who it should be, or speaks no TLS.
    #[error("TLS: {0}")]
    Tls(String),
    #[error("answered {status}")]
    Status { status: u16 },
    /// Nothing was sent: requests to this destination have failed.
    #[error("its circuit breaker is open, for another {millis} ms")]
    CircuitOpen { millis: u64 },
    /// Nothing was sent: `maxInFlight` requests were under way all the time.
    #[error("no place among the requests under way within {millis} ms")]
    NoPlace { millis: u128 },
    /// It took the event, but what it answered cannot be given to the sender.
    #[error("its reply {0}")]
    Reply(String),
    #[error("{0}")]
    Kafka(String),
    /// The endpoint or the node is configured so that this can never work.
    #[error("{0}")]
    Misconfigured(String),
}

impl Failure {
    /// A metric label.
    pub fn outcome(&self) -> &'static str {
        match self {
            Failure::Timeout { .. } => "timeout",
            Failure::Unreachable(_) => "unreachable",
            Failure::BrokeOff(_) => "broke_off",
            Failure::EgressDenied(_) => "egress_denied",
            Failure::Tls(_) => "tls_failed",
            Failure::Status { .. } => "refused",
            Failure::CircuitOpen { .. } => "circuit_open",
            Failure::NoPlace { .. } => "no_place",
            Failure::Reply(_) => "bad_reply",
            Failure::Kafka(_) => "kafka_error",
            Failure::Misconfigured(_) => "misconfigured",
        }
    }

    /// The HTTP status, when there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Failure::Status { status } => Some(*status),
            _ => None,
        }
    }

    /// Whether it was tried to send something.
    pub fn was_sent(&self) -> bool {
        !matches!(
            self,
            Failure::CircuitOpen { .. }
                | Failure::NoPlace { .. }
                | Failure::EgressDenied(_)
                | Failure::Misconfigured(_)
        )
    }

    /// Whether the destination has shown with it that it does not work. One that refuses an event works.
    pub fn is_of_the_destination(&self) -> bool {
        match self {
            Failure::Timeout { .. } | Failure::Unreachable(_) | Failure::BrokeOff(_) | Failure::Tls(_) => true,
            Failure::Status { status } => *status >= 500,
            _ => false,
        }
    }
}

/// What ended the attempts before the policy did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    #[error("the retry budget of this destination is used up")]
    Budget,
    #[error("the node leaves")]
    Leaving,
    /// The next attempt could not be made; the outcome that it would have been.
    #[error("the next attempt was not made: {0}")]
    NotSent(&'static str),
}

/// An event that a backend has not taken, when no further attempt is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// Of the last attempt.
    pub failure: Failure,
    /// How often it was tried to send it.
    pub attempts: u32,
    pub stopped: Option<Stopped>,
}

impl std::fmt::Display for Undelivered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.failure)?;
        if self.attempts > 1 {
            write!(f, ", after {} attempts", self.attempts)?;
        }
        match &self.stopped {
            Some(stopped) => write!(f, "; {stopped}"),
            None => Ok(()),
        }
    }
}

impl From<Failure> for Undelivered {
    /// Of a backend that tries once, or leaves it to its own library.
    fn from(failure: Failure) -> Undelivered {
        let attempts = u32::from(failure.was_sent());
        Undelivered { failure, attempts, stopped: None }
    }
}

pub type Delivery = LocalBoxFuture<'static, Result<Delivered, Undelivered>>;

/// Whether a backend has begun on an event.
pub enum Begin {
    /// Under way; the event's place in the order is taken.
    Started(Delivery),
    /// No room now: begin again with the same event a little later, and keep the ones behind it waiting.
    Busy,
}

/// One backend of one route, on one worker.
pub trait Backend {
    /// True when the next event of a connection must wait for this one's answer to keep their order.
    fn one_at_a_time(&self) -> bool;

    /// Begins to deliver; does not block.
    fn begin(self: Rc<Self>, event: &Rc<Event>) -> Begin;
}

/// The facts about a route that each of its events carries.
#[derive(Clone, Debug)]
pub struct RouteFacts {
    pub kind: crate::model::event::EventKind,
    pub endpoint_id: String,
    pub endpoint_path: String,
    pub route: String,
    pub node: String,
}
