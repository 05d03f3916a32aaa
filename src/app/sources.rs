//! Gives sources what they ask of other rooms: the endpoints' sources, and the way to clients.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};

use crate::config::registry::Registry;
use crate::model::connection_id::ConnectionId;
use crate::model::delivery::{Recipients, Selection, Tally};
use crate::model::egress::EgressRules;
use crate::push::{PushError, Pushes};
use crate::sources::{Clients, Handed, Surroundings, Wanted};
use crate::telemetry::metrics::Metrics;

struct AllClients(Arc<Pushes>);

impl Clients for AllClients {
    fn to_connection(&self, id: ConnectionId, message: Bytes) -> BoxFuture<'static, Handed> {
        let pushes = self.0.clone();
        async move {
            match pushes.push(&id, message).await {
                Ok(()) => Handed::Queued,
                Err(PushError::OutboxFull) => Handed::Full,
                Err(PushError::OwnerUnreachable(_) | PushError::Overloaded(_)) => Handed::Unreachable,
                Err(err) => Handed::Never(err.result()),
            }
        }
        .boxed()
    }

    fn to_many(
        &self,
        endpoint: Arc<str>,
        to: Recipients,
        message: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, (Tally, u64)> {
        let pushes = self.0.clone();
        async move {
            let selection = Selection { endpoint: Some(endpoint.to_string()), to, filter: None };
            let reached = pushes.push_many(&selection, message, patience).await;
            (reached.tally, reached.unreachable.len() as u64)
        }
        .boxed()
    }
}

pub(super) fn of_endpoints(
    registry: &Arc<Registry>,
    pushes: &Arc<Pushes>,
    default_brokers: Option<String>,
    egress: &Arc<EgressRules>,
    metrics: &Metrics,
) -> Surroundings {
    let registry = registry.clone();
    let wanted = move || {
        let endpoints = registry.all().into_iter().map(|endpoint| endpoint.current_owned());
        let of = |endpoint: Arc<crate::model::endpoint::CompiledEndpoint>| {
            let wanted = |spec| Wanted { endpoint: endpoint.id.clone(), path: endpoint.path.clone(), spec };
            endpoint.sources.iter().cloned().map(wanted).collect::<Vec<_>>()
        };
        endpoints.flat_map(of).collect()
    };
    Surroundings {
        clients: Arc::new(AllClients(pushes.clone())),
        wanted: Box::new(wanted),
        default_brokers,
        egress: egress.clone(),
        metrics: metrics.clone(),
    }
}
