//! Client and admin listeners on the threads that carry connections.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, Protocol};
use actix_rt::net::TcpStream;
use actix_server::{Server, ServerHandle};
use actix_service::{fn_service, map_config, IntoServiceFactory, ServiceFactoryExt};
use actix_web::dev::AppConfig;

use super::replays;
use crate::admin::{self, Api};
use crate::authentication::Authenticator;
use crate::backends::kafka::KafkaProducers;
use crate::backends::{BackendPool, Destinations};
use crate::config::registry::Registry;
use crate::connections::Hub;
use crate::egress::Egress;
use crate::inbound::resume::OtherNodes;
use crate::inbound::{arrive, InboundWorker};
use crate::listener::{ClientListener, ClientSocket, ListenerTls};
use crate::settings::ClientSettings;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::Traces;
use crate::wills::Wills;

/// From an accepted socket of the admin listener to its first request: TLS, and again the head of the request.
const ADMIN_REQUEST_DEADLINE: Duration = Duration::from_secs(5);

/// What each worker's inbound side is made of.
#[derive(Clone)]
pub(super) struct InboundParts {
    pub hub: Arc<Hub>,
    pub registry: Arc<Registry>,
    pub metrics: Metrics,
    pub settings: Arc<ClientSettings>,
    pub listener: Arc<ClientListener>,
    pub authenticator: Arc<Authenticator>,
    pub other_nodes: Arc<dyn OtherNodes>,
    pub wills: Arc<Wills>,
    pub kafka: KafkaProducers,
    pub destinations: Destinations,
    pub egress: Egress,
    pub traces: Traces,
}

impl InboundParts {
    /// On a worker's thread.
    fn on_worker(&self) -> Rc<InboundWorker> {
        let (kafka, destinations, egress) = (self.kafka.clone(), self.destinations.clone(), self.egress.clone());
        let pool = BackendPool::new(kafka, destinations, egress, self.traces.tracer.clone());
        let worker = self.hub.this_worker();
        let (registry, metrics) = (self.registry.clone(), self.metrics.clone());
        let settings = (self.settings.clone(), self.listener.clone());
        let others = (self.other_nodes.clone(), self.wills.clone());
        let made = InboundWorker::new(
            worker,
            registry,
            metrics,
            settings,
            self.authenticator.clone(),
            others,
            (pool, self.traces.clone()),
        );
        replays::set_worker(&made);
        made
    }
}

/// Client and admin listeners are two services of one server and share its workers, so that a push whose connection
/// lives on the worker that received it is written on the spot.
pub(super) fn start(
    client: TcpListener,
    (admin, admin_tls): (TcpListener, Option<Arc<ListenerTls>>),
    workers: usize,
    inbound: InboundParts,
    api: Arc<Api>,
) -> anyhow::Result<(ServerHandle, tokio::task::JoinHandle<std::io::Result<()>>)> {
    let max = inbound.settings.max_connections as usize;
    let server = Server::build()
        .workers(workers)
        .disable_signals()
        .shutdown_timeout(2)
        // Counts handshakes and admin calls only: connections are counted when they are admitted.
        .max_concurrent_connections((max / workers).max(64))
        .listen("client", client, move || {
            let inbound = inbound.on_worker();
            fn_service(move |io: TcpStream| {
                let inbound = inbound.clone();
                async move {
                    arrive::accept(inbound, io).await;
                    Ok::<_, std::convert::Infallible>(())
                }
            })
        })?
        .listen("admin", admin, move || {
            let tls = admin_tls.clone();
            let api = api.clone();
            let hub = api.hub.clone();
            let app = actix_web::App::new()
                .wrap(admin::shortcut(api.clone()))
                .configure(move |routes| admin::routes(routes, api.clone()));
            let _attached = hub.this_worker();
            let config = AppConfig::default();
            let factory = app.into_factory().map_err(|err: actix_web::Error| err.error_response());
            let http = HttpService::build()
                .keep_alive(Duration::from_secs(75))
                .client_request_timeout(ADMIN_REQUEST_DEADLINE)
                .finish(map_config(factory, move |()| config.clone()));
            let receive = fn_service(move |io: TcpStream| receive_admin(tls.clone(), io));
            receive.map_err(DispatchError::Io).and_then(http)
        })?
        .run();
    let handle = server.handle();
    Ok((handle, tokio::task::spawn_local(server)))
}

/// Brings a socket of the admin listener to where its first request begins.
async fn receive_admin(
    tls: Option<Arc<ListenerTls>>,
    io: TcpStream,
) -> Result<(ClientSocket, Protocol, Option<SocketAddr>), io::Error> {
    let peer = io.peer_addr().ok();
    let io = match tls {
        None => ClientSocket::from(io),
        Some(tls) => tokio::time::timeout(ADMIN_REQUEST_DEADLINE, tls.accept(io))
            .await
            .map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))??,
    };
    Ok((io, Protocol::Http1, peer))
}
