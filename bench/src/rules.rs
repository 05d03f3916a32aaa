//! What an endpoint's rules – routes, schemas, templates – add to an event: the same load on the same gateway with
//! different endpoints, one after the other in each round, as multiples of the endpoint without rules. Every event still
//! goes to the one HTTP backend, which knows it by its first three members.

use std::net::SocketAddr;

use serde_json::{json, Value};

use crate::gateway::{endpoint, http_backend};

/// Routes of the endpoints that have many.
const ROUTES: usize = 20;

/// The endpoint that all others are measured by.
const PLAIN: &str = "no rules";

/// Name and endpoint of each load, the plain one first.
pub fn endpoints(backend: SocketAddr) -> Vec<(&'static str, Value)> {
    let backend = || http_backend(backend);
    let plain = || endpoint(backend(), backend());
    let with = |change: &dyn Fn(&mut Value)| {
        let mut endpoint = plain();
        change(&mut endpoint);
        endpoint
    };
    vec![
        (PLAIN, plain()),
        (
            "20 custom routes by key",
            with(&|endpoint| {
                endpoint["routeSelector"] = json!("$.action");
                custom_routes(
                    endpoint,
                    |n| ("key", json!(if n + 1 == ROUTES { "bench".to_owned() } else { format!("other {n}") })),
                    backend,
                );
            }),
        ),
        (
            "20 JSONPath expressions",
            with(&|endpoint| {
                // Twenty different paths, none of which ends the search but the last.
                let test = |n: usize| match n + 1 == ROUTES {
                    true => json!({"equal": {"path": "$.action", "value": "bench"}}),
                    false => json!({"equal": {"path": format!("$.data.field{n}"), "value": n}}),
                };
                custom_routes(endpoint, |n| ("expression", test(n)), backend);
            }),
        ),
        ("a JSON Schema", with(&|endpoint| endpoint["routes"][1]["schema"] = schema())),
        ("an inbound template", with(&|endpoint| endpoint["routes"][1]["transform"] = json!({ "inbound": TEMPLATE }))),
        ("limits of scope node", with(&|endpoint| endpoint["throttling"] = limits("node"))),
        ("limits of scope cluster", with(&|endpoint| endpoint["throttling"] = limits("cluster"))),
    ]
}

/// Members by name, a filter, the connection, a text inside quotes.
const TEMPLATE: &str = r#"{"run":{{ event.run }},"slot":{{ event.slot }},"ts":{{ event.ts }},"action":{{ event.action | upper }},"from":"connection {{ connection.id }}","pad":{{ event.pad }}}"#;

/// Every limit, none of them ever exceeded.
fn limits(scope: &str) -> Value {
    let rate = json!({"rate": 1_000_000, "burst": 1_000_000});
    let identity = json!({"key": "ip", "rate": 1_000_000, "burst": 1_000_000});
    json!({"scope": scope, "maxConnections": 100_000, "connectionsPerSecond": rate, "messagesPerSecond": rate,
        "perConnection": rate, "perIdentity": identity})
}

fn schema() -> Value {
    json!({
        "type": "object",
        "required": ["run", "slot", "ts", "action"],
        "properties": {
            "run": {"type": "integer", "minimum": 0}, "slot": {"type": "integer", "minimum": 0}, "ts": {"type": "integer"},
            "action": {"enum": ["bench", "other"]}, "pad": {"type": "string", "pattern": "^x*$", "maxLength": 65_536},
        },
        "additionalProperties": false,
    })
}

fn custom_routes(
    endpoint: &mut Value,
    condition: impl Fn(usize) -> (&'static str, Value),
    backend: impl Fn() -> Value,
) {
    let made = (0..ROUTES).map(|n| {
        let (field, value) = condition(n);
        let mut route = json!({"type": "custom", "name": format!("route {n}"), "backends": [backend()]});
        route[field] = value;
        route
    });
    if let Some(Value::Array(routes)) = endpoint.get_mut("routes") {
        routes.extend(made);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_endpoints_differ_and_have_their_routes() {
        let endpoints = endpoints("127.0.0.1:9".parse().unwrap());
        let routes: Vec<_> =
            endpoints.iter().map(|(_, endpoint)| endpoint["routes"].as_array().unwrap().len()).collect();
        assert_eq!(routes, [2, 22, 22, 2, 2, 2, 2]);
        assert_eq!(endpoints[1].1["routes"][21]["key"], "bench");
        assert_eq!(endpoints[2].1["routes"][2]["expression"]["equal"]["path"], "$.data.field0");
        assert_eq!(endpoints[0].0, PLAIN);
    }
}
