//! Is this node alive, is it ready, what are its figures? Liveness and readiness answer without a token.

use actix_web::{web, HttpRequest, HttpResponse, Resource};
use serde::Serialize;

use super::problem::Problem;
use super::{resource, Api};

/// OpenMetrics text, version 1.0.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    detail: String,
}

pub fn routes(app: &mut web::ServiceConfig) {
    app.service(probe("/livez", false)).service(probe("/readyz", true));
}

fn probe(path: &'static str, readiness: bool) -> Resource {
    resource(path).route(web::get().to(move |api: web::Data<Api>, request: HttpRequest| async move {
        let checks = if readiness { readiness_checks(&api) } else { Vec::new() };
        let ok = checks.iter().all(|check| check.ok);
        let mut answer = if ok { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
        if request.query_string().starts_with("verbose") || !ok {
            let uptime_seconds = api.started.elapsed().as_secs();
            answer.json(serde_json::json!({"ok": ok, "uptimeSeconds": uptime_seconds, "checks": checks}))
        } else {
            answer.json(serde_json::json!({"ok": ok}))
        }
    }))
}

/// Ready: knows a configuration and is not leaving. A cluster without a leader goes on serving, so its nodes are ready.
fn readiness_checks(api: &Api) -> Vec<Check> {
    let status = api.config.raft().status();
    let degraded = api.config.degraded();
    let applied = status.applied_index;
    vec![
        Check {
            name: "configuration",
            ok: api.config.is_configured(),
            detail: match applied {
                _ if status.voters.is_empty() => "not yet part of a cluster".to_owned(),
                Some(index) if api.config.is_configured() => format!("applied index {index}"),
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
            name: "endpoints",
            ok: true, // the last good versions are served
            detail: match degraded.len() {
                0 => "all active versions are live".to_owned(),
                count => format!("{count} not at their active version: {degraded:?}"),
            },
        },
    ]
}

pub async fn metrics(api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let text = api.metrics.render().map_err(|err| Problem::new(500, "metrics", err.to_string()))?;
    Ok(HttpResponse::Ok().content_type(OPEN_METRICS).body(text))
}
