//! What goes through endpoints, routes and backends now, all nodes added up.

use std::collections::BTreeMap;

use actix_web::{web, HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::endpoints_api::document_path;
use super::operation::Operation;
use super::problem::Problem;
use super::request::query;
use super::Api;
use crate::observe::{EndpointTraffic, Heard, NodeTraffic};
use crate::telemetry::latency::quantile_millis;
use crate::telemetry::rates::{BackendCounts, EndpointCounts};
use wsgateway_raft_store::types::Head;

pub fn operations() -> Vec<Operation> {
    vec![Operation::get("/api/v1/traffic", || web::to(traffic), "getTraffic")
        .about(
            "What goes through endpoints now",
            "Rates over about the last ten seconds, of all nodes together, by endpoint, route and backend.",
        )
        .query::<TrafficQuery>()
        .answers::<TrafficBody>(200, "The rates; nodes that could not be asked are named")
        .problem(404, "endpoint_not_found")]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TrafficQuery {
    /// Only of the endpoint with this id.
    endpoint: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Traffic")]
struct TrafficBody {
    /// The time that rates are made of.
    over_seconds: f64,
    /// Nodes that have answered.
    nodes: u64,
    unreachable: Vec<UnheardBody>,
    items: Vec<EndpointTrafficBody>,
}

#[derive(Clone, Serialize, JsonSchema)]
#[schemars(rename = "Unheard")]
pub(super) struct UnheardBody {
    pub node: String,
    pub reason: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "EndpointTraffic")]
struct EndpointTrafficBody {
    endpoint_id: String,
    path: String,
    served: ServedBody,
    connections: u64,
    opened_per_second: f64,
    closed_per_second: f64,
    events_in_per_second: f64,
    events_out_per_second: f64,
    errors_per_second: f64,
    throttled_per_second: f64,
    routes: Vec<RouteTrafficBody>,
}

/// How far its active version has come.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ServedCounts")]
struct ServedBody {
    /// Nodes that serve the active version.
    complete: u64,
    /// Of so many, those that did not answer included.
    of: u64,
    /// Nodes on which it does not work.
    degraded: u64,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "RouteTraffic")]
struct RouteTrafficBody {
    /// Its name. Empty: events that no route took.
    route: String,
    /// Its type: names are unique among routes of one type. Empty for those events.
    r#type: String,
    /// Those that failed included.
    events_per_second: f64,
    /// By code, per second.
    errors: BTreeMap<String, f64>,
    backends: Vec<BackendTrafficBody>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "BackendTraffic")]
struct BackendTrafficBody {
    /// As metrics have it: type/route/index.
    backend: String,
    index: u64,
    requests_per_second: f64,
    failed_per_second: f64,
    p50_millis: Option<f64>,
    p99_millis: Option<f64>,
}

/// No more is told than is known.
fn hundredths(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}

/// `type/route/index`: route names have no slash.
fn route_and_index(label: &str) -> Option<(&str, u64)> {
    let (route, index) = label.rsplit_once('/')?;
    Some((route, index.parse().ok()?))
}

fn routes(counts: EndpointCounts, per_second: impl Fn(u64) -> f64) -> Vec<RouteTrafficBody> {
    let mut backends = BTreeMap::<String, Vec<BackendTrafficBody>>::new();
    let backend_body = |label: &str, index, counts: &BackendCounts| BackendTrafficBody {
        backend: label.to_owned(),
        index,
        requests_per_second: per_second(counts.requests),
        failed_per_second: per_second(counts.failed),
        p50_millis: quantile_millis(&counts.latency, 0.5).map(hundredths),
        p99_millis: quantile_millis(&counts.latency, 0.99).map(hundredths),
    };
    for (label, counts) in &counts.backends {
        if let Some((route, index)) = route_and_index(label) {
            backends.entry(route.to_owned()).or_default().push(backend_body(label, index, counts));
        }
    }
    let mut routes = Vec::new();
    for (route, counts) in counts.routes {
        let errors = counts.errors.into_iter().map(|(code, count)| (code, per_second(count))).collect();
        let backends = backends.remove(&route).unwrap_or_default();
        routes.push(route_body(&route, per_second(counts.events), errors, backends));
    }
    // Answered just now, for events of before.
    routes.extend(backends.into_iter().map(|(route, backends)| route_body(&route, 0.0, BTreeMap::new(), backends)));
    routes
}

/// `label`: `type/name`; a node of before says the name alone.
fn route_body(
    label: &str,
    events_per_second: f64,
    errors: BTreeMap<String, f64>,
    backends: Vec<BackendTrafficBody>,
) -> RouteTrafficBody {
    let (r#type, route) = label.split_once('/').unwrap_or(("", label));
    RouteTrafficBody { route: route.to_owned(), r#type: r#type.to_owned(), events_per_second, errors, backends }
}

/// What all nodes say of one endpoint.
#[derive(Default)]
struct Sum {
    connections: u64,
    complete: u64,
    degraded: u64,
    counts: EndpointCounts,
}

impl Sum {
    /// `factor`: of the time that all are told of to that of this node's figures.
    fn add(&mut self, traffic: &EndpointTraffic, active: u64, factor: f64) {
        self.connections += traffic.connections;
        self.complete += u64::from(traffic.version == Some(active) && !traffic.degraded);
        self.degraded += u64::from(traffic.degraded);
        self.counts.add(&traffic.counts.clone().scaled(factor));
    }
}

fn item(head: &Head, path: String, sum: Sum, of: u64, per_second: impl Fn(u64) -> f64) -> EndpointTrafficBody {
    let Sum { connections, complete, degraded, counts } = sum;
    let events: u64 = counts.routes.values().map(|route| route.events).sum();
    let errors: u64 = counts.routes.values().flat_map(|route| route.errors.values()).sum();
    EndpointTrafficBody {
        endpoint_id: head.id.clone(),
        path,
        served: ServedBody { complete, of, degraded },
        connections,
        opened_per_second: per_second(counts.opened),
        closed_per_second: per_second(counts.closed),
        events_in_per_second: per_second(events),
        events_out_per_second: per_second(counts.events_out),
        errors_per_second: per_second(errors),
        throttled_per_second: per_second(counts.throttled),
        routes: routes(counts, per_second),
    }
}

fn unheard(heard: &[Heard<NodeTraffic>]) -> Vec<UnheardBody> {
    let unheard = heard.iter().filter_map(|node| {
        let reason = node.said.as_ref().err()?.clone();
        Some(UnheardBody { node: node.name.clone(), reason })
    });
    unheard.collect()
}

async fn traffic(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let TrafficQuery { endpoint } = query(&request)?;
    let mut heads = match &endpoint {
        Some(id) => vec![api.config.head(id)?],
        None => api.config.list(),
    };
    heads.sort_by(|a, b| a.id.cmp(&b.id));
    let heard = api.observer.traffic(endpoint.as_deref()).await;
    let said: Vec<&NodeTraffic> = heard.iter().filter_map(|node| node.said.as_ref().ok()).collect();
    // One that has just started has figures of less time; of less than a second nothing is concluded.
    let over = |traffic: &NodeTraffic| traffic.over_millis.max(1000) as f64 / 1000.0;
    let over_seconds = said.iter().map(|traffic| over(traffic)).fold(1.0, f64::max);
    let per_second = |count: u64| hundredths(count as f64 / over_seconds);
    let active: BTreeMap<&str, u64> = heads.iter().map(|head| (head.id.as_str(), head.active_version)).collect();
    let mut sums = BTreeMap::<&str, Sum>::new();
    for traffic in &said {
        let factor = over_seconds / over(traffic);
        for endpoint in &traffic.endpoints {
            if let Some(active) = active.get(endpoint.id.as_str()) {
                sums.entry(endpoint.id.as_str()).or_default().add(endpoint, *active, factor);
            }
        }
    }
    let of = heard.len() as u64;
    let mut items = Vec::new();
    for head in &heads {
        // Deleted meanwhile: not an item any more.
        let Ok(view) = api.config.get(&head.id) else { continue };
        let sum = sums.remove(head.id.as_str()).unwrap_or_default();
        items.push(item(head, document_path(&view.version.document), sum, of, per_second));
    }
    let (nodes, unreachable) = (said.len() as u64, unheard(&heard));
    Ok(HttpResponse::Ok().json(TrafficBody { over_seconds, nodes, unreachable, items }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::rates::RouteCounts;

    #[test]
    fn backends_are_with_their_routes() {
        assert_eq!(route_and_index("custom/My route/12"), Some(("custom/My route", 12)));
        assert_eq!(route_and_index("custom/a.b/x"), None);
        let mut counts = EndpointCounts::default();
        let errors = BTreeMap::from([("delivery_failed".to_owned(), 5)]);
        counts.routes.insert("custom/a".to_owned(), RouteCounts { events: 20, errors });
        counts.routes.insert("default/a".to_owned(), RouteCounts { events: 70, ..RouteCounts::default() });
        for label in ["custom/a/0", "custom/a/1", "custom/late/0", "default/a/0"] {
            counts
                .backends
                .insert(label.to_owned(), BackendCounts { requests: 10, failed: 5, ..BackendCounts::default() });
        }
        let routes = routes(counts, |count| count as f64 / 10.0);
        let seen: Vec<_> = routes
            .iter()
            .map(|it| (it.r#type.as_str(), it.route.as_str(), it.events_per_second, it.backends.len()))
            .collect();
        assert_eq!(seen, [("custom", "a", 2.0, 2), ("default", "a", 7.0, 1), ("custom", "late", 0.0, 1)]);
        assert_eq!(routes[0].errors["delivery_failed"], 0.5);
        assert_eq!((routes[0].backends[1].index, routes[0].backends[1].failed_per_second), (1, 0.5));
    }
}
