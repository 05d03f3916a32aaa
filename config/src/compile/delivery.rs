//! How hard backends are tried: defaults filled in, by what waits for the answer. Called by backends; imports model and
//! document.

use std::time::Duration;

use crate::document::{Backend, Ordering, RouteType, Settings};
use crate::findings::Findings;
use crate::secrets::is_unknown;
use wsgateway_model::delivery_policy::{BatchPolicy, BreakerPolicy, RetryAfter, RetryPolicy};
use wsgateway_model::json_path::JsonPath;
use wsgateway_model::limits;
use wsgateway_model::ordering::OrderRule;
use wsgateway_model::signing::SigningKeys;
use wsgateway_model::url_template::UrlTemplate;

/// The attempts of an HTTP backend of a route of this kind.
pub fn retry(from: &Backend, route: RouteType, path: &str, findings: &mut Findings) -> RetryPolicy {
    let given = from.retry.as_ref();
    let backoff = given.and_then(|retry| retry.backoff_in_millis);
    let max_backoff = given.and_then(|retry| retry.max_backoff_in_millis);
    let default = limits::RETRY_BACKOFF_MILLIS_DEFAULT;
    // A default gives way to what is written.
    let millis = backoff.unwrap_or(max_backoff.map_or(default, |max| max.min(default)));
    let max_millis = max_backoff.unwrap_or(millis.max(limits::RETRY_MAX_BACKOFF_MILLIS_DEFAULT));
    if max_millis < millis {
        let message = format!("must be at least backoffInMillis ({millis}), is {max_millis}");
        findings.add(format!("{path}.retry.maxBackoffInMillis"), message);
    }
    RetryPolicy {
        attempts: given.and_then(|retry| retry.attempts).unwrap_or(limits::RETRY_ATTEMPTS_DEFAULT),
        backoff: Duration::from_millis(millis),
        max_backoff: Duration::from_millis(max_millis),
        // A client waits for its handshake meanwhile, and the service's answer decides about it.
        after: match (route, given) {
            (RouteType::Connect, None) => RetryAfter::LostConnections,
            _ => RetryAfter::Passing,
        },
    }
}

/// The circuit breaker of an HTTP backend, if it has one.
pub fn breaker(from: &Backend) -> Option<BreakerPolicy> {
    from.circuit_breaker.as_ref().map(|given| BreakerPolicy {
        failures: given.failures.unwrap_or(limits::BREAKER_FAILURES_DEFAULT),
        open: Duration::from_millis(given.open_in_millis.unwrap_or(limits::BREAKER_OPEN_MILLIS_DEFAULT)),
    })
}

/// The keys that sign an HTTP backend's requests.
pub fn signing(from: &Backend, path: &str, findings: &mut Findings) -> Option<SigningKeys> {
    let secret = from.signing_secret.as_ref()?;
    if is_unknown(secret.expose()) {
        return Some(SigningKeys::unknown());
    }
    findings.take(format!("{path}.signingSecret"), SigningKeys::parse(secret))
}

/// Which events of a connection wait for each other. None: there are findings.
pub fn order(from: Option<&Settings>, findings: &mut Findings) -> Option<OrderRule> {
    const KEY: &str = "settings.orderingKey";
    let Some(from) = from else { return Some(OrderRule::Connection) };
    let at_once = from.backend_parallelism.unwrap_or(limits::BACKEND_PARALLELISM_DEFAULT);
    match (from.ordering.unwrap_or(Ordering::Connection), &from.ordering_key) {
        (Ordering::Key, Some(path)) => {
            findings.take(KEY, JsonPath::parse(path)).map(|path| OrderRule::Key { path, at_once })
        }
        (Ordering::Key, None) => {
            findings.add(KEY, "is needed with ordering \"key\"");
            None
        }
        (_, Some(_)) => {
            findings.add(KEY, "only belongs to ordering \"key\"");
            None
        }
        (Ordering::Connection, None) => Some(OrderRule::Connection),
        (Ordering::None, None) => Some(OrderRule::None { at_once }),
    }
}

/// How an HTTP backend's events are put together, if they are.
pub fn batch(from: &Backend, destination: &UrlTemplate, path: &str, findings: &mut Findings) -> Option<BatchPolicy> {
    let given = from.batch.as_ref()?;
    let max_events = given.max_events.filter(|events| *events > 1)?;
    let path = format!("{path}.batch");
    if destination.as_constant().is_none() {
        findings
            .add(path.as_str(), "needs a destination without placeholders: a request has events of many connections");
    }
    if from.reply == Some(true) {
        findings.add(path, "cannot be together with \"reply\": one answer is for many events");
    }
    Some(BatchPolicy {
        max_events: super::size(Some(u64::from(max_events)), 0),
        max_delay: Duration::from_millis(given.max_delay_millis.unwrap_or(0)),
        max_bytes: super::size(given.max_bytes, limits::BATCH_BYTES_DEFAULT),
    })
}
