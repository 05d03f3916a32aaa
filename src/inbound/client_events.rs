//! What the gateway does with a connection's messages: decode, route, dispatch, reply. One per connection; the
//! disconnect event goes out when everything before it has been answered. Events of the gateway's own making are in
//! `own_events`.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::Notify;
use wsgateway_otlp::TraceContext;

use super::bereaved;
use super::credential::{CredentialWatch, Held};
use super::describe::disconnect_body;
use super::dispatch::{FailedDelivery, Lanes, OnReply};
use super::refresh;
use super::runtime::{EndpointRuntime, InboundWorker, RouteRuntime};
use super::tell::{self, Teller};
use super::throttle;
use super::trace::{EventTrace, Origin};
use crate::authentication::Presented;
use crate::backends::{Event, EventSource};
use crate::close_code::{self, CloseCode};
use crate::connections::connection::unix_millis;
use crate::connections::{ClientEvents, Connection, Opcode};
use crate::model::ack::{Ack, AckWhen};
use crate::model::decode::decode;
use crate::model::delivery::{CloseCause, Initiator, PushOutcome};
use crate::model::description;
use crate::model::endpoint::{CompiledEndpoint, CompiledRoute};
use crate::model::event::EventId;
use crate::model::expression::ConnectionFacts;
use crate::model::ordering::Turn;
use crate::model::reply::{error_frame, refreshed_frame, throttled_frame, ErrorCode, FailedAt, Tried, NO_ROUTE};
use crate::model::throttle::{ConnectionThrottle, Exceeded};
use crate::model::throttling::OnExceeded;
use crate::model::transform::{ConnectionTree, Refusal, Surroundings};
use crate::telemetry::metrics::{CloseLabels, CutLabels};

/// How long a disconnect event waits for the answers to earlier events; then it overtakes them.
const DISCONNECT_WAIT_MAX: Duration = Duration::from_secs(30);

/// Called once, when nothing of an event is left to do.
pub(super) type Done = Box<dyn FnOnce()>;

/// The handler of one connection.
pub struct ConnectionEvents {
    shared: Rc<Shared>,
    /// None: it has shown nothing, and nothing was asked for so far.
    credential: Option<CredentialWatch>,
}

/// What belongs to one connection.
pub(super) struct Shared {
    pub(super) worker: Rc<InboundWorker>,
    pub(super) connection: Rc<Connection>,
    pub(super) source: Rc<EventSource>,
    pub(super) lanes: Lanes,
    /// Not held: a connection that is silent must not keep the backends of an old version.
    runtime: RefCell<Weak<EndpointRuntime>>,
    /// Events dispatched and not yet settled.
    pub(super) pending: Cell<u32>,
    settled: Notify,
    /// What this connection has used of the limits.
    throttle: ConnectionThrottle,
    /// The connection description as a tree, for expressions and templates over it; made when the first one asks.
    description: OnceCell<Arc<Value>>,
    /// Another node knows what to say should this one die.
    leaves_will: bool,
    /// None: nothing is traced.
    pub(super) origin: Option<Rc<Origin>>,
}

/// One client's event on its way through its routes.
struct ClientEvent {
    id: EventId,
    unix_millis: u64,
    sequence: u64,
    /// As the client sent it.
    data: Bytes,
    tree: Option<Arc<Value>>,
    /// Sent when every route has delivered it.
    ack: Option<Arc<Ack>>,
    runtime: Rc<EndpointRuntime>,
    turn: Turn,
    routes_left: Cell<usize>,
    failed: Cell<bool>,
}

impl ConnectionEvents {
    pub fn new(
        worker: Rc<InboundWorker>,
        connection: Rc<Connection>,
        (source, origin): (Rc<EventSource>, Option<Rc<Origin>>),
        held: Held,
    ) -> ConnectionEvents {
        let watch = |held| CredentialWatch::start(worker.authenticator.clone(), connection.clone(), held);
        let credential = (!held.is_nothing()).then_some(held).map(watch);
        worker.worker.hub.deliveries.fetch_add(1, Ordering::Relaxed);
        let runtime = worker.runtime(&connection.endpoint);
        let leaves_will = runtime.disconnect.is_some();
        if leaves_will {
            worker.wills.leave(bereaved::will(&connection.facts, &connection.endpoint));
        }
        let runtime = RefCell::new(Rc::downgrade(&runtime));
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
            leaves_will,
            origin,
        };
        ConnectionEvents { shared: Rc::new(shared), credential }
    }
}

impl ClientEvents for ConnectionEvents {
    fn text(&mut self, data: Bytes) {
        if self.shared.connection.outlet.is_confirmed_by(&data) {
            return self.shared.connection.event_done();
        }
        let runtime = self.shared.runtime();
        if let Some(exceeded) = self.shared.exceeded(&runtime) {
            if let Some(close) = self.shared.throttled(&runtime, &exceeded, &data) {
                self.shared.connection.close(CloseCause::gateway(close));
            }
            return;
        }
        if let Some(token) = runtime.endpoint.auth.refresh.then(|| refresh::token_of(&data)).flatten() {
            self.refresh(&runtime, token, data);
            return;
        }
        if self.shared.echo_raw(&runtime, Opcode::Text, &data) {
            return;
        }
        match decode(&data, runtime.looked_at.as_ref()) {
            Ok(decoded) => self.shared.route(&runtime, data, decoded.tree()),
            Err(fault) => {
                self.shared.reject(&runtime, ErrorCode::InvalidJson, &fault.to_string(), None, &data);
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

    fn authentication_changed(&mut self) {
        self.watch().rule_changed();
    }

    fn resumed(&mut self) {
        let Shared { worker, connection, .. } = &*self.shared;
        let Some(held) = worker.returned.borrow_mut().remove(&connection.facts.id.random) else { return };
        let watch = |held| CredentialWatch::start(worker.authenticator.clone(), connection.clone(), held);
        self.credential = (!held.is_nothing()).then_some(held).map(watch);
    }

    fn closed(&mut self, cause: CloseCause) {
        let shared = self.shared.clone();
        shared.worker.returned.borrow_mut().remove(&shared.connection.facts.id.random);
        let endpoint = shared.connection.endpoint.current().path.to_string();
        let labels = CloseLabels::new(endpoint, cause.code, cause.initiator == Initiator::Gateway);
        shared.worker.metrics.connections_closed.get_or_create(&labels).inc();
        if cause.initiator == Initiator::Gateway {
            if let Some(reason) = close_code::misconduct(cause.code, &cause.reason) {
                shared.worker.metrics.connections_cut.get_or_create(&CutLabels { reason }).inc();
            }
        }
        shared.tell(&shared.connection.endpoint.current(), |teller| teller.closed(&cause));
        actix_rt::spawn(async move {
            shared.clone().say_goodbye(cause).await;
            if shared.leaves_will || shared.runtime().disconnect.is_some() {
                shared.worker.wills.take_back(shared.connection.facts.id.random);
            }
            shared.worker.worker.hub.deliveries.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

impl ConnectionEvents {
    /// The watch over the credential; one that has shown nothing is watched from now on.
    fn watch(&mut self) -> &mut CredentialWatch {
        let Shared { worker, connection, .. } = &*self.shared;
        let anonymous = || CredentialWatch::start(worker.authenticator.clone(), connection.clone(), Held::default());
        self.credential.get_or_insert_with(anonymous)
    }

    /// A new token takes the place of the one before, if it is as good and of the same user. It is told to nobody else,
    /// and whatever becomes of it, the connection goes on as it was.
    fn refresh(&mut self, runtime: &EndpointRuntime, token: String, data: Bytes) {
        let exchange = self.watch().exchange();
        let (shared, endpoint) = (self.shared.clone(), runtime.endpoint.clone());
        let Some(exchange) = exchange else {
            shared.refresh_refused("another refresh is under way", &data);
            return shared.connection.event_done();
        };
        actix_rt::spawn(async move {
            let Shared { worker, connection, .. } = &*shared;
            let shown = if token.is_empty() { Presented::Nothing } else { Presented::Token(&token) };
            let checked = worker.authenticator.check(&endpoint.auth, connection.facts.source_ip, shown).await;
            match refresh::exchanged(checked, connection.facts.user.as_deref()) {
                Ok(accepted) => {
                    let frame = refreshed_frame(accepted.holds.until_unix_millis, &data);
                    match exchange.take(accepted) {
                        true => drop(connection.send(Opcode::Text, &frame)),
                        false => shared.refresh_refused("the connection was resumed with another token", &data),
                    }
                }
                Err(why) => shared.refresh_refused(&why, &data),
            }
            drop(exchange);
            connection.event_done();
        });
    }
}

impl Shared {
    /// If anybody watches.
    pub(super) fn tell(&self, endpoint: &CompiledEndpoint, say: impl FnOnce(&Teller<'_>)) {
        tell::if_watched(&self.worker.metrics.tail, &self.connection.facts, endpoint, say);
    }

    fn refresh_refused(&self, why: &str, data: &Bytes) {
        let id = self.worker.next_event_id(unix_millis());
        let frame = error_frame(ErrorCode::RefreshRefused, why, &self.source.connection_id, id.as_str(), data);
        self.connection.send(Opcode::Text, &frame);
    }

    /// The runtime of the version that is active now.
    pub(super) fn runtime(&self) -> Rc<EndpointRuntime> {
        let mut known = self.runtime.borrow_mut();
        if let Some(runtime) = known.upgrade() {
            if Arc::ptr_eq(&runtime.endpoint, &self.connection.endpoint.current()) {
                return runtime;
            }
        }
        let runtime = self.worker.runtime(&self.connection.endpoint);
        *known = Rc::downgrade(&runtime);
        self.throttle.forget_identity();
        runtime
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
                self.refuse(runtime, (ErrorCode::Throttled, &message), None, data, frame);
            }
            Some(OnExceeded::Drop) | None => {
                let message = throttle::message_of;
                let code = ErrorCode::Throttled;
                self.tell(&runtime.endpoint, |teller| teller.refused((code, &message(exceeded)), None, None, data));
                self.connection.event_done();
            }
        }
        None
    }

    /// An `echo` backend with `"raw": true` on the default route answers before anything looks at the message.
    fn echo_raw(&self, runtime: &EndpointRuntime, opcode: Opcode, data: &Bytes) -> bool {
        let raw = runtime.default.as_ref().filter(|route| route.backends.iter().any(|backend| backend.is_raw_echo()));
        let Some(route) = raw else { return false };
        self.connection.send(opcode, data);
        route.delivered.inc();
        self.tell(&runtime.endpoint, |teller| teller.echoed(&route.route.name, data));
        self.connection.event_done();
        true
    }

    /// Finds the event's routes and sends it on its way.
    fn route(self: &Rc<Self>, runtime: &Rc<EndpointRuntime>, data: Bytes, tree: Option<&Arc<Value>>) {
        let mut first = None;
        let mut more: Vec<(Rc<RouteRuntime>, Bytes)> = Vec::new();
        if let Some(tree) = tree {
            let mut scratch = self.worker.scratch.borrow_mut();
            for index in runtime.endpoint.routes.custom.select(tree, &**self, &mut scratch) {
                let route = runtime.custom[*index].clone();
                match first {
                    None => first = Some(route),
                    Some(_) => more.push((route, data.clone())),
                }
            }
        }
        let Some(first) = first.or_else(|| runtime.default.clone()) else {
            self.reject(runtime, ErrorCode::NoRoute, NO_ROUTE, None, &data);
            return;
        };
        let now = unix_millis();
        // All bodies before the first is sent: an event is taken whole or refused whole.
        let mut first = (first, data.clone());
        for (route, body) in std::iter::once(&mut first).chain(&mut more).filter(|(route, _)| !route.route.is_plain()) {
            match self.around(runtime, now).body(&route.route, &data, tree) {
                Ok(made) => *body = made,
                Err(Refusal { code, message }) => {
                    return self.reject(runtime, code, &message, Some(&route.route), &data);
                }
            }
        }
        let taken = || std::iter::once(&first).chain(&more);
        let event = Rc::new(ClientEvent {
            id: self.worker.next_event_id(now),
            unix_millis: now,
            sequence: self.connection.next_sequence(),
            data,
            tree: tree.cloned(),
            ack: runtime.endpoint.ack_of(taken().map(|(route, _)| &*route.route)),
            runtime: runtime.clone(),
            turn: runtime.endpoint.order.turn(tree.map(|tree| &**tree)),
            routes_left: Cell::new(1 + more.len()),
            failed: Cell::new(false),
        });
        self.acknowledge(&event, AckWhen::Received);
        let traces = &self.worker.traces;
        let trace = EventTrace::begin(traces, &event.data);
        // One trace for all routes: the first one's span is the event's.
        let cause = (!more.is_empty()).then(|| trace.context.clone());
        self.forward(&first.0, first.1, &event, trace);
        for (route, body) in more {
            let trace =
                cause.as_ref().map_or_else(|| EventTrace::own(traces), |cause| EventTrace::below(traces, cause));
            self.forward(&route, body, &event, trace);
        }
    }

    pub(super) fn around<'a>(&'a self, runtime: &'a EndpointRuntime, unix_millis: u64) -> Surroundings<'a> {
        Surroundings { endpoint: &runtime.endpoint, connection: self, unix_millis }
    }

    /// Sends the event's acknowledgement if this is the time for it.
    fn acknowledge(self: &Rc<Self>, event: &ClientEvent, now: AckWhen) {
        let Some(ack) = event.ack.as_ref().filter(|ack| ack.when == now) else { return };
        let around = self.around(&event.runtime, event.unix_millis);
        let (frame, failed) = around.acknowledgement(ack, event.id.as_str(), &event.data, event.tree.as_ref());
        self.connection.send(Opcode::Text, &frame);
        if let Some(err) = failed {
            let message = format!("the ack's template: {err}");
            let what = (ErrorCode::TransformFailed, &*message);
            self.report(what, FailedAt::default(), (event.id, None), &event.data, Box::new(|| ()));
        }
    }

    /// Sends the event to the backends of one of its routes.
    fn forward(self: &Rc<Self>, route: &Rc<RouteRuntime>, body: Bytes, of: &Rc<ClientEvent>, trace: EventTrace) {
        let ClientEvent { id, unix_millis, sequence, turn, .. } = **of;
        let mut event = Event::new(route.kind, id, unix_millis, sequence, body, self.source.clone(), &trace.context);
        if let (true, Some(tree)) = (route.route.takes_keys(), &of.tree) {
            event.keys = route.backends.iter().map(|backend| backend.spec.record_key(tree)).collect();
        }
        for backend in &route.backends {
            if backend.backend.is_none() {
                self.answer(&event.body, of);
            }
        }
        let replies = route.route.replies().then(|| -> OnReply {
            let (shared, of) = (self.clone(), of.clone());
            Rc::new(move |reply| shared.answer(&reply, &of))
        });
        self.pending.set(self.pending.get() + 1);
        let (shared, of, by) = (self.clone(), of.clone(), route.clone());
        let settled = Box::new(move |event: &Rc<Event>, failed: Option<FailedDelivery>| {
            let name = &by.route.name;
            trace.end(&shared.worker.traces, &by, event, shared.origin.as_deref(), failed.as_ref());
            shared.tell(&of.runtime.endpoint, |teller| {
                teller.settled(name, event, of.unix_millis, &of.data, failed.as_ref());
            });
            of.failed.set(of.failed.get() || failed.is_some());
            let (done_shared, done_of) = (shared.clone(), of.clone());
            let done: Done = Box::new(move || done_shared.route_done(&done_of));
            match failed {
                Some(failed) => shared.delivery_failed(&of, name, &failed, &trace.context, done),
                None => done(),
            }
            shared.settle_one();
        });
        self.lanes.dispatch_with_replies(route, Rc::new(event), turn, replies, settled);
    }

    /// One of an event's routes has nothing left to do.
    fn route_done(self: &Rc<Self>, event: &ClientEvent) {
        event.routes_left.set(event.routes_left.get() - 1);
        if event.routes_left.get() > 0 {
            return;
        }
        if !event.failed.get() {
            self.acknowledge(event, AckWhen::Delivered);
        }
        self.connection.event_done();
    }

    /// Sends the client what a service answers, through the endpoint's outbound template.
    fn answer(self: &Rc<Self>, message: &[u8], of: &ClientEvent) {
        if let PushOutcome::TransformFailed(reason) = self.connection.outlet.deliver(message) {
            let message = format!("the outbound template: {reason}");
            let frame = error_frame(
                ErrorCode::TransformFailed,
                "the answer to the event could not be transformed",
                &self.source.connection_id,
                of.id.as_str(),
                &of.data,
            );
            self.connection.send(Opcode::Text, &frame);
            let what = (ErrorCode::TransformFailed, &*message);
            self.report(what, FailedAt::default(), (of.id, None), &of.data, Box::new(|| ()));
        }
    }

    pub(super) fn settle_one(&self) {
        self.pending.set(self.pending.get() - 1);
        if self.pending.get() == 0 {
            self.settled.notify_one();
        }
    }

    fn delivery_failed(
        self: &Rc<Self>,
        event: &ClientEvent,
        route: &str,
        failed: &FailedDelivery,
        trace: &TraceContext,
        done: Done,
    ) {
        let message = format!("{}: {}", failed.backend, failed.undelivered);
        tracing::debug!(connection = %self.source.connection_id, route, "delivery failed: {message}");
        // Clients learn that it failed, services also where and why: addresses of services are not for clients.
        let frame = error_frame(
            ErrorCode::DeliveryFailed,
            "a service behind the gateway did not take the event",
            &self.source.connection_id,
            event.id.as_str(),
            &event.data,
        );
        self.connection.send(Opcode::Text, &frame);
        let failure = &failed.undelivered.failure;
        let tried =
            Tried { attempts: failed.undelivered.attempts, status: failure.status(), reason: failure.outcome() };
        let at = FailedAt { route: Some(route), backend: Some(&failed.backend), tried: Some(tried) };
        self.report((ErrorCode::DeliveryFailed, &message), at, (event.id, Some(trace)), &event.data, done);
    }

    /// Refuses an event: an error frame to the client, an error event to the error route. The event is done with when
    /// the error route has it, so that refused events fill the in-flight window like others.
    fn reject(
        self: &Rc<Self>,
        runtime: &EndpointRuntime,
        code: ErrorCode,
        message: &str,
        route: Option<&CompiledRoute>,
        data: &Bytes,
    ) {
        let frame = |id: &str| error_frame(code, message, &self.source.connection_id, id, data);
        self.refuse(runtime, (code, message), route, data, frame);
    }

    fn refuse(
        self: &Rc<Self>,
        runtime: &EndpointRuntime,
        (code, message): (ErrorCode, &str),
        route: Option<&CompiledRoute>,
        data: &Bytes,
        frame: impl FnOnce(&str) -> Vec<u8>,
    ) {
        runtime.count_rejected(route, code.as_str());
        let id = self.worker.next_event_id(unix_millis());
        self.connection.send(Opcode::Text, &frame(id.as_str()));
        let route = route.map(|route| &*route.name);
        self.tell(&runtime.endpoint, |teller| teller.refused((code, message), route, Some(id.as_str()), data));
        let trace = EventTrace::begin(&self.worker.traces, data);
        let context = trace.context.clone();
        let ids = (&*self.source.connection_id, id.as_str());
        trace.refused(&self.worker.traces, &runtime.endpoint, ids, self.origin.as_deref(), (code, message));
        let shared = self.clone();
        let at = FailedAt { route, ..FailedAt::default() };
        let done = Box::new(move || shared.connection.event_done());
        self.report((code, message), at, (id, Some(&context)), data, done);
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
        self.emit(&route, disconnect_body(&self.connection, &cause).into(), None, Box::new(|| ()));
        self.all_settled().await;
    }
}

impl Shared {
    fn described(&self) -> &Arc<Value> {
        self.description.get_or_init(|| Arc::new(description::tree(&self.connection.facts.description)))
    }
}

impl ConnectionFacts for Shared {
    fn facts(&self) -> &Value {
        self.described()
    }
}

impl ConnectionTree for Shared {
    fn tree(&self) -> Arc<Value> {
        self.described().clone()
    }
}
