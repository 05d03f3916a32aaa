//! Is this one too many? Asks the endpoint's limits before a message is decoded and before a handshake is answered, and
//! counts what they refuse. Called by upgrade, client_events and runtime; imports model and telemetry.

use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;

use super::runtime::EndpointRuntime;
use crate::connections::Facts;
use crate::model::endpoint::CompiledEndpoint;
use crate::model::expression::ConnectionFacts;
use crate::model::throttle::{ConnectionThrottle, Exceeded, Throttle};
use crate::model::throttling::{identity_hash, Limit};
use crate::telemetry::metrics::{Metrics, ThrottleLabels};

/// Counters of what an endpoint version's limits refuse; looked up once per version.
pub struct Throttled(Vec<(Limit, Counter)>);

impl Throttled {
    pub fn new(endpoint: &CompiledEndpoint, metrics: &Metrics) -> Throttled {
        let Some(limits) = &endpoint.throttling else { return Throttled(Vec::new()) };
        let set = [
            (Limit::MaxConnections, limits.max_connections.is_some()),
            (Limit::ConnectionsPerSecond, limits.connections_per_second.is_some()),
            (Limit::MessagesPerSecond, limits.messages_per_second.is_some()),
            (Limit::PerConnection, limits.per_connection.is_some()),
            (Limit::PerIdentity, limits.per_identity.is_some()),
        ];
        let counter = |limit: Limit| {
            let labels = ThrottleLabels { endpoint: endpoint.path.to_string(), limit: limit.as_str() };
            metrics.throttled.get_or_create(&labels)
        };
        let set = set.into_iter().filter(|(_, is_set)| *is_set);
        Throttled(set.map(|(limit, _)| (limit, counter(limit))).collect())
    }

    pub fn count(&self, exceeded: &Exceeded) {
        if let Some((_, counter)) = self.0.iter().find(|(limit, _)| *limit == exceeded.limit) {
            counter.inc();
        }
    }
}

/// Takes one message of a connection, or says (and counts) which limit is in its way. Free without limits of messages.
pub fn take_message(
    runtime: &EndpointRuntime,
    throttle: &Throttle,
    of: &ConnectionThrottle,
    facts: &Facts,
    description: &impl ConnectionFacts,
) -> Option<Exceeded> {
    let limits = runtime.endpoint.throttling.as_ref().filter(|limits| limits.limits_messages())?;
    let identity = || {
        let Some((key, _)) = &limits.per_identity else { return 0 };
        identity_hash(&key.identity(facts.user.as_deref(), facts.source_ip, || description.facts()))
    };
    let exceeded = throttle.take_message(limits, of, Instant::now(), identity).err()?;
    runtime.throttled.count(&exceeded);
    Some(exceeded)
}

/// What a client is told of a message that was too much.
pub fn message_of(exceeded: &Exceeded) -> String {
    format!("too many messages: {} is exceeded", exceeded.limit.as_str())
}

/// Whole seconds, as Retry-After has them; at least one.
pub fn retry_after_seconds(retry_after: Duration) -> u64 {
    (retry_after.as_nanos().div_ceil(1_000_000_000) as u64).max(1)
}

/// Whole milliseconds, at least one.
pub fn retry_after_millis(retry_after: Duration) -> u64 {
    (retry_after.as_nanos().div_ceil(1_000_000) as u64).max(1)
}
