//! Endpoints that are measured against each other on the gateway: the same load with different endpoints, one after the
//! other in each round, the first of which is what the others are multiples of.

use std::net::SocketAddr;

use serde_json::{json, Value};

use crate::gateway::{endpoint, http_backend};
use crate::meter::Ends;
use crate::rules;

/// Events in a request at most.
const BATCH_EVENTS_MAX: usize = 100;

pub struct Variant {
    pub name: String,
    pub endpoint: Value,
    pub ends: Ends,
    /// Operators who look on.
    pub watchers: usize,
}

/// A base and what is measured by it.
pub struct Comparison {
    /// The figure's name: what the others are multiples of.
    pub figure: &'static str,
    /// The base first.
    pub variants: Vec<Variant>,
    /// Whether the number of the backend's requests says something.
    pub requests: bool,
}

pub fn rules(backend: SocketAddr) -> Comparison {
    let variant = |(name, endpoint): (&str, Value)| Variant {
        name: name.to_owned(),
        endpoint,
        ends: Ends::Received,
        watchers: 0,
    };
    let variants = rules::endpoints(backend).into_iter().map(variant).collect();
    Comparison { figure: "CPU, multiple of no rules", variants, requests: false }
}

/// Events to the backend `default`, which is called `to`, without acks and with them when events are delivered.
pub fn acks(connect: SocketAddr, to: &str, default: &Value) -> Comparison {
    let plain = endpoint(http_backend(connect), default.clone());
    let mut with_acks = plain.clone();
    with_acks["ack"] = json!({"when": "delivered"});
    let variants = vec![
        Variant { name: format!("events to {to}, no acks"), endpoint: plain, ends: Ends::Received, watchers: 0 },
        Variant { name: format!("events to {to}, acks"), endpoint: with_acks, ends: Ends::Acknowledged, watchers: 0 },
    ];
    Comparison { figure: "CPU, multiple of no acks", variants, requests: false }
}

/// The same events with nobody looking on, and with operators at their pages and the tail.
pub fn watched(backend: SocketAddr) -> Comparison {
    let of = |(name, watchers): (&str, usize)| {
        let endpoint = endpoint(http_backend(backend), http_backend(backend));
        Variant { name: name.to_owned(), endpoint, ends: Ends::Received, watchers }
    };
    let variants = [("nobody watches", 0), ("one watches", 1), ("five watch", 5)].map(of).into();
    Comparison { figure: "CPU, multiple of nobody watching", variants, requests: false }
}

/// Events to one HTTP service, in a request each and many in a request.
pub fn batches(backend: SocketAddr) -> Comparison {
    let single = endpoint(http_backend(backend), http_backend(backend));
    let mut batched = single.clone();
    batched["routes"][1]["backends"][0]["batch"] = json!({"maxEvents": BATCH_EVENTS_MAX});
    let variant = |name: String, endpoint| Variant { name, endpoint, ends: Ends::Received, watchers: 0 };
    let variants = vec![
        variant("single requests".to_owned(), single),
        variant(format!("batches of up to {BATCH_EVENTS_MAX}"), batched),
    ];
    Comparison { figure: "CPU, multiple of single requests", variants, requests: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_differ_from_their_base_in_the_field_that_is_measured() {
        let address: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let acks = acks(address, "HTTP", &http_backend(address)).variants;
        assert_eq!(acks[0].endpoint.get("ack"), None);
        assert_eq!(acks[1].endpoint["ack"]["when"], "delivered");
        let batches = batches(address).variants;
        assert_eq!(batches[0].endpoint["routes"][1]["backends"][0].get("batch"), None);
        assert_eq!(batches[1].endpoint["routes"][1]["backends"][0]["batch"]["maxEvents"], 100);
        assert_eq!(batches[1].endpoint["routes"][0], batches[0].endpoint["routes"][0]);
    }
}
