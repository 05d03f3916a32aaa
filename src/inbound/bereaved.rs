//! The disconnect event of a connection whose node is dead, told by this one: what is left in its will, through the
//! disconnect route of today. Called by app for the room of wills.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::oneshot;

use super::describe::bereaved_body;
use super::dispatch::Lanes;
use super::runtime::InboundWorker;
use super::trace::EventTrace;
use crate::backends::{Event, EventSource};
use crate::connections::connection::{unix_millis, Facts};
use crate::model::description;
use crate::model::event::{EventId, EventKind};
use crate::model::live_endpoint::LiveEndpoint;
use crate::model::ordering::Turn;
use crate::model::transform::{ConnectionTree, Surroundings};
use crate::wills::Will;

/// How many events the connection had is not known: more than any had. The largest that JSON programs read exactly.
pub const SEQUENCE_UNKNOWN: u64 = (1 << 53) - 1;

/// What a connection leaves.
pub fn will(facts: &Facts, endpoint: &LiveEndpoint) -> Will {
    Will {
        key: facts.id.random,
        endpoint: endpoint.current().id.clone(),
        connected_at_millis: facts.connected_at_millis,
        description: facts.description.clone(),
    }
}

/// Between two looks at whether the backends that nobody waits for have answered.
const PAUSE: Duration = Duration::from_millis(20);
/// They have deadlines of their own; whatever becomes of those, the next connection has its turn.
const BEST_EFFORT_WITHIN: Duration = Duration::from_secs(60);
/// A node that has just started, or is behind, has its endpoints soon.
const ENDPOINT_WITHIN: Duration = Duration::from_secs(10);

struct Description(Arc<Value>);

impl ConnectionTree for Description {
    fn tree(&self) -> Arc<Value> {
        self.0.clone()
    }
}

fn source(described: &Value) -> Rc<EventSource> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let params = described["params"].as_object().into_iter().flatten();
    let params = params.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect();
    // The room of wills has it from a node of this program, which writes all of these.
    EventSource::new(text(&described["connectionId"]).unwrap_or_default(), text(&described["user"]), params)
}

async fn endpoint(worker: &InboundWorker, id: &str) -> Option<Arc<LiveEndpoint>> {
    let began = Instant::now();
    loop {
        match worker.registry.by_id(id) {
            None if began.elapsed() < ENDPOINT_WITHIN => tokio::time::sleep(ENDPOINT_WITHIN / 20).await,
            found => return found,
        }
    }
}

/// Tells the services of the endpoint, and waits until they have taken it or have not.
pub async fn carry_out(worker: &Rc<InboundWorker>, will: &Will) {
    let Some(endpoint) = endpoint(worker, &will.endpoint).await else {
        // Deleted since, or it cannot be served here.
        tracing::warn!(endpoint = %will.endpoint, "event lost: the endpoint of a dead node's connection is not here");
        return;
    };
    // It may not want to hear any more.
    let runtime = worker.runtime(&endpoint);
    let Some(route) = runtime.disconnect.clone() else { return };
    let now = unix_millis();
    let described = Arc::new(description::tree(&will.description));
    let source = source(&described);
    let body = bereaved_body(&will.description, now.saturating_sub(will.connected_at_millis));
    let around = Surroundings { endpoint: &runtime.endpoint, connection: &Description(described), unix_millis: now };
    let body = match around.own_body(&route.route, body.into()) {
        Ok(body) => body,
        Err(refusal) => {
            runtime.count_rejected(Some(&route.route), refusal.code.as_str());
            tracing::warn!(connection = %source.connection_id, "event lost: {}", refusal.message);
            return;
        }
    };
    let trace = EventTrace::own(&worker.traces);
    let id = EventId::of_end(will.connected_at_millis, &source.connection_id);
    let event = Event::new(EventKind::Disconnect, id, now, SEQUENCE_UNKNOWN, body, source, &trace.context);
    let (settled, all_settled) = oneshot::channel::<()>();
    let hub = worker.worker.hub.clone();
    hub.deliveries.fetch_add(1, Ordering::Relaxed);
    let lanes = Lanes::default();
    let (traces, by) = (worker.traces.clone(), route.clone());
    let event = Rc::new(event);
    lanes.dispatch(
        &route,
        event.clone(),
        Turn::Alone,
        Box::new(move |event, failed| {
            trace.end(&traces, &by, event, None, failed.as_ref());
            if let Some(failed) = failed {
                let connection = &event.source.connection_id;
                tracing::warn!(%connection, backend = %failed.backend, "event lost: {}", failed.undelivered);
            }
            drop(settled);
        }),
    );
    // An error: it is dropped when all is settled.
    let _settled = all_settled.await;
    // Backends that are not required do not count for that, but for how much is under way at once.
    let settled_at = Instant::now();
    while Rc::strong_count(&event) > 1 && settled_at.elapsed() < BEST_EFFORT_WITHIN {
        tokio::time::sleep(PAUSE).await;
    }
    hub.deliveries.fetch_sub(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_says_who_it_was() {
        let described = serde_json::json!({"connectionId": "c-1", "user": null, "params": {"a": "1", "b": "2"}});
        let source = source(&described);
        assert_eq!((source.connection_id.as_str(), &source.user), ("c-1", &None));
        assert_eq!(source.params, [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
    }
}
