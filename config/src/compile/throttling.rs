//! Limits: what a rate without a burst means, and what identities are known by. Called by compile; imports model and
//! document.

use crate::document::{self, ThrottlingScope};
use crate::findings::Findings;
use wsgateway_model::gcra::Rate;
use wsgateway_model::json_path::JsonPath;
use wsgateway_model::throttle::rate;
use wsgateway_model::throttling::{IdentityKey, OnExceeded, Scope, Throttling};

/// None: nothing is limited.
pub fn compile(from: Option<&document::Throttling>, findings: &mut Findings) -> Option<Throttling> {
    let from = from?;
    let plain = |of: &Option<document::Rate>| of.as_ref().map(|of| rate(of.rate, of.burst));
    let per_identity = from.per_identity.as_ref().and_then(|of| identity(of, findings));
    let limits = Throttling {
        max_connections: from.max_connections,
        connections_per_second: plain(&from.connections_per_second),
        messages_per_second: plain(&from.messages_per_second),
        per_connection: plain(&from.per_connection),
        per_identity,
        scope: match from.scope {
            None | Some(ThrottlingScope::Cluster) => Scope::Cluster,
            Some(ThrottlingScope::Node) => Scope::Node,
        },
        on_exceeded: match from.on_exceeded {
            None | Some(document::OnExceeded::Reject) => OnExceeded::Reject,
            Some(document::OnExceeded::Drop) => OnExceeded::Drop,
            Some(document::OnExceeded::Close) => OnExceeded::Close,
        },
    };
    let limits_connections = limits.max_connections.is_some() || limits.connections_per_second.is_some();
    (limits_connections || limits.limits_messages()).then_some(limits)
}

fn identity(from: &document::IdentityRate, findings: &mut Findings) -> Option<(IdentityKey, Rate)> {
    let key = match from.key.as_deref() {
        None | Some("user") => IdentityKey::User,
        Some("ip") => IdentityKey::Ip,
        Some(path) if path.starts_with('$') => {
            IdentityKey::Path(findings.take("throttling.perIdentity.key", JsonPath::parse(path))?)
        }
        Some(other) => {
            let message = format!("must be \"user\", \"ip\" or a JSONPath over the connection, is {other:?}");
            findings.add("throttling.perIdentity.key", message);
            return None;
        }
    };
    Some((key, rate(from.rate, from.burst)))
}
