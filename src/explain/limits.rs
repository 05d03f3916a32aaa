//! Which limits an event is counted against, and as whose. Called by explain only; identities are made by the code that
//! serves.

use super::connection::Connection;
use super::LimitFacts;
use crate::model::endpoint::CompiledEndpoint;
use crate::model::gcra::Rate;
use crate::model::throttling::Limit;

/// In the order of `Throttle::take_message`.
pub fn of(endpoint: &CompiledEndpoint, connection: &Connection) -> Vec<LimitFacts> {
    let Some(limits) = &endpoint.throttling else { return Vec::new() };
    let facts = |limit: Limit, of: String, rate: Rate| LimitFacts {
        at: format!("throttling.{}", limit.as_str()),
        of,
        rate: rate.per_second,
        burst: rate.burst,
        scope: limits.scope.as_str(),
        on_exceeded: limits.on_exceeded.as_str(),
    };
    let own = limits.per_connection.map(|rate| facts(Limit::PerConnection, "connection".to_owned(), rate));
    let identity = limits.per_identity.as_ref().map(|(key, rate)| {
        let user = connection.source.user.as_deref();
        let identity = key.identity(user, connection.source_ip, || &connection.description);
        facts(Limit::PerIdentity, identity, *rate)
    });
    let all = limits.messages_per_second.map(|rate| facts(Limit::MessagesPerSecond, "endpoint".to_owned(), rate));
    [own, identity, all].into_iter().flatten().collect()
}
