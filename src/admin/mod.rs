//! The HTTP surface for operators and for services that push (API.md): the same on every node. A front door: imports
//! config, push, explain and the cluster's floors; never the inbound side.

mod access;
mod body;
mod cluster_api;
mod connections_api;
mod diff_api;
mod endpoints_api;
mod explain_api;
mod health;
pub mod problem;
mod push_shortcut;

use std::sync::Arc;

use actix_web::{web, HttpResponse};

use crate::config::store::ConfigStore;
use crate::connections::Hub;
use crate::push::Pushes;
use crate::settings::AdminSettings;
use crate::telemetry::Metrics;
use access::Access;
pub use cluster_api::GossipView;
use problem::Problem;
use prometheus_client::metrics::counter::Counter;
pub use push_shortcut::PushShortcut;

/// What the handlers work with; one per node.
pub struct Api {
    pub config: Arc<ConfigStore>,
    pub pushes: Arc<Pushes>,
    pub hub: Arc<Hub>,
    pub metrics: Metrics,
    /// The counter of successful pushes, at hand.
    pub pushes_queued: Counter,
    pub settings: AdminSettings,
    pub gossip: GossipView,
    pub started: std::time::Instant,
}

/// The middleware that takes pushes out before routing; see its module.
pub fn shortcut(api: Arc<Api>) -> PushShortcut {
    let access = Access::new(api.settings.token.as_deref());
    PushShortcut { api: web::Data::from(api), access }
}

/// All routes of the admin listener.
pub fn routes(app: &mut web::ServiceConfig, api: Arc<Api>) {
    let access = Access::new(api.settings.token.as_deref());
    app.app_data(web::Data::from(api))
        .configure(health::routes)
        .service(resource("/metrics").wrap(access.clone()).route(web::get().to(health::metrics)))
        .service(
            web::scope("/api/v1")
                .wrap(access)
                .configure(endpoints_api::routes)
                .configure(explain_api::routes)
                .configure(diff_api::routes)
                .configure(connections_api::routes)
                .configure(cluster_api::routes),
        )
        .default_service(web::to(not_found));
}

/// A resource that answers other methods with 405 as a problem document.
fn resource(path: &str) -> actix_web::Resource {
    web::resource(path).default_service(web::to(method_not_allowed))
}

async fn method_not_allowed(request: actix_web::HttpRequest) -> HttpResponse {
    let detail = format!("{} is not for {}", request.method(), request.path());
    Problem::new(405, "method_not_allowed", detail).into()
}

async fn not_found(path: actix_web::HttpRequest) -> HttpResponse {
    Problem::new(404, "not_found", format!("there is nothing at {} {}", path.method(), path.path())).into()
}
