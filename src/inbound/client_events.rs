//! What the gateway does with a connection's messages: decode, route, dispatch, reply. One per connection; the
//! disconnect event goes out when everything before it has been answered.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::Notify;

use super::decode::{decode, Decoded};
use super::describe::disconnect_body;
use super::dispatch::{FailedDelivery, Lanes};
use super::reply::{error_event, error_frame, throttled_frame, ErrorCode, NO_ROUTE};
use super::runtime::{EndpointRuntime, InboundWorker, RouteRuntime};
use super::throttle;
use crate::backends::{Event, EventSource};
use crate::close_code::{self, CloseCode};
use crate::connections::connection::unix_millis;
use crate::connections::{ClientEvents, Connection, Opcode};
use crate::model::delivery::CloseCause;
use crate::model::event::EventId;
use crate::model::expression::ConnectionFacts;
use crate::model::throttle::{ConnectionThrottle, Exceeded};
use crate::model::throttling::OnExceeded;
use crate::telemetry::metrics::CloseLabels;

/// How long a disconnect event waits for the answers to earlier events; then it overtakes them.
const DISCONNECT_WAIT_MAX: Duration = Duration::from_secs(30);

/// Called once, when nothing of an event is left to do.
type Done = Box<dyn FnOnce()>;

/// The handler of one connection.
pub struct ConnectionEvents {
    shared: Rc<Shared>,
}

struct Shared {
    worker: Rc<InboundWorker>,
    connection: Rc<Connection>,
    source: Rc<EventSource>,
    lanes: Lanes,
    runtime: RefCell<Rc<EndpointRuntime>>,
    /// Events dispatched and not yet settled.
    pending: Cell<u32>,
    settled: Notify,
    /// What this connection has used of the limits.
    throttle: ConnectionThrottle,
    /// The connection description as a tree, for expressions over it; made when the first one asks.
    description: OnceCell<Value>,
}

impl ConnectionEvents {
    pub fn new(worker: Rc<InboundWorker>, connection: Rc<Connection>, source: Rc<EventSource>) -> ConnectionEvents {
        worker.worker.hub.deliveries.fetch_add(1, Ordering::Relaxed);
        let runtime = RefCell::new(worker.runtime(&connection.endpoint));
        let shared = Shared {
            worker,
            connection,
            source,
            lanes: Lanes::default(),
            runtime,
            pending: Cell::new(0),
            settled: Notify::new(),
            throttle: ConnectionThrottle::default(),
            description: OnceCell::new(),
        };
        ConnectionEvents { shared: Rc::new(shared) }
    }
}

impl ClientEvents for ConnectionEvents {
    fn text(&mut self, data: Bytes) {
        let runtime = self.shared.runtime();
        if let Some(exceeded) = self.shared.exceeded(&runtime) {
            if let Some(close) = self.shared.throttled(&runtime, &exceeded, &data) {
                self.shared.connection.close(CloseCause::gateway(close));
            }
            return;
        }
        if self.shared.echo_raw(&runtime, Opcode::Text, &data) {
            return;
        }
        match decode(&data, runtime.needs_tree) {
            Ok(decoded) => self.shared.route(&runtime, data, &decoded),
            Err(fault) => {
                self.shared.reject(&runtime, ErrorCode::InvalidJson, &fault.to_string(), &data);
            }
        }
    }

    fn binary(&mut self, data: Bytes) -> Option<CloseCode> {
        let runtime = self.shared.runtime();
        if let Some(exceeded) = self.shared.exceeded(&runtime) {
            return self.shared.throttled(&runtime, &exceeded, &data);
        }
        (!self.shared.echo_raw(&runtime, Opcode::Binary, &data)).then_some(close_code::BINARY_NOT_ACCEPTED)
    }

    fn closed(&mut self, cause: CloseCause) {
        let shared = self.shared.clone();
        let endpoint = shared.connection.endpoint.current().path.to_string();
        let labels = CloseLabels { endpoint, code: u32::from(cause.code) };
        shared.worker.metrics.connections_closed.get_or_create(&labels).inc();
        actix_rt::spawn(async move {
            shared.clone().say_goodbye(cause).await;
            shared.worker.worker.hub.deliveries.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

impl Shared {
    /// The runtime of the version that is active now.
    fn runtime(&self) -> Rc<EndpointRuntime> {
        let mut runtime = self.runtime.borrow_mut();
        if !Arc::ptr_eq(&runtime.endpoint, &self.connection.endpoint.current()) {
            *runtime = self.worker.runtime(&self.connection.endpoint);
            self.throttle.forget_identity();
        }
        runtime.clone()
    }

    /// The limit that is in the way of one more message. Asked before anything else, so that a flood costs little.
    fn exceeded(&self, runtime: &EndpointRuntime) -> Option<Exceeded> {
        let throttle = &self.connection.endpoint.throttle;
        throttle::take_message(runtime, throttle, &self.throttle, &self.connection.facts, self)
    }

    /// Does what the endpoint says about a message that is too much; answers how to close, if it says that.
    fn throttled(self: &Rc<Self>, runtime: &EndpointRuntime, exceeded: &Exceeded, data: &Bytes) -> Option<CloseCode> {
        let on_exceeded = runtime.endpoint.throttling.as_ref().map(|limits| limits.on_exceeded);
        match on_exceeded {
            Some(OnExceeded::Close) => {
                self.connection.event_done();
                return Some(close_code::THROTTLED);
            }
            Some(OnExceeded::Reject) => {
                let millis = throttle::retry_after_millis(exceeded.retry_after);
                let message = throttle::message_of(exceeded);
                let frame = |id: &str| throttled_frame(&message, millis, &self.source.connection_id, id, data);
                self.refuse(runtime, ErrorCode::Throttled, &message, data, frame);
            }
            Some(OnExceeded::Drop) | None => self.connection.event_done(),
        }
        None
    }

    /// An `echo` backend with `"raw": true` on the default route answers before anything looks at the message.
    fn echo_raw(&self, runtime: &EndpointRuntime, opcode: Opcode, data: &Bytes) -> bool {
        let raw = runtime.default.as_ref().filter(|route| route.backends.iter().any(|backend| backend.is_raw_echo()));
        let Some(route) = raw else { return false };
        self.connection.send(opcode, data);
        route.delivered.inc();
        self.connection.event_done();
        true
    }

    /// Finds the event's routes and sends it on its way.
    fn route(self: &Rc<Self>, runtime: &EndpointRuntime, data: Bytes, decoded: &Decoded) {
        let mut first = None;
        let mut more: Vec<Rc<RouteRuntime>> = Vec::new();
        if let Decoded::Tree(tree) = decoded {
            let mut scratch = self.worker.scratch.borrow_mut();
            for index in runtime.endpoint.routes.custom.select(tree, &**self, &mut scratch) {
                let route = runtime.custom[*index].clone();
                match first {
                    None => first = Some(route),
                    Some(_) => more.push(route),
                }
            }
        }
        let Some(first) = first.or_else(|| runtime.default.clone()) else {
            self.reject(runtime, ErrorCode::NoRoute, NO_ROUTE, &data);
            return;
        };
        let now = unix_millis();
        let id = self.worker.next_event_id(now);
        let sequence = self.connection.next_sequence();
        let left = Rc::new(Cell::new(1 + more.len() as u32));
        for route in std::iter::once(first).chain(more) {
            self.forward(&route, &data, decoded, (id, now, sequence), left.clone());
        }
    }

    /// Sends the event to the backends of one of its routes. `left` counts its routes that have not answered yet.
    fn forward(
        self: &Rc<Self>,
        route: &Rc<RouteRuntime>,
        data: &Bytes,
        decoded: &Decoded,
        (id, now, sequence): (EventId, u64, u64),
        left: Rc<Cell<u32>>,
    ) {
        let mut event = Event::new(route.kind, id, now, sequence, data.clone(), self.source.clone());
        if let (true, Decoded::Tree(tree)) = (route.route.needs_tree(), decoded) {
            event.keys = route.backends.iter().map(|backend| backend.spec.record_key(tree)).collect();
        }
        for backend in &route.backends {
            if backend.backend.is_none() {
                self.connection.send(Opcode::Text, data);
            }
        }
        self.pending.set(self.pending.get() + 1);
        let shared = self.clone();
        let name = route.route.name.clone();
        let settled = Box::new(move |event: &Rc<Event>, failed: Option<FailedDelivery>| {
            let of = shared.clone();
            let done: Done = Box::new(move || {
                left.set(left.get() - 1);
                if left.get() == 0 {
                    of.connection.event_done();
                }
            });
            match failed {
                Some(failed) => shared.delivery_failed(event, &name, &failed, done),
                None => done(),
            }
            shared.settle_one();
        });
        self.lanes.dispatch(route, Rc::new(event), settled);
    }

    fn settle_one(&self) {
        self.pending.set(self.pending.get() - 1);
        if self.pending.get() == 0 {
            self.settled.notify_one();
        }
    }

    fn delivery_failed(self: &Rc<Self>, event: &Event, route: &str, failed: &FailedDelivery, done: Done) {
        let message = format!("{}: {}", failed.backend, failed.failure);
        tracing::debug!(connection = %self.source.connection_id, route, "delivery failed: {message}");
        // Clients learn that it failed, services also where and why: addresses of services are not for clients.
        let frame = error_frame(
            ErrorCode::DeliveryFailed,
            "a service behind the gateway did not take the event",
            &self.source.connection_id,
            event.id.as_str(),
            &event.body,
        );
        self.connection.send(Opcode::Text, &frame);
        let place = (Some(route), Some(failed.backend.as_str()));
        self.report(ErrorCode::DeliveryFailed, &message, place, event.id, &event.body, done);
    }

    /// Refuses an event: an error frame to the client, an error event to the error route. The event is done with when
    /// the error route has it, so that refused events fill the in-flight window like others.
    fn reject(self: &Rc<Self>, runtime: &EndpointRuntime, code: ErrorCode, message: &str, data: &Bytes) {
        let frame = |id: &str| error_frame(code, message, &self.source.connection_id, id, data);
        self.refuse(runtime, code, message, data, frame);
    }

    fn refuse(
        self: &Rc<Self>,
        runtime: &EndpointRuntime,
        code: ErrorCode,
        message: &str,
        data: &Bytes,
        frame: impl FnOnce(&str) -> Vec<u8>,
    ) {
        runtime.count_rejected(code.as_str());
        let id = self.worker.next_event_id(unix_millis());
        self.connection.send(Opcode::Text, &frame(id.as_str()));
        let shared = self.clone();
        self.report(code, message, (None, None), id, data, Box::new(move || shared.connection.event_done()));
    }

    /// Sends an error event to the error route, if there is one. What fails there is counted and goes no further.
    fn report(
        self: &Rc<Self>,
        code: ErrorCode,
        message: &str,
        place: (Option<&str>, Option<&str>),
        of: EventId,
        data: &Bytes,
        done: Done,
    ) {
        let Some(route) = self.runtime().error.clone() else { return done() };
        let body = error_event(code, message, place, data, of.as_str(), &self.source.connection_id);
        self.emit(&route, body.into(), done);
    }

    /// Sends an event of the gateway's own making; `done` is called when its backends have answered.
    fn emit(self: &Rc<Self>, route: &Rc<RouteRuntime>, body: Bytes, done: Done) {
        let now = unix_millis();
        let id = self.worker.next_event_id(now);
        let event = Event::new(route.kind, id, now, self.connection.next_sequence(), body, self.source.clone());
        self.pending.set(self.pending.get() + 1);
        let shared = self.clone();
        let settled = Box::new(move |_: &Rc<Event>, failed: Option<FailedDelivery>| {
            if let Some(failed) = failed {
                tracing::warn!(connection = %shared.source.connection_id, backend = %failed.backend, "event lost: {}", failed.failure);
            }
            done();
            shared.settle_one();
        });
        self.lanes.dispatch(route, Rc::new(event), settled);
    }

    async fn all_settled(&self) {
        while self.pending.get() > 0 {
            self.settled.notified().await;
        }
    }

    /// Emits the disconnect event after everything before it.
    async fn say_goodbye(self: Rc<Self>, cause: CloseCause) {
        let leaving = self.worker.worker.hub.is_draining();
        let longest = if leaving { DISCONNECT_WAIT_MAX / 3 } else { DISCONNECT_WAIT_MAX };
        let waited = tokio::time::timeout(longest, self.all_settled()).await;
        if waited.is_err() {
            tracing::warn!(connection = %self.source.connection_id, pending = self.pending.get(), "disconnect event overtakes unanswered events");
        }
        let Some(route) = self.runtime().disconnect.clone() else { return };
        self.emit(&route, disconnect_body(&self.connection, &cause).into(), Box::new(|| ()));
        self.all_settled().await;
    }
}

impl ConnectionFacts for Shared {
    fn facts(&self) -> &Value {
        self.description.get_or_init(|| {
            // Made by `describe` from a tree: it parses.
            serde_json::from_str(&self.connection.facts.description).unwrap_or(Value::Null)
        })
    }
}
