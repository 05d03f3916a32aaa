//! Makes a worker's backends and shares what they can share: HTTP clients (and so their kept-alive connections) by
//! connect timeout, Kafka producers by broker set and settings, and over all workers each destination's places and budget. A new endpoint version therefore keeps its connections.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use awc::Client;

use super::destination::Destinations;
use super::http::{client, HttpBackend};
use super::kafka::{KafkaBackend, KafkaProducers};
use super::{Backend, Begin, Event, Failure, RouteFacts};
use crate::model::endpoint::{BackendKind, CompiledBackend};

/// The backends of one worker.
pub struct BackendPool {
    clients: RefCell<HashMap<Duration, Client>>,
    producers: KafkaProducers,
    destinations: Destinations,
}

impl BackendPool {
    /// `destinations` are the node's.
    pub fn new(producers: KafkaProducers, destinations: Destinations) -> BackendPool {
        BackendPool { clients: RefCell::default(), producers, destinations }
    }

    /// `None` for echo, which is no backend of its own: the sender is answered where its event is.
    pub fn backend(&self, backend: &CompiledBackend, route: &RouteFacts) -> Option<Rc<dyn Backend>> {
        let made: Result<Rc<dyn Backend>, Failure> = match &backend.kind {
            BackendKind::Http(spec) => {
                let client = self
                    .clients
                    .borrow_mut()
                    .entry(spec.connect_timeout)
                    .or_insert_with_key(|after| client(*after))
                    .clone();
                let destination = self.destinations.of(backend, spec, route);
                HttpBackend::new(client, spec, route, destination).map(|made| Rc::new(made) as _)
            }
            BackendKind::Kafka(spec) => {
                KafkaBackend::new(&self.producers, spec, backend.index, route).map(|made| Rc::new(made) as _)
            }
            BackendKind::Echo { .. } => return None,
        };
        Some(made.unwrap_or_else(|failure| {
            tracing::warn!(endpoint = %route.endpoint_id, route = %route.route, "backend cannot work: {failure}");
            Rc::new(Broken(failure))
        }))
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
