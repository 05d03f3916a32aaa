//! Where events go: HTTP services and Kafka topics, behind one trait. Called by inbound; imports `model` only. One
//! instance per worker and backend, made by [`pool::BackendPool`], so that an event never changes threads.

pub mod event;
pub mod http;
pub mod kafka;
pub mod pool;

use std::rc::Rc;

use bytes::Bytes;
use futures::future::LocalBoxFuture;

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
    #[error("answered {status}")]
    Status { status: u16 },
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
            Failure::Status { .. } => "refused",
            Failure::Reply(_) => "bad_reply",
            Failure::Kafka(_) => "kafka_error",
            Failure::Misconfigured(_) => "misconfigured",
        }
    }
}

pub type Delivery = LocalBoxFuture<'static, Result<Delivered, Failure>>;

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
