//! Makes a worker's backends and shares what they can share over endpoints and versions: HTTP clients (and so their
//! kept-alive connections) by service and connect timeout, Kafka producers by broker set and settings, and over all
//! workers each destination's places and budget. A new version keeps what did not change; what nobody uses any more ends.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::rc::{Rc, Weak};
use std::time::Duration;

use awc::Client;
use wsgateway_otlp::Tracer;

use super::batching::BatchingBackend;
use super::destination::Destinations;
use super::http::{client, HttpBackend};
use super::kafka::{KafkaBackend, KafkaProducers};
use super::{Backend, Begin, Event, Failure, RouteFacts};
use crate::egress::Egress;
use crate::model::endpoint::{BackendKind, CompiledBackend, HttpSpec};

/// The backends of one worker.
pub struct BackendPool {
    /// By `scheme://host:port` and connect timeout: the connections of a service end with the last backend that calls it.
    clients: Shared<(String, Duration), Client>,
    producers: KafkaProducers,
    destinations: Destinations,
    egress: Egress,
    tracer: Tracer,
}

/// What backends have together, for as long as one of them has it.
struct Shared<K, V>(RefCell<HashMap<K, Weak<V>>>);

impl<K: Eq + Hash, V> Shared<K, V> {
    fn get(&self, key: K, make: impl FnOnce() -> Rc<V>) -> Rc<V> {
        let mut known = self.0.borrow_mut();
        if let Some(shared) = known.get(&key).and_then(Weak::upgrade) {
            return shared;
        }
        let made = make();
        known.insert(key, Rc::downgrade(&made));
        made
    }

    fn sweep(&self) {
        self.0.borrow_mut().retain(|_, shared| shared.strong_count() > 0);
    }
}

impl BackendPool {
    /// `destinations` are the node's.
    pub fn new(producers: KafkaProducers, destinations: Destinations, egress: Egress, tracer: Tracer) -> BackendPool {
        BackendPool { clients: Shared(RefCell::default()), producers, destinations, egress, tracer }
    }

    /// `None` for echo, which is no backend of its own: the sender is answered where its event is.
    pub fn backend(&self, backend: &CompiledBackend, route: &RouteFacts) -> Option<Rc<dyn Backend>> {
        let made: Result<Rc<dyn Backend>, Failure> = match &backend.kind {
            BackendKind::Http(spec) => self.http(backend, spec, route).map(|made| match spec.batch {
                Some(policy) => Rc::new(BatchingBackend::new(made, policy, route)) as Rc<dyn Backend>,
                None => Rc::new(made) as _,
            }),
            BackendKind::Kafka(spec) => {
                KafkaBackend::new(&self.producers, spec, backend.index, route, self.tracer.clone())
                    .map(|made| Rc::new(made) as _)
            }
            BackendKind::Echo { .. } => return None,
        };
        Some(made.unwrap_or_else(|failure| {
            tracing::warn!(endpoint = %route.endpoint_id, route = %route.route, "backend cannot work: {failure}");
            Rc::new(Broken(failure))
        }))
    }

    fn http(&self, backend: &CompiledBackend, spec: &HttpSpec, route: &RouteFacts) -> Result<HttpBackend, Failure> {
        let key = (spec.destination.origin().to_owned(), spec.connect_timeout);
        let client = self.clients.get(key, || Rc::new(client(&self.egress, spec.connect_timeout)));
        HttpBackend::new(client, spec, route, self.destinations.of(backend, spec, route), self.tracer.clone())
    }

    /// Forgets what is used no more; Kafka producers end here.
    pub fn sweep(&self) {
        self.clients.sweep();
        self.producers.sweep();
    }
}

/// A backend that can never work as it is configured: its deliveries fail with the reason.
struct Broken(Failure);

impl Backend for Broken {
    fn one_at_a_time(&self) -> bool {
        false
    }

    fn begin(self: Rc<Self>, _: &Rc<Event>) -> Begin {
        let failure = self.0.clone();
        Begin::Started(Box::pin(async move { Err(failure.into()) }))
    }
}
