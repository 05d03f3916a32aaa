//! Egress rules against the tricks of server-side request forgery: every spelling of loopback and of the metadata
//! addresses, names that lead there, redirects, brokers and authentication servers. A trap listens on all addresses of
//! the machine and counts who comes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use serde_json::{json, Value};
use tokio::net::TcpListener;

use crate::document::{document, http, route, with};
use crate::sandbox::{own_cluster_turn, shared, unique_path, Cluster, Node, Plan};
use crate::service::{Behaviour, Service};
use crate::ws::Client;

/// Where the nodes of these tests may call.
const ALLOWED: &str = "127.0.0.77";

/// Written with the trap's port. All are loopback, this machine or metadata, in the spellings that resolvers take.
const HOSTS: &[&str] = &[
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0x0.0x0.0x1",
    "0177.0.0.1",
    "017700000001",
    "127.0.0.2",
    "0",
    "0.0.0.0",
    "localhost",
    "LocalHost",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::127.0.0.1]",
    "[2002:7f00:1::]",
    "169.254.169.254",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "100.100.100.200",
    "168.63.129.16",
];

struct Trap {
    addr: SocketAddr,
    caught: Arc<AtomicUsize>,
}

impl Trap {
    async fn start() -> Trap {
        let listener = match TcpListener::bind("[::]:0").await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind("0.0.0.0:0").await.expect("a free port"),
        };
        let trap = Trap { addr: listener.local_addr().expect("bound"), caught: Arc::default() };
        let caught = Arc::clone(&trap.caught);
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                caught.fetch_add(1, Ordering::SeqCst);
            }
        });
        trap
    }

    fn caught(&self) -> usize {
        self.caught.load(Ordering::SeqCst)
    }
}

/// One custom route per backend, by the name that an event gives at `$.to`.
fn by_name(path: &str, backends: &BTreeMap<String, Value>, errors: &Service) -> Value {
    let mut routes: Vec<Value> = backends
        .iter()
        .map(|(name, backend)| json!({"type": "custom", "name": name, "key": name, "backends": [backend]}))
        .collect();
    routes.push(route("error", &[http(errors, "/error")]));
    with(document(path, &routes), "routeSelector", json!("$.to"))
}

/// Sends an event to every name; answers what the error route was told of each.
async fn send_all(
    node: &Node,
    path: &str,
    names: impl Iterator<Item = &String>,
    errors: &Service,
) -> BTreeMap<String, String> {
    let before = errors.received("/error").len();
    let mut client = Client::connect(node, path).await;
    let mut sent = 0;
    for name in names {
        client.send(&json!({"to": name}).to_string()).await;
        sent += 1;
    }
    let told = errors.wait_for("/error", before + sent).await;
    let text = |told: &Value, field: &str| told[field].as_str().unwrap_or_default().to_owned();
    told[before..].iter().map(|told| (text(&told.json(), "route"), text(&told.json(), "message"))).collect()
}

#[tokio::test]
async fn no_trick_gets_past_the_rules() {
    let _turn = own_cluster_turn().await;
    let service = Service::start_on(ALLOWED, None).await;
    let trap = Trap::start().await;
    let cluster = Cluster::prepare(3, Plan::default());
    cluster.nodes[0].set_environment("WSGATEWAY__OUTBOUND__ALLOW", &format!("[\"{ALLOWED}/32\", \"*.example.com\"]"));
    cluster.nodes[1].set_environment("WSGATEWAY__OUTBOUND__DENY", "[\"127.0.0.0/28\", \"::1\"]");
    cluster.nodes[2].set_environment("WSGATEWAY__OUTBOUND__ALLOW", "[\"127.0.0.0/8\", \"localhost\"]");
    cluster.nodes[2].set_environment("WSGATEWAY__OUTBOUND__DENY", "[\"127.0.0.0/28\", \"::1\"]");
    cluster.begin().await;

    let port = trap.addr.port();
    let mut backends = BTreeMap::new();
    for host in HOSTS {
        let backend = json!({"type": "http", "destination": format!("http://{host}:{port}/latest/meta-data"),
            "timeoutInMillis": 5_000, "connectTimeoutInMillis": 2_000});
        backends.insert(format!("http {host}"), backend);
        // librdkafka resolves names itself: a name is only looked at as a name (docs/egress.md).
        if !host.starts_with(['[', 'l', 'L']) {
            let backend = json!({"type": "kafka", "topic": "t", "bootstrapServers": format!("{host}:{port}")});
            backends.insert(format!("kafka {host}"), backend);
        }
    }
    let secure = json!({"type": "http", "destination": format!("https://127.0.0.1:{port}/")});
    backends.insert("https".to_owned(), secure);
    let path = unique_path("ssrf");
    // What reads topics goes by the same rules.
    let source = |host: &str| json!({"type": "kafka", "topic": host, "group": "g", "bootstrapServers": format!("{host}:{port}"), "target": {"all": true}});
    let document = by_name(&path, &backends, &service);
    let document = with(document, "sources", json!([source("127.0.0.1"), source("2130706433"), source("0x7f.1")]));
    let endpoint = cluster.create(&document).await;
    let mut passed = 0;
    for node in &cluster.nodes {
        let told = send_all(node, &endpoint.path, backends.keys(), &service).await;
        assert_eq!(told.len(), backends.len(), "each was told of");
        for (name, message) in &told {
            if !message.contains("may not be called from this node") {
                println!("{} let through {name}: {message}", node.name);
                passed += 1;
            }
        }
        let metrics = node.admin().get("/metrics").await.expect(200).text();
        let counted = metrics.lines().filter(|line| line.contains("egress_denied") && line.contains("_count{")).count();
        assert_eq!(counted, backends.len(), "backends counted as egress_denied");
        let sources = metrics.lines().filter(|line| line.starts_with("wsgateway_source_errors_total{"));
        assert_eq!(sources.filter(|line| !line.ends_with(" 0")).count(), 3, "sources that cannot work");
    }
    println!("SSRF corpus: {} destinations on three nodes, {passed} passed, {} caught", backends.len(), trap.caught());
    assert_eq!((passed, trap.caught()), (0, 0));

    check_redirect(&cluster, &service, &trap).await;
    check_authentication(&cluster, &trap).await;
    check_warnings(&cluster, &document).await;
}

/// The allowed service gets events, and where it sends them is not gone to.
async fn check_redirect(cluster: &Cluster, service: &Service, trap: &Trap) {
    let before = trap.caught();
    service.behave(
        "/moved",
        Behaviour::status(307).header("location", &format!("http://127.0.0.1:{}/", trap.addr.port())),
    );
    let backends =
        BTreeMap::from([("fine".to_owned(), http(service, "/fine")), ("moved".to_owned(), http(service, "/moved"))]);
    let endpoint = cluster.create(&by_name(&unique_path("redirect"), &backends, service)).await;
    for node in &cluster.nodes {
        let mut client = Client::connect(node, &endpoint.path).await;
        client.send("{\"to\":\"fine\"}").await;
        assert_eq!(service.next("/fine").await.text(), "{\"to\":\"fine\"}");
        let told = send_all(node, &endpoint.path, [&"moved".to_owned()].into_iter(), service).await;
        assert!(told["moved"].contains("answered 307"), "{told:?}");
    }
    assert_eq!(trap.caught(), before, "a redirect was followed");
}

async fn check_authentication(cluster: &Cluster, trap: &Trap) {
    let before = trap.caught();
    for host in ["127.0.0.1", "2130706433", "localhost", "[::ffff:127.0.0.1]", "169.254.169.254"] {
        let rule = json!({"mode": "bearer", "authorizationServerUrl": format!("http://{host}:{}/", trap.addr.port())});
        let document = with(document(&unique_path("ssrf-auth"), &[]), "authentication", rule);
        let endpoint = cluster.create(&document).await;
        for node in &cluster.nodes {
            let refused = Client::try_connect(node, &endpoint.path, &[("authorization", "Bearer x")]).await;
            assert_eq!(refused.err().expect("nobody can say").status, 503, "{host} at {}", node.name);
        }
    }
    for node in &cluster.nodes {
        let metrics = node.admin().get("/metrics").await.expect(200).text();
        let counted = "authentication_call_seconds_count{purpose=\"bearer\",outcome=\"egress_denied\"} 5";
        assert!(metrics.contains(counted), "{} counts otherwise", node.name);
    }
    assert_eq!(trap.caught(), before, "an authentication server was called");
}

/// Where a document's own words can never be called, its author is told.
async fn check_warnings(cluster: &Cluster, document: &Value) {
    let document = with(document.clone(), "path", json!(unique_path("warned")));
    for node in &cluster.nodes {
        let answer = node.admin().post("/api/v1/endpoints?dryRun=true", &document).await.expect(200).json();
        let warnings: Vec<_> = answer["warnings"].as_array().expect("warnings").iter().collect();
        for host in ["127.0.0.1", "2130706433", "::ffff:127.0.0.1", "169.254.169.254"] {
            let opening = format!("{host} can never be called from this node");
            let about = |warning: &&Value| warning["message"].as_str().is_some_and(|text| text.starts_with(&opening));
            let found = warnings.iter().copied().find(about);
            let found = found.unwrap_or_else(|| panic!("{}: no word of {host} in {warnings:?}", node.name));
            let at = found["path"].as_str().expect("a path");
            assert!(at.ends_with(".backends[0].destination") || at.ends_with(".bootstrapServers"), "{at}");
        }
    }
}

#[tokio::test]
async fn without_rules_metadata_is_closed_and_loopback_open() {
    let service = Service::start().await;
    let metadata = json!({"type": "http", "destination": "http://169.254.169.254/latest/meta-data/iam"});
    let backends = BTreeMap::from([("fine".to_owned(), http(&service, "/fine")), ("metadata".to_owned(), metadata)]);
    let endpoint = shared().await.create(&by_name(&unique_path("metadata"), &backends, &service)).await;
    let node = &shared().await.nodes[2];
    let mut client = Client::connect(node, &endpoint.path).await;
    client.send("{\"to\":\"fine\"}").await;
    service.next("/fine").await;
    let told = send_all(node, &endpoint.path, [&"metadata".to_owned()].into_iter(), &service).await;
    assert!(told["metadata"].contains("outbound.allow_metadata"), "{told:?}");
}
