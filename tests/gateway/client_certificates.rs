//! Mode clientCertificate: who a client is by its certificate, on whichever node, and until when.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, SanType, SerialNumber};
use rustls::pki_types::ServerName;
use serde_json::{json, Value};
use tokio_rustls::TlsConnector;

use crate::document::{all_routes_to, document, with};
use crate::hostile::metric;
use crate::http::JSON;
use crate::sandbox::{own_cluster_turn, run_folder, shared, unique_path, Cluster, Endpoint, Node, Plan};
use crate::service::Service;
use crate::tls::{Authority, Issued};
use crate::wait::soon;
use crate::ws::{connected_from, own_address, Client, Refused};

struct World {
    cluster: Cluster,
    service: Service,
    authority: Authority,
    crl: PathBuf,
}

impl World {
    /// Nodes whose client listeners ask for certificates.
    async fn start(name: &str, count: usize) -> World {
        let authority = Authority::new("of clients");
        let server = authority.issues_to_server();
        let write = |kind: &str, text: &str| {
            let file = run_folder().join(format!("{name}-{kind}.pem"));
            std::fs::write(&file, text).unwrap();
            file
        };
        let crl = write("crl", &authority.revokes(&[SerialNumber::from(99)]));
        let environment = [
            ("CERTIFICATE_FILE", write("cert", &server.pem)),
            ("KEY_FILE", write("key", &server.key_pem)),
            ("CLIENT_CA_FILE", write("ca", &authority.pem)),
            ("CLIENT_CRL_FILE", crl.clone()),
        ]
        .map(|(key, file)| (format!("WSGATEWAY__CLIENT__TLS__{key}"), file.display().to_string()));
        let plan = Plan { environment: environment.into(), ..Plan::default() };
        World { cluster: Cluster::start_with(count, plan).await, service: Service::start().await, authority, crl }
    }

    async fn endpoint(&self, authentication: Value) -> Endpoint {
        self.endpoint_with(authentication, "settings", json!({})).await
    }

    async fn endpoint_with(&self, authentication: Value, field: &str, value: Value) -> Endpoint {
        let wanted = document(&unique_path("certified"), &all_routes_to(&self.service));
        let wanted = with(with(wanted, "authentication", authentication), field, value);
        self.cluster.create(&wanted).await
    }

    fn issue(&self, serial: u64, shape: impl FnOnce(&mut CertificateParams)) -> Issued {
        self.authority.issues(|params| {
            params.serial_number = Some(SerialNumber::from(serial));
            params.distinguished_name.push(DnType::CommonName, format!("sensor-{serial}"));
            shape(params);
        })
    }

    async fn connect(&self, node: &Node, target: &str, own: Option<&Issued>) -> Result<Client, Refused> {
        Client::over(secured(&self.authority.trusted_by_client(own), node).await, node, target, &[]).await
    }

    /// The connect event of a client that is let in.
    async fn connected(&self, endpoint: &Endpoint, own: &Issued) -> (Client, Value) {
        let client = self.connect(&self.cluster.nodes[0], &endpoint.path, Some(own)).await.expect("it is let in");
        (client, self.service.next("/connect").await.json())
    }
}

async fn secured(trust: &TlsConnector, node: &Node) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let io = connected_from(&own_address(), node).await;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    soon("the TLS handshake", trust.connect(name, io)).await.expect("it succeeds")
}

#[tokio::test]
async fn a_client_is_who_its_certificate_says() {
    let _turn = own_cluster_turn().await;
    let world = World::start("certified", 1).await;
    let node = &world.cluster.nodes[0];
    let endpoint = world.endpoint(json!({"mode": "clientCertificate"})).await;
    let sensor = world.issue(7, |params| {
        params.subject_alt_names = vec![
            SanType::DnsName("sensor-7.example".try_into().unwrap()),
            SanType::URI("spiffe://example/sensor/7".try_into().unwrap()),
        ];
    });
    let (mut client, event) = world.connected(&endpoint, &sensor).await;
    assert_eq!(event["user"], "sensor-7");
    assert_eq!(event["claims"]["serialNumber"], "07");
    assert_eq!(event["claims"]["uris"], json!(["spiffe://example/sensor/7"]));
    client.send("{\"a\":1}").await;
    assert_eq!(world.service.next("/default").await.attributes().get("userid"), "sensor-7");

    let by_uri = world.endpoint(json!({"mode": "clientCertificate", "userFrom": "uri"})).await;
    let (_client, event) = world.connected(&by_uri, &sensor).await;
    assert_eq!(event["user"], "spiffe://example/sensor/7");

    let nobody = world.connect(node, &endpoint.path, None).await.err().expect("it is refused");
    assert_eq!(nobody.why(), (403, "certificate_required".to_owned()));
    let nameless = world.connect(node, &by_uri.path, Some(&world.issue(8, |_| {}))).await.err().expect("it is refused");
    assert_eq!(nameless.why(), (403, "certificate_refused".to_owned()));
    assert!(nameless.body.contains("does not say who"), "{}", nameless.body);
    // Who needs none gets in without one, on the same listener.
    let open = world.endpoint(json!({"mode": "none"})).await;
    world.connect(node, &open.path, None).await.expect("it is let in").leave().await;

    let strangers = Authority::new("of strangers");
    let stranger = strangers.issues(|params| params.distinguished_name.push(DnType::CommonName, "sensor-7"));
    // With TLS 1.3 the client hears of it after its own part of the handshake.
    let mut io = secured(&world.authority.trusted_by_client(Some(&stranger)), node).await;
    let mut heard = [0; 1];
    let read = soon("the alert", tokio::io::AsyncReadExt::read(&mut io, &mut heard)).await;
    assert!(read.is_err(), "an unknown authority: {read:?}");
    let parts = ["mode=\"clientCertificate\"", "outcome=\"accepted\""];
    assert_eq!(metric(node, "authentications_total", &parts).await, 2);
}

#[tokio::test]
async fn a_revoked_certificate_and_one_that_ends_close_open_connections() {
    let _turn = own_cluster_turn().await;
    let world = World::start("revoked", 1).await;
    let endpoint = world.endpoint(json!({"mode": "clientCertificate", "recheckInSeconds": 1})).await;
    let (sensor, other) = (world.issue(7, |_| {}), world.issue(8, |_| {}));
    let (mut client, _) = world.connected(&endpoint, &sensor).await;
    let (mut stays, _) = world.connected(&endpoint, &other).await;
    std::fs::write(&world.crl, world.authority.revokes(&[SerialNumber::from(7)])).unwrap();
    assert_eq!(client.closed().await, 4401);
    stays.hears_nothing_for(Duration::from_secs(2)).await;

    let ends = SystemTime::now() + Duration::from_secs(4);
    let brief = world.issue(9, |params| params.not_after = ends.into());
    let (mut client, _) = world.connected(&endpoint, &brief).await;
    assert_eq!(client.closed().await, 4401);
    let left = SystemTime::now().duration_since(ends).map_or(0, |late| late.as_millis());
    assert!(left < 2_500, "{left} ms late");
}

#[tokio::test]
async fn who_comes_back_to_another_node_is_known_there() {
    let _turn = own_cluster_turn().await;
    let world = World::start("returning", 3).await;
    let mode = json!({"mode": "clientCertificate"});
    let endpoint = world.endpoint_with(mode, "resume", json!({"windowInSeconds": 30})).await;
    let sensor = world.issue(7, |_| {});
    let (mut client, _) = world.connected(&endpoint, &sensor).await;
    let session = client.json().await;
    let (id, token) = (session["connectionId"].as_str().unwrap(), session["resumeToken"].as_str().unwrap());
    drop(client);
    world.cluster.nodes[1].admin().push(id, "{\"n\":1}").await.expect(202);
    let target = format!("{}?resume={token}&received=0", endpoint.path);
    let other = world.issue(8, |_| {});
    let mut thief = world.connect(&world.cluster.nodes[2], &target, Some(&other)).await.expect("a new connection");
    let told = thief.json().await;
    assert_eq!((&told["resumed"], &told["reason"]), (&json!(false), &json!("other_user")), "{told}");
    let mut back = world.connect(&world.cluster.nodes[2], &target, Some(&sensor)).await.expect("it is let in");
    let told = back.json().await;
    assert_eq!((&told["resumed"], &told["connectionId"]), (&json!(true), &json!(id)), "{told}");
    assert_eq!(back.text().await, "{\"n\":1}");
    back.send("{\"b\":2}").await;
    assert_eq!(world.service.next("/default").await.attributes().get("userid"), "sensor-7");
}

#[tokio::test]
async fn a_document_that_nobody_can_meet_here_is_stored_with_a_warning() {
    let node = &shared().await.nodes[0];
    let mode = json!({"mode": "clientCertificate"});
    let wanted = with(document(&unique_path("unmet"), &[]), "authentication", mode);
    let made = node.admin().call("POST", "/api/v1/endpoints", JSON, wanted.to_string().as_bytes()).await;
    let made = made.expect(201).json();
    let warned = made["warnings"].as_array().expect("warnings");
    let told = warned.iter().any(|warning| warning["path"] == "authentication.mode");
    assert!(told, "{made}");
    let foreign = with(
        document(&unique_path("unmet"), &[]),
        "authentication",
        json!({"mode": "jwt", "issuer": "https://h", "userFrom": "uri"}),
    );
    let refused = node.admin().call("POST", "/api/v1/endpoints", JSON, foreign.to_string().as_bytes()).await;
    let problem = refused.expect(400).json();
    assert!(problem["errors"].to_string().contains("userFrom"), "{problem}");
}
