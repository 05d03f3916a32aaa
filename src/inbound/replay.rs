//! Sends an event again to the backend that has not taken it: the same id, attributes and body, as a dead letter has them.
//! No dead letter and no error event comes of it; whoever asked is told the outcome. Called by app for the admin surface.

use std::rc::Rc;
use std::time::Instant;

use super::dead_letter::{deliver_patiently, record_keys};
use super::runtime::{EndpointRuntime, InboundWorker, RouteRuntime};
use crate::backends::{Delivered, Event, EventSource, Undelivered};
use crate::model::dead_letter::Resent;

/// There is no such backend now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotThere {
    Endpoint,
    Backend,
}

/// Sends it by the endpoint's active version.
pub async fn resend(
    worker: &InboundWorker,
    endpoint_id: &str,
    event: Resent,
) -> Result<Result<Delivered, Undelivered>, NotThere> {
    let endpoint = worker.registry.by_id(endpoint_id).ok_or(NotThere::Endpoint)?;
    let runtime = worker.runtime(&endpoint);
    let (route, index) = find(&runtime, &event).ok_or(NotThere::Backend)?;
    let target = &route.backends[index];
    let backend = target.backend.clone().ok_or(NotThere::Backend)?;
    let source = EventSource::new(event.connection_id.clone(), event.user.clone(), event.params.clone());
    let mut again = Event::again(&event, source);
    // A key that was too long for an attribute is where it was: in the event.
    let key = event.key.or_else(|| record_keys(&target.spec, &event.body).into_iter().next().flatten());
    if let Some(key) = key {
        again.keys = vec![None; target.spec.index];
        again.keys.push(Some(key));
    }
    let began = Instant::now();
    let result = deliver_patiently(&backend, &Rc::new(again)).await;
    target.observe(result.as_ref().map_or_else(|failed| failed.failure.outcome(), |_| "delivered"), began.elapsed());
    Ok(result)
}

/// The route and the place of its backend that the letter names.
fn find<'r>(runtime: &'r EndpointRuntime, event: &Resent) -> Option<(&'r Rc<RouteRuntime>, usize)> {
    let EndpointRuntime { connect, disconnect, error, default, custom, .. } = runtime;
    let single = [connect, disconnect, error, default].into_iter().flatten();
    let routes = single.chain(custom).filter(|route| route.kind == event.kind);
    let mut found = routes.filter_map(|route| {
        let index = route.backends.iter().position(|backend| *backend.spec.label == *event.backend)?;
        Some((route, index))
    });
    found.next()
}
