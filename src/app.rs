//! The only room that knows every room: starts a node, wires the rooms together, waits for a signal, drains.
//!
//! Threads: the actix server's workers carry connections and answer the admin listener; Raft, RocksDB and peer links run
//! on a tokio runtime of their own; supervisors have an arbiter of their own.

mod facts;
mod local_connections;
mod observing;
mod peer_tls;
mod replays;
mod server;
mod shares;
mod sources;
mod tunnels;
mod wills;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_rt::Arbiter;
use actix_server::ServerHandle;
use anyhow::Context;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use wsgateway_cluster::membership::{Membership, MembershipOptions, GOSSIP_INTERVAL};
use wsgateway_cluster::tcp::{PeerTls, TcpOptions, TcpTransport};
use wsgateway_cluster::{kinds, Identity, PeerTransport, Services};
use wsgateway_otlp::{Exporting, Tracer};
use wsgateway_raft_store::{Disk, Ended, RaftStore, StoreOptions};

use local_connections::OwnConnections;
use server::InboundParts;
use tunnels::{OwnArrivals, OwnTunnels};

use crate::access::audit::AuditLog;
use crate::access::Tokens;
use crate::admin::{Api, Streams};
use crate::authentication::{Authenticator, Outbound};
use crate::backends::kafka::KafkaProducers;
use crate::backends::Destinations;
use crate::config::registry::Registry;
use crate::config::rollout::{self, PeerRollouts, Rollouts};
use crate::config::secrets::NodeSecrets;
use crate::config::store::ConfigStore;
use crate::config::validate::NodeFacts;
use crate::connections::{Budget, Hub, Supervisors};
use crate::egress::Egress;
use crate::listener::{ClientCertificates, ClientListener, ListenerTls};
use crate::nodes::{self, Nodes};
use crate::push::{PeerPushes, Pushes, TunnelEnds};
use crate::settings::{client_tls as outbound_tls, raise_file_limit, Settings};
use crate::telemetry::logs;
use crate::telemetry::metrics::{Metrics, PushLabels};
use crate::telemetry::traces::{Traces, LAST_SPANS_WITHIN};
use crate::throttle;
use crate::wills::{Keeper, Surroundings, Wills};

/// Gossip of other products on the same network is not ours.
const GOSSIP_LABEL: &str = "wsgateway";

/// Threads of the cluster runtime: one applies and serves peers while another waits for the disk.
const CLUSTER_THREADS: usize = 2;

/// Threads that hand over what sources read: one works while another waits for its turn at a partition's pause.
const SOURCE_THREADS: usize = 2;

/// Connections waiting to be accepted; reconnect storms come in thousands.
const BACKLOG: i32 = 4096;

/// After the last connection is closed, answers of backends are waited for so long.
/// (a draining connection waits 10 s for its last answers, then its disconnect event needs its backend's time).
const DELIVERIES_DEADLINE: Duration = Duration::from_secs(20);

/// Runs a node until it is told to stop.
pub async fn serve(mut settings: Settings) -> anyhow::Result<()> {
    avoid_huge_pages();
    announce_limits(&mut settings)?;
    let cluster = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CLUSTER_THREADS)
        .thread_name("cluster")
        .enable_all()
        .build()
        .context("cluster runtime")?;
    let ended = match Node::start(settings, &cluster).await {
        Ok(node) => node.run().await,
        Err(err) => Err(err),
    };
    // The storage has been told to stop and has; what still runs may not hold up the process, nor be waited for here.
    cluster.shutdown_background();
    ended
}

/// Connections come and go in small pieces: huge pages would keep 2 MiB for what is left of each (a quarter more memory
/// per idle connection, measured).
fn avoid_huge_pages() {
    // SAFETY: takes plain numbers and changes how this process's memory is paged, nothing else.
    if unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) } != 0 {
        tracing::debug!("huge pages stay on: {}", std::io::Error::last_os_error());
    }
}

fn announce_limits(settings: &mut Settings) -> anyhow::Result<()> {
    let limit = raise_file_limit().context("limit of open files")?;
    settings.fit_connections(&limit)?;
    let room = settings.client.max_connections;
    tracing::info!(
        open_files = limit.now,
        max_connections = room,
        "the limit of {} open files allows {room} client connections",
        limit.now
    );
    Ok(())
}

fn bind(address: SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    let bound = || -> std::io::Result<TcpListener> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    bound().with_context(|| format!("{what} listener on {address}"))
}

/// The parts of a running node.
struct Node {
    settings: Settings,
    hub: Arc<Hub>,
    store: RaftStore,
    nodes: Arc<Nodes>,
    wills: Inheritance,
    transport: Arc<TcpTransport>,
    membership: Arc<Membership>,
    gossiping: tokio::task::JoinHandle<()>,
    kafka: KafkaProducers,
    destinations: Destinations,
    sources: Sources,
    /// The last spans are sent when everything else has ended.
    exporting: Exporting,
    server: ServerHandle,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
    cluster: tokio::runtime::Handle,
}

/// What is said of connections whose node is dead: this node's, and those of others.
struct Inheritance {
    own: Arc<Wills>,
    keeper: Arc<Keeper>,
    around: Surroundings,
}

/// What lives on the cluster runtime.
struct ClusterSide {
    identity: Identity,
    services: Services,
    transport: Arc<TcpTransport>,
    membership: Arc<Membership>,
    store: RaftStore,
    peer_tls: Option<peer_tls::Followed>,
}

impl Node {
    async fn start(settings: Settings, cluster: &Runtime) -> anyhow::Result<Node> {
        let client_tls =
            ListenerTls::load("client", &settings.client.tls, ClientCertificates::Optional).context("client.tls")?;
        let admin_tls =
            ListenerTls::load("admin", &settings.admin.tls, ClientCertificates::Required).context("admin.tls")?;
        let client = bind(settings.client.listen, "client")?;
        let admin = bind(settings.admin.listen, "admin")?;
        let for_cluster = settings.clone();
        let side = cluster.spawn(start_cluster(for_cluster)).await.context("cluster start")??;
        let ClusterSide { identity, services, transport, membership, store, peer_tls } = side;

        let workers = settings.workers();
        let supervisors = Supervisors::new(Arbiter::new().handle());
        let name = settings.node.name.clone();
        let budget = Budget::new(settings.client.resume_bytes_max);
        let hub = Hub::new(identity.node_id, identity.generation, name, workers, supervisors.clone(), budget);
        let own = Arc::new(OwnConnections(hub.clone()));
        let registry = Arc::new(Registry::default());
        let shares = shares::of_limits(&identity, &registry, &store, &membership, &transport);
        // Of a kind that is in two ranges, the one that was registered first answers.
        services.register(throttle::kinds::ALL, shares.clone());
        cluster.spawn(shares.clone().run());
        let around_wills = wills::around(&identity, &store, &membership, &transport);
        let (wills, keeper) = wills::start(around_wills.clone(), &hub, &services, cluster.handle());

        let secrets = NodeSecrets::new(&settings.cluster.secrets, &settings.secrets)
            .map_err(|_| anyhow::anyhow!("no key could be made of cluster.secrets"))?;
        let trusted = outbound_tls(settings.outbound.ca_file.as_deref(), None).context("outbound.ca_file")?;
        let node = wsgateway_otlp::Node {
            instance_id: &format!("{:016x}", identity.node_id),
            version: env!("CARGO_PKG_VERSION"),
        };
        let (tracer, exporting) = Tracer::start(&settings.tracing, node, trusted.clone(), cluster.handle())?;
        let traces = Traces { tracer, trusts_clients: settings.tracing.trust_client_traceparent };
        let egress = Egress::new(Arc::new(settings.outbound.rules()?), trusted);
        let node_facts = NodeFacts {
            secrets,
            kafka_bootstrap_servers: settings.kafka.bootstrap_servers.clone(),
            asks_for_certificates: Some(client_tls.as_ref().is_some_and(|tls| tls.asks_for_certificates())),
            egress: egress.rules().clone(),
        };
        let sources_changed = Arc::new(Notify::new());
        let changed = sources_changed.clone();
        let (own_wills, own_hub, runtime) = (wills.clone(), hub.clone(), cluster.handle().clone());
        let on_change = Box::new(move |endpoint: &_| {
            shares.reread(endpoint);
            supervisors.reread(endpoint);
            changed.notify_one();
            wills::reread(&own_wills, &own_hub, &runtime, endpoint);
        });
        let config = ConfigStore::new(store.clone(), registry.clone(), node_facts, on_change);
        let nodes = Arc::new(Nodes::new(store.clone(), transport.clone(), membership.watch()));
        services.register(nodes::KINDS, nodes.clone());
        services.register(rollout::KINDS, Arc::new(PeerRollouts::new(config.clone())));
        cluster.spawn(logs::report_left_out());
        let metrics = Metrics::default();
        let observer = {
            let figures = (&metrics, settings.client.max_connections);
            observing::start(&config, &hub, &transport, &membership, figures, (&services, cluster))
        };
        services.register(kinds::GATEWAY, Arc::new(PeerPushes::new(own.clone())));
        services.set_tunnels(Arc::new(TunnelEnds(Arc::new(OwnArrivals(hub.clone())))));
        cluster.spawn(config.clone().follow());
        cluster.spawn(config.clone().catch_up());
        let tokens = Tokens::new(store.clone(), settings.admin.token.as_deref());
        cluster.spawn(tokens.clone().follow());
        cluster.spawn(tokens.clone().catch_up());
        let (audit, recorder) = AuditLog::new(store.clone());
        cluster.spawn(recorder.run());

        let (members_of, known) = (store.clone(), config.clone());
        let members = Box::new(move || if known.is_configured() { members_of.members() } else { BTreeMap::new() });
        let peers: Arc<dyn PeerTransport> = transport.clone();
        let pushes = Pushes::new(own, peers.clone(), membership.watch(), members);
        let rollouts = Rollouts::new(config.clone(), peers, membership.watch());
        metrics.register_collector(Box::new(facts::NodeCollector::new(
            &config,
            &hub,
            &membership,
            &transport,
            keeper.clone(),
            (metrics.tail.clone(), exporting.counters.clone()),
        )));
        for tls in [&client_tls, &admin_tls].into_iter().flatten() {
            cluster.spawn(tls.clone().follow(metrics.clone()));
        }
        if let Some(followed) = peer_tls {
            cluster.spawn(followed.follow(transport.clone(), metrics.clone()));
        }
        let gossiping = cluster.spawn(facts::gossip_facts(
            settings.clone(),
            membership.clone(),
            config.clone(),
            hub.clone(),
            identity,
        ));

        let timeout = Duration::from_millis(settings.kafka.delivery_timeout_millis);
        let kafka = KafkaProducers::new(
            settings.kafka.bootstrap_servers.clone(),
            timeout,
            egress.rules().clone(),
            metrics.clone(),
        );
        let default_brokers = settings.kafka.bootstrap_servers.clone();
        let around = sources::of_endpoints(&registry, &pushes, default_brokers, egress.rules(), &metrics);
        let sources = Sources::start(around, sources_changed)?;
        let api = Arc::new(Api {
            config,
            rollouts,
            tokens,
            audit,
            pushes: pushes.clone(),
            hub: hub.clone(),
            pushes_queued: metrics.pushes.get_or_create(&PushLabels { result: "queued" }).clone(),
            metrics: metrics.clone(),
            settings: settings.admin.clone(),
            replays: Box::new(replays::OwnReplays),
            gossip: membership.watch(),
            nodes: nodes.clone(),
            observer,
            streams: Streams::default(),
            started: Instant::now(),
        });
        let outbound = Outbound::start(&Arbiter::new().handle(), egress.clone(), metrics.clone());
        // Half of the cores may hash passwords, the others go on serving.
        let hashing = std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2);
        let destinations = Destinations::new(metrics.clone());
        let inbound = InboundParts {
            authenticator: Authenticator::new(outbound, client_tls.clone(), hashing, metrics.clone()),
            listener: ClientListener::new(&settings.client, client_tls.clone()),
            other_nodes: Arc::new(OwnTunnels { pushes: pushes.clone() }),
            wills: wills.clone(),
            hub: hub.clone(),
            registry,
            destinations: destinations.clone(),
            metrics,
            settings: Arc::new(settings.client.clone()),
            kafka: kafka.clone(),
            egress,
            traces,
        };
        let (server, served) = server::start(client, (admin, admin_tls), workers, inbound, api)?;
        tracing::info!(
            name = %settings.node.name, client = %settings.client.listen, admin = %settings.admin.listen,
            cluster = %settings.cluster.listen, workers, "node started"
        );
        if settings.admin.token.is_none() {
            tracing::warn!(
                "no admin.token: until there is an admin token, anyone on this machine may administer the gateway"
            );
        }
        let cluster = cluster.handle().clone();
        Ok(Node {
            settings,
            hub,
            store,
            nodes,
            wills: Inheritance { own: wills, keeper, around: around_wills },
            transport,
            membership,
            gossiping,
            kafka,
            destinations,
            sources,
            exporting,
            server,
            served,
            cluster,
        })
    }

    async fn run(self) -> anyhow::Result<()> {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let store = self.store.clone();
        let ended = self.cluster.spawn(async move { store.ended().await });
        let (gracefully, ended) = tokio::select! {
            _ = terminate.recv() => (true, Ok("SIGTERM")),
            _ = tokio::signal::ctrl_c() => (true, Ok("SIGINT")),
            () = self.nodes.asked_to_leave() => (true, Ok("the admin API")),
            ended = ended => match ended.context("the cluster side has panicked") {
                Ok(ended) => (matches!(ended, Ended::Evicted(_)), Err(anyhow::Error::new(ended))),
                Err(err) => (false, Err(err)),
            },
        };
        match &ended {
            Ok(by) => tracing::info!(%by, "leaving"),
            Err(err) => tracing::error!(gracefully, "leaving: {err:#}"),
        }
        self.leave(gracefully).await;
        ended.map(|_| ())
    }

    /// Stops accepting, closes connections with 1012 spread over the drain time, waits for deliveries, hands leadership
    /// over, stops.
    async fn leave(self, gracefully: bool) {
        // First: other nodes take over what this one reads while its clients leave.
        self.sources.stop().await;
        let over = Duration::from_secs(if gracefully { self.settings.node.drain_seconds } else { 0 });
        self.hub.drain(over).await;
        let left = || self.hub.deliveries.load(std::sync::atomic::Ordering::Relaxed);
        let open = || self.hub.open_connections.load(std::sync::atomic::Ordering::Relaxed);
        let drained = Instant::now() + over;
        let owed = || self.wills.keeper.owed();
        while (left() > 0 || owed() > 0) && Instant::now() < drained + DELIVERIES_DEADLINE {
            // As long as clients are here, a service that restarts has its time.
            if open() == 0 || Instant::now() >= drained {
                self.destinations.leave();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if left() > 0 {
            tracing::warn!(connections = left(), "leaving although deliveries are unanswered");
        }
        if owed() > 0 {
            tracing::warn!(
                connections = owed(),
                "leaving although services have not heard of a dead node's connections"
            );
        }
        self.kafka.flush(Duration::from_secs(5));
        let Node { store, wills, transport, membership, gossiping, exporting, server, served, cluster, .. } = self;
        gossiping.abort();
        server.stop(false).await;
        if let Ok(Err(err)) = served.await {
            tracing::warn!("server: {err}");
        }
        exporting.shutdown(LAST_SPANS_WITHIN).await;
        let stopped = cluster.spawn(async move {
            wills.own.farewell(&wills.around).await;
            store.hand_over_leadership().await;
            store.shutdown().await;
            let _aborted = gossiping.await; // it holds the other reference
            if let Some(membership) = Arc::into_inner(membership) {
                membership.shutdown().await;
            }
            transport.shutdown().await;
        });
        if tokio::time::timeout(Duration::from_secs(10), stopped).await.is_err() {
            tracing::warn!("cluster side did not stop in time");
        }
        tracing::info!("left");
    }
}

/// What reads topics for clients, on threads of its own.
struct Sources {
    runtime: Runtime,
    running: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
}

impl Sources {
    fn start(around: crate::sources::Surroundings, changed: Arc<Notify>) -> anyhow::Result<Sources> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(SOURCE_THREADS)
            .thread_name("sources")
            .enable_all()
            .build()
            .context("runtime of sources")?;
        let stop = CancellationToken::new();
        let running = runtime.spawn(crate::sources::run(around, changed, stop.clone()));
        Ok(Sources { runtime, running, stop })
    }

    async fn stop(self) {
        self.stop.cancel();
        if let Err(err) = self.running.await {
            tracing::error!("sources: {err}");
        }
        self.runtime.shutdown_background();
    }
}

async fn start_cluster(settings: Settings) -> anyhow::Result<ClusterSide> {
    let data_dir = settings.node.data_dir.clone();
    let name = settings.node.name.clone();
    let disk = tokio::task::spawn_blocking(move || Disk::open(&data_dir, &name))
        .await?
        .with_context(|| format!("data folder {}", settings.node.data_dir.display()))?;
    let identity = disk.identity();
    let services = Services::default();
    let secrets: Vec<Vec<u8>> = settings.cluster.secrets.iter().map(|secret| secret.clone().into_bytes()).collect();
    let mut options = TcpOptions::new(settings.cluster.listen, secrets.clone());
    let mut peer_tls = None;
    if let Some(files) = settings.cluster.tls.files() {
        let pem = files.read().context("cluster.tls")?;
        options.tls = Some(PeerTls::new(files.mode, &pem).context("cluster.tls")?);
        peer_tls = Some(peer_tls::Followed::new(files, &pem));
    }
    let transport = TcpTransport::start(options, identity.clone(), services.clone())
        .with_context(|| format!("cluster listener on {}", settings.cluster.listen))?;
    let advertise = settings.cluster.advertised();
    let gossip_advertise = advertise
        .to_socket_addrs()
        .with_context(|| format!("cluster.advertise {advertise}"))?
        .next()
        .with_context(|| format!("cluster.advertise {advertise} has no address"))?;
    let membership = Membership::start(MembershipOptions {
        identity: identity.clone(),
        gossip_listen: settings.cluster.listen,
        advertise: gossip_advertise,
        seeds: settings.cluster.seeds.clone(),
        cluster_label: GOSSIP_LABEL.to_owned(),
        secrets,
        interval: GOSSIP_INTERVAL,
    })
    .await
    .with_context(|| format!("gossip on UDP {}", settings.cluster.listen))?;
    let seeds =
        if settings.cluster.seeds.is_empty() { vec![advertise.clone()] } else { settings.cluster.seeds.clone() };
    let options = StoreOptions {
        seeds,
        bootstrap_expect: settings.cluster.bootstrap_expect,
        advertise,
        remove_dead_after: Duration::from_secs(settings.cluster.remove_dead_after_seconds),
        gossip: Some(membership.watch()),
        ..StoreOptions::default()
    };
    let store = RaftStore::start(disk, transport.clone(), &services, options).await?;
    Ok(ClusterSide { identity, services, transport, membership: Arc::new(membership), store, peer_tls })
}
