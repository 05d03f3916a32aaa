//! TLS on the node's own listeners: clients and operators over it, certificates that change under open connections, and
//! those who do not speak it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::TlsConnector;

use crate::cli::{err, out, run};
use crate::document::{all_routes_to, document, http, route, with};
use crate::hostile::metric;
use crate::sandbox::{own_cluster_turn, run_folder, unique_path, Cluster, Node, Plan};
use crate::service::Service;
use crate::tls::{Authority, Issued};
use crate::wait::{eventually, soon, PATIENCE};
use crate::ws::{connected_from, own_address, Client, Received};

/// PEM files of one listener.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn write(name: &str, issued: &Issued) -> Files {
        let files = Files {
            certificate: run_folder().join(format!("{name}-cert.pem")),
            key: run_folder().join(format!("{name}-key.pem")),
        };
        files.replace(issued);
        files
    }

    fn replace(&self, issued: &Issued) {
        std::fs::write(&self.certificate, &issued.pem).unwrap();
        std::fs::write(&self.key, &issued.key_pem).unwrap();
    }

    fn settings(&self, listener: &str) -> Vec<(String, String)> {
        let setting =
            |key: &str, file: &Path| (format!("WSGATEWAY__{listener}__TLS__{key}"), file.display().to_string());
        vec![setting("CERTIFICATE_FILE", &self.certificate), setting("KEY_FILE", &self.key)]
    }
}

async fn handshake(trust: &TlsConnector, node: &Node) -> TlsStream<TcpStream> {
    let io = connected_from(&own_address(), node).await;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    soon("the TLS handshake", trust.connect(name, io)).await.expect("it succeeds")
}

async fn connect(trust: &TlsConnector, node: &Node, path: &str) -> Client {
    Client::over(handshake(trust, node).await, node, path, &[]).await.expect("a handshake that is accepted")
}

async fn shown(trust: &TlsConnector, node: &Node) -> CertificateDer<'static> {
    let stream = handshake(trust, node).await;
    let (_, session) = stream.get_ref();
    session.peer_certificates().expect("a certificate")[0].clone()
}

#[tokio::test]
async fn certificates_change_under_open_connections() {
    let _turn = own_cluster_turn().await;
    let authority = Authority::new("of the listener");
    let first = authority.issues_to_server();
    let files = Files::write("listener", &first);
    let cluster = Cluster::start_with(1, Plan { environment: files.settings("CLIENT"), ..Plan::default() }).await;
    let node = &cluster.nodes[0];
    let service = Service::start().await;
    let routes = [route("connect", &[http(&service, "/connect")]), route("default", &[json!({"type": "echo"})])];
    let endpoint = cluster.create(&document(&unique_path("tls"), &routes)).await;
    let trust = authority.trusted_by_client(None);

    let mut client = connect(&trust, node, &endpoint.path).await;
    let id = service.next("/connect").await.attributes().get("connectionid").to_owned();
    let long = format!("\"{}\"", "x".repeat(100_000));
    let mut exchange = async |what: &str| {
        client.send(&long).await;
        assert_eq!(client.text().await, long, "{what}");
        node.admin().push(&id, "{\"pushed\":1.0}").await.expect(202);
        assert_eq!(client.text().await, "{\"pushed\":1.0}", "{what}");
    };
    exchange("before").await;
    assert_eq!(shown(&trust, node).await, first.certificate);

    let second = authority.issues_to_server();
    files.replace(&second);
    eventually("the new certificate", PATIENCE, async || {
        (shown(&trust, node).await == second.certificate).then_some(())
    })
    .await;
    exchange("after a change").await;
    connect(&trust, node, &endpoint.path).await.leave().await;

    std::fs::write(&files.certificate, "no certificate").unwrap();
    let reloads = async |outcome: &str| metric(node, "tls_reloads_total", &["listener=\"client\"", outcome]).await;
    eventually("a complaint", PATIENCE, async || (reloads("failed").await == 1).then_some(())).await;
    assert!(node.log().contains("listener-cert.pem: has no certificate"), "{}", node.log_tail());
    assert_eq!(shown(&trust, node).await, second.certificate, "the one before stays");
    exchange("after a change for the worse").await;
    assert_eq!(reloads("reloaded").await, 1);
    let ends = metric(node, "tls_certificate_not_after_seconds", &["client"]).await;
    assert!(ends > 16_000_000_000, "the year 2500, not {ends}");
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_every_byte_over_tls() {
    let _turn = own_cluster_turn().await;
    let authority = Authority::new("of slow readers");
    let files = Files::write("slow", &authority.issues_to_server());
    let cluster = Cluster::start_with(1, Plan { environment: files.settings("CLIENT"), ..Plan::default() }).await;
    let node = &cluster.nodes[0];
    let service = Service::start().await;
    let outbox = json!({"outbox": {"maxBytes": 16_000_000, "maxMessages": 20_000}});
    let wanted = with(document(&unique_path("slow-tls"), &all_routes_to(&service)), "settings", outbox);
    let endpoint = cluster.create(&wanted).await;
    let mut client = connect(&authority.trusted_by_client(None), node, &endpoint.path).await;
    let id = service.next("/connect").await.attributes().get("connectionid").to_owned();
    // Far more than sockets hold, in sizes around those of TLS records.
    let sizes = [2, 100, 16_373, 16_374, 16_375, 16_384, 16_385, 40_000, 5];
    let message = |n: usize| format!("\"{n}{}\"", "y".repeat(sizes[n % sizes.len()]));
    for n in 0..600 {
        node.admin().push(&id, &message(n)).await.expect(202);
    }
    for n in 0..600 {
        assert_eq!(client.text().await, message(n), "message {n}");
    }
    node.admin().call("DELETE", &format!("/api/v1/connections/{id}"), &[], b"").await.expect(204);
    assert_eq!(client.receive().await, Received::Close(4403));
}

#[tokio::test]
async fn who_speaks_no_tls_is_let_go_and_counted() {
    let _turn = own_cluster_turn().await;
    let authority = Authority::new("of those who speak");
    let files = Files::write("spoken", &authority.issues_to_server());
    let mut environment = files.settings("CLIENT");
    environment.push(("WSGATEWAY__CLIENT__HANDSHAKE_DEADLINE_SECONDS".into(), "1".into()));
    let cluster = Cluster::start_with(1, Plan { environment, ..Plan::default() }).await;
    let node = &cluster.nodes[0];
    let refused = async |reason: &str| metric(node, "client_sockets_refused_total", &[&format!("\"{reason}\"")]).await;
    let mut plain = connected_from("127.0.0.1", node).await;
    plain.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // An alert, or a reset: nothing of HTTP.
    let _ended = soon("the end of it", plain.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    eventually("it is counted", PATIENCE, async || (refused("tls").await == 1).then_some(())).await;

    let began = tokio::time::Instant::now();
    let mut silent = connected_from("127.0.0.1", node).await;
    silent.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    assert_eq!(soon("the end of it", silent.read_to_end(&mut answer)).await.unwrap_or(0), 0);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    eventually("it is counted", PATIENCE, async || (refused("timeout").await == 1).then_some(())).await;

    let distrustful = Authority::new("another").trusted_by_client(None);
    let io = connected_from("127.0.0.1", node).await;
    assert!(distrustful.connect(ServerName::try_from("127.0.0.1").unwrap(), io).await.is_err());
    eventually("it is counted", PATIENCE, async || (refused("tls").await == 2).then_some(())).await;
}

#[tokio::test]
async fn operators_and_console_clients_speak_tls_too_and_show_who_they_are() {
    let _turn = own_cluster_turn().await;
    let authority = Authority::new("of operators");
    let files = Files::write("operators", &authority.issues_to_server());
    let ca = run_folder().join("operators-ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let ca = ca.display().to_string();
    let mut environment = [files.settings("CLIENT"), files.settings("ADMIN")].concat();
    environment.push(("WSGATEWAY__ADMIN__TLS__CLIENT_CA_FILE".into(), ca.clone()));
    let cluster = Cluster::prepare(1, Plan { environment, ..Plan::default() });
    let node = &cluster.nodes[0];
    node.start();
    let operator = Files::write(
        "operator",
        &authority.issues(|params| {
            params.distinguished_name.push(rcgen::DnType::CommonName, "operator");
        }),
    );
    let (certificate, key) = (operator.certificate.display().to_string(), operator.key.display().to_string());
    let server = format!("https://{}", node.admin);
    let own = ["--ca-file", &ca, "--cert-file", &certificate, "--key-file", &key];
    let listed = eventually("the node answers", Duration::from_secs(40), async || {
        let listed = run(&[&["get", "--server", &server][..], &own].concat(), &[]).await;
        listed.status.success().then_some(listed)
    })
    .await;
    assert!(err(&listed).is_empty(), "{}", err(&listed));

    let file = run_folder().join("operators.json");
    std::fs::write(&file, document("/by-tls", &[route("default", &[json!({"type": "echo"})])]).to_string()).unwrap();
    let file = file.display().to_string();
    let applied = run(&[&["apply", "-f", &file, "--server", &server][..], &own].concat(), &[]).await;
    assert!(applied.status.success(), "{}{}", out(&applied), err(&applied));
    let nobody = run(&["get", "--server", &server, "--ca-file", &ca], &[]).await;
    assert!(!nobody.status.success(), "without a certificate: {}", out(&nobody));
    let distrustful = run(&["get", "--server", &server], &[]).await;
    assert!(!distrustful.status.success() && err(&distrustful).contains("UnknownIssuer"), "{}", err(&distrustful));

    let url = format!("wss://{}/by-tls", node.client);
    let talked = run(&["ws", &url, "--ca-file", &ca, "--send", "{\"a\":1.0}", "--receive", "1"], &[]).await;
    assert_eq!((out(&talked).trim(), talked.status.success()), ("{\"a\":1.0}", true), "{}", err(&talked));
    let distrustful = run(&["ws", &url, "--send", "1", "--receive", "1"], &[]).await;
    assert!(!distrustful.status.success() && err(&distrustful).contains("UnknownIssuer"), "{}", err(&distrustful));
}

#[tokio::test]
async fn a_node_with_half_of_it_does_not_start() {
    let cases = [
        (vec![("WSGATEWAY__CLIENT__TLS__CERTIFICATE_FILE", "/nowhere/cert.pem")], "client.tls.key_file"),
        (vec![("WSGATEWAY__CLIENT__TLS__KEY_FILE", "/nowhere/key.pem")], "client.tls.certificate_file"),
        (vec![("WSGATEWAY__ADMIN__TLS__CLIENT_CA_FILE", "/nowhere/ca.pem")], "admin.tls.certificate_file"),
        (vec![("WSGATEWAY__CLIENT__TLS__CLIENT_CRL_FILE", "/nowhere/crl.pem")], "client.tls.client_ca_file"),
        (vec![("WSGATEWAY__CLIENT__PROXY_PROTOCOL", "true")], "client.trusted_proxies"),
    ];
    for (environment, named) in cases {
        let refused = run(&["settings"], &environment).await;
        assert!(!refused.status.success() && err(&refused).contains(named), "{environment:?}: {}", err(&refused));
    }
    let data = run_folder().join("no-certificate").display().to_string();
    let missing = [
        ("WSGATEWAY__CLIENT__TLS__CERTIFICATE_FILE", "/nowhere/cert.pem"),
        ("WSGATEWAY__CLIENT__TLS__KEY_FILE", "/nowhere/key.pem"),
    ];
    let refused = run(&["serve", "--data-dir", &data], &missing).await;
    assert!(!refused.status.success() && err(&refused).contains("/nowhere/cert.pem"), "{}", err(&refused));
}
