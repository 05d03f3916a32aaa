//! The HTTP surface for operators and for services that push (docs/http-api.md): the same on every node. A front door: imports
//! config, push, explain and the cluster's floors; never the inbound side.

mod access;
mod asyncapi;
mod asyncapi_api;
mod audit_api;
mod aws_api;
mod backup_api;
mod batch_api;
mod body;
mod change;
mod cluster_api;
mod connections_api;
mod connections_query_api;
mod diff_api;
mod endpoints_api;
mod explain_api;
mod groups_api;
mod health;
mod live_api;
mod live_state;
mod many_api;
mod nodes_api;
mod openapi;
mod operation;
pub mod problem;
mod push_shortcut;
mod replay_api;
mod request;
mod rollout_api;
pub mod rules;
mod stats_api;
mod tokens_api;
mod traffic_api;
mod ui;
mod whoami_api;

use std::sync::Arc;

use actix_web::{web, HttpResponse};

use crate::access::audit::AuditLog;
use crate::access::Tokens;
use crate::config::rollout::Rollouts;
use crate::config::store::ConfigStore;
use crate::connections::Hub;
use crate::nodes::Nodes;
use crate::observe::Observer;
use crate::push::Pushes;
use crate::settings::AdminSettings;
use crate::telemetry::Metrics;
use access::{not_found, Access};
pub use cluster_api::GossipView;
pub use live_api::Streams;
use operation::{register, Operation};
use prometheus_client::metrics::counter::Counter;
pub use push_shortcut::PushShortcut;
pub use replay_api::{Replayed, Replays};

/// What the handlers work with; one per node.
pub struct Api {
    pub config: Arc<ConfigStore>,
    pub rollouts: Rollouts,
    pub tokens: Arc<Tokens>,
    pub audit: Arc<AuditLog>,
    pub pushes: Arc<Pushes>,
    pub hub: Arc<Hub>,
    pub metrics: Metrics,
    /// The counter of successful pushes, at hand.
    pub pushes_queued: Counter,
    pub settings: AdminSettings,
    pub replays: Box<dyn Replays>,
    pub gossip: GossipView,
    pub nodes: Arc<Nodes>,
    pub observer: Arc<Observer>,
    pub streams: Streams,
    pub started: std::time::Instant,
}

fn access(api: &Api) -> Access {
    Access::new(api.tokens.clone(), api.metrics.clone())
}

/// The middleware that takes pushes out before routing; see its module.
pub fn shortcut(api: Arc<Api>) -> PushShortcut {
    let access = access(&api);
    PushShortcut { api: web::Data::from(api), access }
}

/// Everything that the admin listener serves: what the router and the reference are made from.
fn operations() -> Vec<Operation> {
    [
        endpoints_api::operations(),
        explain_api::operations(),
        diff_api::operations(),
        asyncapi_api::operations(),
        connections_api::operations(),
        groups_api::operations(),
        many_api::operations(),
        batch_api::operations(),
        connections_query_api::operations(),
        replay_api::operations(),
        rollout_api::operations(),
        cluster_api::operations(),
        nodes_api::operations(),
        backup_api::operations(),
        tokens_api::operations(),
        audit_api::operations(),
        whoami_api::operations(),
        stats_api::operations(),
        traffic_api::operations(),
        live_api::operations(),
        openapi::operations(),
        health::operations(),
        aws_api::operations(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// All routes of the admin listener.
pub fn routes(app: &mut web::ServiceConfig, api: Arc<Api>) {
    let access = access(&api);
    app.app_data(web::Data::from(api)).app_data(web::Data::new(access.clone()));
    register(app, &operations(), &access);
    ui::routes(app);
    app.default_service(web::to(nothing));
}

async fn nothing(request: actix_web::HttpRequest) -> HttpResponse {
    not_found(&request).into()
}
