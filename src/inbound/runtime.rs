//! What a worker needs to serve an endpoint's version: its backends and counters, looked up once per version and then
//! at hand for every event. One [`InboundWorker`] per worker thread; nothing here is shared between threads.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;

use super::credential::Held;
use super::dead_letter::DeadLetters;
use super::resume;
use super::throttle::Throttled;
use crate::authentication::Authenticator;
use crate::backends::{Backend, BackendPool, RouteFacts};
use crate::config::registry::Registry;
use crate::connections::{OutletCounters, Worker};
use crate::listener::ClientListener;
use crate::model::endpoint::{BackendKind, CompiledBackend, CompiledEndpoint, CompiledRoute, RouteKind};
use crate::model::event::{EventId, EventIdGenerator, EventKind};
use crate::model::expression::RouteScratch;
use crate::model::live_endpoint::LiveEndpoint;
use crate::model::projection::Projection;
use crate::settings::ClientSettings;
use crate::telemetry::latency::Latency;
use crate::telemetry::metrics::{BackendLabels, CutLabels, DropLabels, EndpointLabels, EventLabels, Metrics};
use crate::telemetry::traces::Traces;
use crate::wills::Wills;

/// How often a worker looks for what nobody uses any more.
const SWEEP_INTERVAL: Duration = Duration::from_secs(2);

/// An endpoint without connections keeps its backends for so long, and so their own connections: about as long as those
/// are kept idle.
const UNUSED_MAX: Duration = Duration::from_secs(60);

/// The inbound side of one worker thread.
pub struct InboundWorker {
    pub worker: Rc<Worker>,
    pub registry: Arc<Registry>,
    pub metrics: Metrics,
    pub settings: Arc<ClientSettings>,
    pub listener: Arc<ClientListener>,
    pub authenticator: Arc<Authenticator>,
    pub other_nodes: Arc<dyn resume::OtherNodes>,
    pub wills: Arc<Wills>,
    pub traces: Traces,
    pool: BackendPool,
    ids: RefCell<EventIdGenerator>,
    /// Memory of route selection.
    pub scratch: RefCell<RouteScratch>,
    runtimes: RefCell<HashMap<Arc<str>, Rc<EndpointRuntime>>>,
    /// What clients have shown that are coming back this moment, by the keys of their connections.
    pub(super) returned: RefCell<HashMap<u128, Held>>,
}

impl InboundWorker {
    pub fn new(
        worker: Rc<Worker>,
        registry: Arc<Registry>,
        metrics: Metrics,
        (settings, listener): (Arc<ClientSettings>, Arc<ClientListener>),
        authenticator: Arc<Authenticator>,
        (other_nodes, wills): (Arc<dyn resume::OtherNodes>, Arc<Wills>),
        (pool, traces): (BackendPool, Traces),
    ) -> Rc<InboundWorker> {
        let made = Rc::new(InboundWorker {
            worker,
            registry,
            metrics,
            settings,
            listener,
            authenticator,
            other_nodes,
            wills,
            traces,
            pool,
            ids: RefCell::default(),
            scratch: RefCell::default(),
            runtimes: RefCell::default(),
            returned: RefCell::default(),
        });
        resume::set_worker(&made);
        actix_rt::spawn(sweep(Rc::downgrade(&made)));
        made
    }

    /// Lets go of versions that are not served any more, of endpoints that no connection of this worker uses, and of
    /// what their backends alone have used. What is under way keeps its own.
    fn sweep(&self) {
        let current = |runtime: &EndpointRuntime| {
            let live = self.registry.by_id(&runtime.endpoint.id);
            live.is_some_and(|live| Arc::ptr_eq(&live.current(), &runtime.endpoint))
        };
        self.runtimes.borrow_mut().retain(|_, runtime| current(runtime) && !runtime.is_unused_for(UNUSED_MAX));
        self.pool.sweep();
    }

    /// Counts a socket on which no handshake was answered.
    pub fn count_unwelcome(&self, reason: &'static str) {
        self.metrics.sockets_refused.get_or_create(&CutLabels { reason }).inc();
    }

    pub fn next_event_id(&self, unix_millis: u64) -> EventId {
        self.ids.borrow_mut().next_id(unix_millis)
    }

    /// The runtime of the endpoint's active version.
    pub fn runtime(&self, endpoint: &LiveEndpoint) -> Rc<EndpointRuntime> {
        let current = endpoint.current();
        let mut runtimes = self.runtimes.borrow_mut();
        if let Some(known) = runtimes.get(&current.id) {
            if Arc::ptr_eq(&known.endpoint, &current) {
                return known.clone();
            }
        }
        let made = Rc::new(EndpointRuntime::new(Arc::clone(&current), self));
        runtimes.insert(made.endpoint.id.clone(), made.clone());
        made
    }
}

async fn sweep(worker: Weak<InboundWorker>) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        ticks.tick().await;
        let Some(worker) = worker.upgrade() else { return };
        worker.sweep();
    }
}

/// One endpoint version on one worker.
pub struct EndpointRuntime {
    pub endpoint: Arc<CompiledEndpoint>,
    pub connect: Option<Rc<RouteRuntime>>,
    pub disconnect: Option<Rc<RouteRuntime>>,
    pub error: Option<Rc<RouteRuntime>>,
    pub default: Option<Rc<RouteRuntime>>,
    pub custom: Vec<Rc<RouteRuntime>>,
    /// What of events is read.
    pub looked_at: Option<Projection>,
    pub outlets: Arc<OutletCounters>,
    pub throttled: Throttled,
    metrics: Metrics,
    /// When the last sweep first found it without users.
    unused_since: Cell<Option<Instant>>,
}

impl EndpointRuntime {
    /// For the sweep, which holds one reference itself: connections hold a runtime weakly, what is under way strongly.
    fn is_unused_for(self: &Rc<Self>, time: Duration) -> bool {
        if Rc::strong_count(self) > 1 || Rc::weak_count(self) > 0 {
            self.unused_since.set(None);
            return false;
        }
        let since = self.unused_since.get().unwrap_or_else(Instant::now);
        self.unused_since.set(Some(since));
        since.elapsed() >= time
    }

    fn new(endpoint: Arc<CompiledEndpoint>, worker: &InboundWorker) -> EndpointRuntime {
        let make = |route: &Arc<CompiledRoute>| Rc::new(RouteRuntime::new(&endpoint, route, worker));
        let routes = &endpoint.routes;
        EndpointRuntime {
            connect: routes.connect.as_ref().map(make),
            disconnect: routes.disconnect.as_ref().map(make),
            error: routes.error.as_ref().map(make),
            default: routes.default.as_ref().map(make),
            custom: routes.custom_routes.iter().map(make).collect(),
            looked_at: endpoint.looked_at(),
            outlets: Arc::new(outlet_counters(&endpoint.path, &worker.metrics)),
            throttled: Throttled::new(&endpoint, &worker.metrics),
            metrics: worker.metrics.clone(),
            unused_since: Cell::new(None),
            endpoint,
        }
    }

    /// Counts an event that no route took, or this one refused.
    pub fn count_rejected(&self, route: Option<&CompiledRoute>, outcome: &'static str) {
        let route = route.map(|route| (route.kind.as_str(), &*route.name));
        self.metrics.events_in.get_or_create(&EventLabels::new(&self.endpoint.path, route, outcome)).inc();
    }
}

fn outlet_counters(path: &str, metrics: &Metrics) -> OutletCounters {
    let dropped =
        |reason| metrics.outbox_dropped.get_or_create(&DropLabels { endpoint: path.to_owned(), reason }).clone();
    OutletCounters {
        sent: metrics.events_out.get_or_create(&EndpointLabels { endpoint: path.to_owned() }),
        oldest_dropped: dropped("oldest"),
        coalesced: dropped("coalesced"),
        newest_dropped: dropped("newest"),
        tail: metrics.tail.clone(),
    }
}

/// One route of a version on one worker.
pub struct RouteRuntime {
    pub route: Arc<CompiledRoute>,
    pub kind: EventKind,
    pub backends: Vec<BackendRuntime>,
    pub dead_letters: Option<DeadLetters>,
    pub delivered: Counter,
    pub failed: Counter,
    pub endpoint_path: Arc<str>,
    /// Of the spans of its events.
    pub span_name: Arc<str>,
}

impl RouteRuntime {
    fn new(endpoint: &CompiledEndpoint, route: &Arc<CompiledRoute>, worker: &InboundWorker) -> RouteRuntime {
        let kind = match route.kind {
            RouteKind::Connect => EventKind::Connect,
            RouteKind::Disconnect => EventKind::Disconnect,
            RouteKind::Error => EventKind::Error,
            RouteKind::Default | RouteKind::Custom => EventKind::Message,
        };
        let facts = RouteFacts {
            kind,
            endpoint_id: endpoint.id.to_string(),
            endpoint_path: endpoint.path.to_string(),
            route: route.name.to_string(),
            node: worker.worker.hub.node_name.clone(),
        };
        let counter = |outcome| {
            let labels = EventLabels::new(&endpoint.path, Some((route.kind.as_str(), &route.name)), outcome);
            worker.metrics.events_in.get_or_create(&labels)
        };
        RouteRuntime {
            kind,
            dead_letters: route
                .dead_letter
                .as_ref()
                .and_then(|spec| DeadLetters::new(spec, &facts, &worker.pool, &worker.metrics)),
            backends: route.backends.iter().map(|backend| BackendRuntime::new(backend, &facts, worker)).collect(),
            delivered: counter("delivered"),
            failed: counter("failed"),
            endpoint_path: endpoint.path.to_string().into(),
            span_name: format!("event {}", route.name).into(),
            route: route.clone(),
        }
    }
}

/// One backend of a route on one worker. Its address is its identity: a connection keeps one lane per backend.
pub struct BackendRuntime {
    pub spec: Arc<CompiledBackend>,
    /// `None`: echo.
    pub backend: Option<Rc<dyn Backend>>,
    endpoint: String,
    metrics: Metrics,
    delivered: Latency,
}

impl BackendRuntime {
    fn new(spec: &Arc<CompiledBackend>, route: &RouteFacts, worker: &InboundWorker) -> BackendRuntime {
        let labels =
            |outcome| BackendLabels { endpoint: route.endpoint_path.clone(), backend: spec.label.to_string(), outcome };
        BackendRuntime {
            spec: spec.clone(),
            backend: worker.pool.backend(spec, route),
            delivered: worker.metrics.backend_seconds.get_or_create(&labels("delivered")),
            endpoint: route.endpoint_path.clone(),
            metrics: worker.metrics.clone(),
        }
    }

    pub fn is_raw_echo(&self) -> bool {
        matches!(self.spec.kind, BackendKind::Echo { raw: true })
    }

    pub fn observe(&self, outcome: &'static str, took: Duration) {
        if outcome == "delivered" {
            self.delivered.observe(took);
            return;
        }
        let labels = BackendLabels { endpoint: self.endpoint.clone(), backend: self.spec.label.to_string(), outcome };
        self.metrics.backend_seconds.get_or_create(&labels).observe(took);
    }
}
