//! Events of the gateway's own making: error events and disconnect events. The other half of `client_events`.

use std::rc::Rc;

use bytes::Bytes;
use wsgateway_otlp::TraceContext;

use super::client_events::{Done, Shared};
use super::dispatch::FailedDelivery;
use super::runtime::{EndpointRuntime, RouteRuntime};
use super::trace::EventTrace;
use crate::backends::Event;
use crate::connections::connection::unix_millis;
use crate::model::endpoint::RouteKind;
use crate::model::event::{EventId, EventKind};
use crate::model::ordering::Turn;
use crate::model::reply::{error_event, ErrorCode, FailedAt};
use crate::model::transform::Refusal;

impl Shared {
    /// Sends an error event to the error route, if there is one. What fails there is counted and goes no further.
    pub(super) fn report(
        self: &Rc<Self>,
        (code, message): (ErrorCode, &str),
        at: FailedAt<'_>,
        (of, cause): (EventId, Option<&TraceContext>),
        data: &Bytes,
        done: Done,
    ) {
        let Some(route) = self.runtime().error.clone() else { return done() };
        let body = error_event(code, message, at, data, of.as_str(), &self.source.connection_id);
        self.emit(&route, body.into(), cause, done);
    }

    /// Sends an event of the gateway's own making; `done` is called when its backends have answered.
    pub(super) fn emit(
        self: &Rc<Self>,
        route: &Rc<RouteRuntime>,
        body: Bytes,
        cause: Option<&TraceContext>,
        done: Done,
    ) {
        let now = unix_millis();
        let id = self.worker.next_event_id(now);
        let runtime = self.runtime();
        let body = match self.around(&runtime, now).own_body(&route.route, body.clone()) {
            Ok(body) => body,
            Err(refusal) => return self.own_event_failed(&runtime, route, &refusal, id, &body, done),
        };
        let traces = &self.worker.traces;
        let trace = cause.map_or_else(|| EventTrace::own(traces), |cause| EventTrace::below(traces, cause));
        let (sequence, source) = (self.connection.next_sequence(), self.source.clone());
        let event = Event::new(route.kind, id, now, sequence, body, source, &trace.context);
        self.pending.set(self.pending.get() + 1);
        let (shared, of, by) = (self.clone(), runtime.clone(), route.clone());
        let settled = Box::new(move |event: &Rc<Event>, failed: Option<FailedDelivery>| {
            trace.end(&shared.worker.traces, &by, event, shared.origin.as_deref(), failed.as_ref());
            if event.kind == EventKind::Error {
                let name = &by.route.name;
                shared.tell(&of.endpoint, |teller| teller.settled(name, event, now, &event.body, failed.as_ref()));
            }
            if let Some(failed) = failed {
                tracing::warn!(connection = %shared.source.connection_id, backend = %failed.backend, "event lost: {}", failed.undelivered);
            }
            done();
            shared.settle_one();
        });
        let turn = match route.route.kind {
            RouteKind::Disconnect => Turn::Alone,
            _ => runtime.endpoint.order.turn(None),
        };
        self.lanes.dispatch(route, Rc::new(event), turn, settled);
    }

    /// The template of a route for the gateway's own events has failed: the error route hears of it, unless it is that.
    fn own_event_failed(
        self: &Rc<Self>,
        runtime: &EndpointRuntime,
        route: &RouteRuntime,
        refusal: &Refusal,
        id: EventId,
        body: &Bytes,
        done: Done,
    ) {
        let (code, name) = (refusal.code, &*route.route.name);
        runtime.count_rejected(Some(&route.route), code.as_str());
        tracing::warn!(connection = %self.source.connection_id, route = name, "event lost: {}", refusal.message);
        match route.route.kind {
            RouteKind::Error => done(),
            _ => {
                let at = FailedAt { route: Some(name), ..FailedAt::default() };
                self.report((code, &refusal.message), at, (id, None), body, done);
            }
        }
    }
}
