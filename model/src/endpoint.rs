//! A compiled endpoint: what the hot path reads. Made by `config::compile`, called by every room that serves
//! connections; imports its neighbours in model only. Immutable: a new version is a new value.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::ack::Ack;
use super::authentication::Authentication;
use super::coalesce::CoalesceBy;
use super::delivery_policy::{BatchPolicy, BreakerPolicy, RetryPolicy};
use super::event_schema::EventSchema;
use super::expression::CustomRoutes;
use super::filters::Filters;
pub use super::kafka::{KafkaAcks, KafkaCompression, KafkaKey, KafkaReply, KafkaSpec};
use super::ordering::OrderRule;
use super::projection::Projection;
use super::resume::ResumeRule;
use super::secret::Secret;
use super::signing::SigningKeys;
use super::source::SourceSpec;
use super::template::Template;
use super::throttling::Throttling;
use super::url_template::UrlTemplate;

/// One version of one endpoint, ready to serve.
#[derive(Debug)]
pub struct CompiledEndpoint {
    /// The endpoint's id in the replicated store.
    pub id: Arc<str>,
    /// The version that this was compiled from.
    pub version: u64,
    /// The operator's label.
    pub name: Option<String>,
    /// matchit path template.
    pub path: Arc<str>,
    /// Limits and behaviour of its connections.
    pub settings: EndpointSettings,
    /// Which events of a connection wait for each other.
    pub order: OrderRule,
    /// Who may connect.
    pub auth: Authentication,
    /// From where one may connect.
    pub filters: Filters,
    /// Whether connections outlive their sockets; None: they do not.
    pub resume: Option<ResumeRule>,
    /// How much may come.
    pub throttling: Option<Throttling>,
    /// Where events go.
    pub routes: CompiledRoutes,
    /// Where messages for clients come from.
    pub sources: Vec<Arc<SourceSpec>>,
    /// Over every message that a service sends to a client.
    pub outbound: Option<Template>,
    /// For events whose routes have none of their own.
    pub ack: Option<Arc<Ack>>,
    /// The endpoint as templates see it.
    pub described: Arc<Value>,
}

impl CompiledEndpoint {
    /// What of a client's event must be read: for routing, for order and Kafka keys, schemas and templates. None: nobody looks at
    /// events, checking that they are JSON is enough.
    pub fn looked_at(&self) -> Option<Projection> {
        let mut projection = Projection::default();
        if let OrderRule::Key { path, .. } = &self.order {
            projection.add(path);
        }
        self.routes.custom.add_looked_at(&mut projection);
        self.routes.all().for_each(|route| route.add_looked_at(&mut projection));
        if self.ack.as_ref().is_some_and(|ack| ack.sees_event()) {
            projection.add_whole();
        }
        // Custom routes may look at connections alone: they are asked all the same.
        (!projection.is_nothing() || !self.routes.custom.is_empty()).then_some(projection)
    }

    /// What custom routes are chosen by.
    pub fn routed_by(&self) -> Projection {
        let mut projection = Projection::default();
        self.routes.custom.add_looked_at(&mut projection);
        projection
    }

    /// The acknowledgement of an event that takes these routes: the first that has one of its own decides.
    pub fn ack_of<'r>(&self, mut routes: impl Iterator<Item = &'r CompiledRoute>) -> Option<Arc<Ack>> {
        routes.find_map(|route| route.ack.clone()).or_else(|| self.ack.clone())
    }
}

/// The validated `settings` of a document, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSettings {
    /// Events per connection accepted but not yet delivered; at the limit the socket is no longer read.
    pub max_in_flight: usize,
    /// Time between pings.
    pub heartbeat_interval: Duration,
    /// Pings without an answer until the connection is closed with 4408.
    pub heartbeat_max_missing: u32,
    /// Longest time without events either way.
    pub idle_timeout: Option<Duration>,
    /// Longest life of a connection.
    pub max_connection_duration: Option<Duration>,
    /// Largest message of a client; above it 1009.
    pub max_message_bytes: usize,
    /// What may wait for a client that reads slowly.
    pub outbox: OutboxSettings,
    /// Offered subprotocols; the first of the client's that is among them is echoed.
    pub subprotocols: Vec<String>,
    /// What a new version means for open connections.
    pub on_version_change: OnVersionChange,
}

/// Bounds of a connection's outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxSettings {
    /// Bytes of encoded frames.
    pub max_bytes: usize,
    /// Frames.
    pub max_messages: usize,
    /// The answer to a full outbox.
    pub when_full: WhenFull,
    /// Given with [`WhenFull::Coalesce`].
    pub coalesce_by: Option<CoalesceBy>,
}

/// What happens to a message for which the outbox has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Close the connection with 1013.
    Close,
    /// Make room by dropping the oldest messages.
    DropOldest,
    /// Drop the message.
    DropNewest,
    /// While messages wait, keep the newest of each key; what does not fit even so closes.
    Coalesce,
}

/// What a new version means for open connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnVersionChange {
    /// They use it from their next event on.
    Keep,
    /// They are closed with 1012.
    Close,
}

/// The routes of an endpoint, by what triggers them. A missing one forwards nothing.
#[derive(Debug, Default)]
pub struct CompiledRoutes {
    /// For accepted handshakes.
    pub connect: Option<Arc<CompiledRoute>>,
    /// For ended connections.
    pub disconnect: Option<Arc<CompiledRoute>>,
    /// For events that could not be taken or delivered.
    pub error: Option<Arc<CompiledRoute>>,
    /// For events that no custom route matched.
    pub default: Option<Arc<CompiledRoute>>,
    /// Which of `custom_routes` an event takes.
    pub custom: CustomRoutes,
    /// In document order; [`CustomRoutes::select`] answers with indexes into this.
    pub custom_routes: Vec<Arc<CompiledRoute>>,
}

impl CompiledRoutes {
    /// Every route.
    pub fn all(&self) -> impl Iterator<Item = &Arc<CompiledRoute>> {
        [&self.connect, &self.disconnect, &self.error, &self.default]
            .into_iter()
            .filter_map(Option::as_ref)
            .chain(&self.custom_routes)
    }
}

/// What triggers a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// An accepted handshake.
    Connect,
    /// An ended connection.
    Disconnect,
    /// An event that could not be taken or delivered.
    Error,
    /// An event that no custom route matched.
    Default,
    /// Its expression or key.
    Custom,
}

impl RouteKind {
    /// As the document's `type` writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            RouteKind::Connect => "connect",
            RouteKind::Disconnect => "disconnect",
            RouteKind::Error => "error",
            RouteKind::Default => "default",
            RouteKind::Custom => "custom",
        }
    }
}

/// One route.
#[derive(Debug)]
pub struct CompiledRoute {
    /// What triggers it.
    pub kind: RouteKind,
    /// Unique among the endpoint's routes of this kind.
    pub name: Arc<str>,
    /// Position in the document's `routes`.
    pub index: usize,
    /// What its events must look like. Only of clients' events.
    pub schema: Option<EventSchema>,
    /// What its backends get instead of the event.
    pub inbound: Option<Template>,
    /// Its own acknowledgement. Only of clients' events.
    pub ack: Option<Arc<Ack>>,
    /// Where its events go; each takes every event.
    pub backends: Vec<Arc<CompiledBackend>>,
    /// Where those go that a required backend has not taken for good.
    pub dead_letter: Option<Arc<CompiledBackend>>,
}

impl CompiledRoute {
    /// Adds what of a client's event the route reads. Bodies of the gateway's own making are read when they are made.
    fn add_looked_at(&self, projection: &mut Projection) {
        if !matches!(self.kind, RouteKind::Default | RouteKind::Custom) {
            return;
        }
        for backend in &self.backends {
            if let BackendKind::Kafka(KafkaSpec { key: KafkaKey::Path(path), .. }) = &backend.kind {
                projection.add(path);
            }
        }
        let transforms = self.inbound.as_ref().is_some_and(|template| template.uses("event"));
        let acknowledges = self.ack.as_ref().is_some_and(|ack| ack.sees_event());
        if self.schema.is_some() || transforms || acknowledges {
            projection.add_whole();
        }
    }

    /// True when a backend takes its record key from the event.
    pub fn takes_keys(&self) -> bool {
        self.backends
            .iter()
            .any(|backend| matches!(&backend.kind, BackendKind::Kafka(KafkaSpec { key: KafkaKey::Path(_), .. })))
    }

    /// True when its backends get the event as it came.
    pub fn is_plain(&self) -> bool {
        self.schema.is_none() && self.inbound.is_none()
    }

    /// True when a backend's answer goes back to the sender.
    pub fn replies(&self) -> bool {
        self.backends.iter().any(|backend| matches!(&backend.kind, BackendKind::Http(HttpSpec { reply: true, .. })))
    }
}

/// One backend of one route.
#[derive(Debug)]
pub struct CompiledBackend {
    /// Position in its route's `backends`.
    pub index: usize,
    /// What it is.
    pub kind: BackendKind,
    /// False: best effort; its failure neither delays nor fails the event.
    pub required: bool,
    /// `type/route/index`: a metric label, stable over versions that do not move it, unique in its endpoint.
    pub label: Arc<str>,
}

impl CompiledBackend {
    /// The Kafka record key that the event holds, where the backend takes it from there.
    pub fn record_key(&self, event: &Value) -> Option<String> {
        let BackendKind::Kafka(KafkaSpec { key: KafkaKey::Path(path), .. }) = &self.kind else { return None };
        path.first(event).map(|found| match found {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    }
}

/// The kinds of backends.
#[derive(Debug)]
pub enum BackendKind {
    /// An HTTP service.
    Http(HttpSpec),
    /// A Kafka topic.
    Kafka(KafkaSpec),
    /// The sender itself.
    Echo {
        /// Answer before the event is decoded.
        raw: bool,
    },
}

/// An HTTP backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpSpec {
    /// Request method.
    pub method: HttpMethod,
    /// `http` or `https` URL.
    pub destination: UrlTemplate,
    /// For the whole exchange of one attempt.
    pub timeout: Duration,
    /// For making the connection, within `timeout`.
    pub connect_timeout: Duration,
    /// Sent with every request; names in lower case. Any of them may be a credential.
    pub headers: Vec<(String, Secret)>,
    /// Requests under way on one node at once.
    pub max_in_flight: usize,
    /// A 2xx answer's JSON body goes back to the sender.
    pub reply: bool,
    /// How often an event is tried.
    pub retry: RetryPolicy,
    /// How its events are put together; None: each has a request of its own.
    pub batch: Option<BatchPolicy>,
    /// Sign its requests; None: nothing does.
    pub signing: Option<SigningKeys>,
    /// When it is left alone; None: never.
    pub breaker: Option<BreakerPolicy>,
}

/// Methods that may carry an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpMethod {
    /// POST
    Post,
    /// PUT
    Put,
    /// PATCH
    Patch,
}

impl HttpMethod {
    /// As in a request line.
    pub const fn as_str(self) -> &'static str {
        match self {
            HttpMethod::Post => "POST",
            HttpMethod::Put => "PUT",
            HttpMethod::Patch => "PATCH",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_shared_by_workers() {
        fn shared<T: Send + Sync>() {}
        shared::<CompiledEndpoint>();
    }
}
