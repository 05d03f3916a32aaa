//! Figures over time, by node: what charts are drawn from. Kept in the nodes' memory for a day.

use std::collections::BTreeMap;

use actix_web::{web, HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cluster_api::hex;
use super::operation::Operation;
use super::problem::Problem;
use super::request::query;
use super::Api;
use crate::observe::{Heard, NodeStats};
use crate::telemetry::history::{Range, Sample};
use crate::telemetry::latency::LATENCY_BUCKETS;

pub fn operations() -> Vec<Operation> {
    vec![Operation::get("/api/v1/stats", || web::to(stats), "getStats")
        .about(
            "Figures over time",
            "Of every node, for charts. Counters are what came within a step, gauges as they were at its end, null is a step \
             in which the node took no sample. Nodes keep them in memory: a node that restarts begins anew.",
        )
        .query::<StatsQuery>()
        .answers::<StatsBody>(200, "The figures; nodes that could not be asked have none")]
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StatsQuery {
    /// 5m (steps of 1 s; default), 1h (10 s) or 24h (300 s).
    range: Option<RangeName>,
    /// Unix seconds: only steps that began then or later.
    since: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(inline)]
enum RangeName {
    #[serde(rename = "5m")]
    FiveMinutes,
    #[serde(rename = "1h")]
    Hour,
    #[serde(rename = "24h")]
    Day,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Stats")]
struct StatsBody {
    range: RangeName,
    step_seconds: u64,
    nodes: Vec<NodeStatsBody>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "NodeStats")]
struct NodeStatsBody {
    node_id: String,
    name: String,
    /// It has answered.
    reachable: bool,
    /// Why it has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Unix seconds at which the first sample's step began.
    from: u64,
    /// The most connections that it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    connections_max: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples: Option<SamplesBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<LatencyBody>,
}

/// One list per figure, all as long as each other.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Samples")]
struct SamplesBody {
    connections: Vec<Option<u64>>,
    opened: Vec<Option<u64>>,
    closed: Vec<Option<u64>>,
    events_in: Vec<Option<u64>>,
    events_out: Vec<Option<u64>>,
    throttled: Vec<Option<u64>>,
    /// By the code of error frames; handshake_refused for refused handshakes.
    errors: BTreeMap<String, Vec<Option<u64>>>,
    backend_p50_millis: Vec<Option<f32>>,
    backend_p99_millis: Vec<Option<f32>>,
    memory_bytes: Vec<Option<u64>>,
}

/// How long backends took to answer within about the last minute.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "LatencyBuckets")]
struct LatencyBody {
    bounds_millis: Vec<f64>,
    /// One more than there are bounds: the last is for what took longer than all of them.
    counts: Vec<u64>,
}

impl From<Vec<Option<Sample>>> for SamplesBody {
    fn from(samples: Vec<Option<Sample>>) -> SamplesBody {
        let mut body = SamplesBody::default();
        let codes = samples.iter().flatten().flat_map(|sample| sample.errors.iter().map(|(code, _)| code.clone()));
        body.errors = codes.map(|code| (code, Vec::new())).collect();
        for sample in samples {
            let of = |pick: fn(&Sample) -> u64| sample.as_ref().map(pick);
            body.connections.push(of(|sample| sample.connections));
            body.opened.push(of(|sample| sample.opened));
            body.closed.push(of(|sample| sample.closed));
            body.events_in.push(of(|sample| sample.events_in));
            body.events_out.push(of(|sample| sample.events_out));
            body.throttled.push(of(|sample| sample.throttled));
            body.memory_bytes.push(of(|sample| sample.memory_bytes));
            body.backend_p50_millis.push(sample.as_ref().and_then(|sample| sample.backend_p50_millis));
            body.backend_p99_millis.push(sample.as_ref().and_then(|sample| sample.backend_p99_millis));
            for (code, counts) in &mut body.errors {
                let count =
                    |sample: &Sample| sample.errors.iter().find(|(known, _)| known == code).map_or(0, |(_, n)| *n);
                counts.push(sample.as_ref().map(count));
            }
        }
        body
    }
}

fn node_body(heard: Heard<NodeStats>) -> NodeStatsBody {
    let (node_id, name) = (hex(heard.node_id), heard.name);
    match heard.said {
        Ok(stats) => NodeStatsBody {
            node_id,
            name,
            reachable: true,
            reason: None,
            from: stats.samples.from,
            connections_max: Some(stats.connections_max),
            latency: Some(LatencyBody {
                bounds_millis: LATENCY_BUCKETS.map(|seconds| seconds * 1000.0).to_vec(),
                counts: stats.samples.latency.to_vec(),
            }),
            samples: Some(stats.samples.samples.into()),
        },
        Err(reason) => NodeStatsBody {
            node_id,
            name,
            reachable: false,
            reason: Some(reason),
            from: 0,
            connections_max: None,
            samples: None,
            latency: None,
        },
    }
}

async fn stats(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let StatsQuery { range, since } = query(&request)?;
    let name = range.unwrap_or(RangeName::FiveMinutes);
    let range = match name {
        RangeName::FiveMinutes => Range::FiveMinutes,
        RangeName::Hour => Range::Hour,
        RangeName::Day => Range::Day,
    };
    let heard = api.observer.stats(range, since.unwrap_or(0)).await;
    let nodes = heard.into_iter().map(node_body).collect();
    Ok(HttpResponse::Ok().json(StatsBody { range: name, step_seconds: range.step_seconds(), nodes }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_is_as_long_as_the_others_and_holes_are_null() {
        let with = |code: &str| Sample { errors: vec![(code.to_owned(), 2)], connections: 5, ..Sample::default() };
        let body = SamplesBody::from(vec![Some(with("no_route")), None, Some(with("invalid_json"))]);
        assert_eq!(body.connections, [Some(5), None, Some(5)]);
        assert_eq!(body.errors["no_route"], [Some(2), None, Some(0)]);
        assert_eq!(body.errors["invalid_json"], [Some(0), None, Some(2)]);
        assert_eq!(body.backend_p50_millis, [None; 3]);
    }
}
