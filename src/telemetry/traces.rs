//! What the gateway's traces are made by: the tracer, and whether clients may continue traces of their own. Spans are built where
//! things happen (`inbound::trace`, the backends), only for what is sampled.

use std::time::Duration;

use wsgateway_otlp::{TraceContext, Tracer};

/// Cheap to clone. Without a collector every call is one branch.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    pub tracer: Tracer,
    /// Clients' `traceparent` is continued; else it is linked to.
    pub trusts_clients: bool,
}

impl Traces {
    /// Whether it matters which context a client sends: to record, or only to pass it on.
    pub fn look_at_clients(&self) -> bool {
        self.tracer.is_on() || self.trusts_clients
    }
}

/// How long the last spans are waited for when the node leaves.
pub const LAST_SPANS_WITHIN: Duration = Duration::from_secs(3);

/// Events with one are this small at the least.
const MEMBER: &[u8] = b"\"traceparent\"";

/// The context that an event carries itself, in a member `traceparent` as CloudEvents has it. Found without reading the
/// event: what only looks like that member is a wrong context at most, and no harm.
pub fn in_event(event: &[u8]) -> Option<TraceContext> {
    let at = memchr::memmem::find(event, MEMBER)?;
    let rest = event[at + MEMBER.len()..].trim_ascii_start();
    let rest = rest.strip_prefix(b":")?.trim_ascii_start();
    let rest = rest.strip_prefix(b"\"")?;
    let end = memchr::memchr(b'"', rest)?;
    TraceContext::parse(&rest[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_carries_its_context_as_a_member() {
        let id = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let text = format!("{{\"a\": 1, \"traceparent\" : \"{id}\"}}");
        let found = in_event(text.as_bytes()).unwrap();
        assert_eq!(found.traceparent().as_slice(), id.as_bytes());
        for none in
            ["{}", "{\"traceparent\": 1}", "{\"traceparent\": \"x\"}", "{\"traceparent\": \"00-", "\"traceparent\""]
        {
            assert_eq!(in_event(none.as_bytes()), None, "{none}");
        }
    }
}
