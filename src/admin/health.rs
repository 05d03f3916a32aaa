//! Is this node alive, is it ready, what are its figures? Liveness and readiness answer without a token.

use actix_web::{web, HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::Serialize;

use super::openapi::Text;
use super::operation::Operation;
use super::problem::Problem;
use super::Api;

/// OpenMetrics text, version 1.0.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Serialize, JsonSchema)]
struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Health {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<Vec<Check>>,
}

/// Probes are forgiving: other parameters are not looked at.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "described, never made")]
struct ProbeQuery {
    /// Lists the checks; its value means nothing.
    verbose: Option<String>,
}

pub fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/livez", || web::to(livez), "getLiveness")
            .about("Is it alive?", "")
            .open()
            .ignores_unknown_query::<ProbeQuery>()
            .answers::<Health>(200, "It is"),
        Operation::get("/readyz", || web::to(readyz), "getReadiness")
            .about("Is it ready?", "")
            .open()
            .ignores_unknown_query::<ProbeQuery>()
            .answers::<Health>(200, "It is")
            .answers::<Health>(503, "It is in no cluster, or it leaves"),
        Operation::get("/metrics", || web::to(metrics), "getMetrics")
            .about("Figures", "")
            .answers_as::<Text>(200, "OpenMetrics text", OPEN_METRICS, &[])
            .problem(500, "metrics"),
    ]
}

async fn livez(request: HttpRequest, api: web::Data<Api>) -> HttpResponse {
    health(&request, &api, Vec::new())
}

async fn readyz(request: HttpRequest, api: web::Data<Api>) -> HttpResponse {
    health(&request, &api, readiness_checks(&api))
}

fn health(request: &HttpRequest, api: &Api, checks: Vec<Check>) -> HttpResponse {
    let ok = checks.iter().all(|check| check.ok);
    let mut answer = if ok { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    let verbose = request.query_string().starts_with("verbose") || !ok;
    let uptime_seconds = verbose.then(|| api.started.elapsed().as_secs());
    answer.json(Health { ok, uptime_seconds, checks: verbose.then_some(checks) })
}

/// Ready: knows a configuration and is not leaving. A cluster without a leader goes on serving, so its nodes are ready.
fn readiness_checks(api: &Api) -> Vec<Check> {
    let status = api.config.raft().status();
    let degraded = api.config.degraded();
    let applied = status.applied_index;
    // Of what was committed before this node joined: endpoints, and the tokens that it has to know to let anybody in.
    let caught_up = api.config.is_configured() && api.tokens.is_caught_up();
    vec![
        Check {
            name: "configuration",
            ok: caught_up,
            detail: match applied {
                _ if status.voters.is_empty() => "not yet part of a cluster".to_owned(),
                Some(index) if caught_up => format!("applied index {index}"),
                _ => "has not caught up with the cluster yet".to_owned(),
            },
        },
        Check { name: "draining", ok: !api.hub.is_draining(), detail: String::new() },
        Check {
            name: "leader",
            ok: true, // for information: traffic does not need one
            detail: status.leader.map_or("none known".to_owned(), |leader| format!("{leader:016x}")),
        },
        Check {
            name: "disk",
            ok: true, // traffic needs none
            detail: match (api.config.raft().is_low_on_room(), api.config.raft().free_bytes()) {
                (false, Ok(free)) => format!("{free} bytes free"),
                (true, Ok(free)) => format!("full, {free} bytes free: this node takes part in no change"),
                (_, Err(err)) => err.to_string(),
            },
        },
        Check {
            name: "endpoints",
            ok: true, // the last good versions are served
            detail: match degraded.len() {
                0 => "all active versions are live".to_owned(),
                count => format!("{count} not at their active version: {degraded:?}"),
            },
        },
    ]
}

async fn metrics(api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let text = api.metrics.render().map_err(|err| Problem::new(500, "metrics", err.to_string()))?;
    Ok(HttpResponse::Ok().content_type(OPEN_METRICS).body(text))
}
