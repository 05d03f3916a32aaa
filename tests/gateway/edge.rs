//! What the client listener does before anything of HTTP: limits of one address, and load balancers that speak the PROXY
//! protocol.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::document::{document, http, route};
use crate::hostile::metric;
use crate::sandbox::{own_cluster_turn, unique_path, Cluster, Node, Plan};
use crate::service::Service;
use crate::wait::{eventually, soon, PATIENCE};
use crate::ws::{connected_from, Client, Refused};

const BALANCER: &str = "127.0.0.9";

async fn cluster(settings: &[(&str, &str)]) -> Cluster {
    let environment = settings.iter().map(|(key, value)| (format!("WSGATEWAY__CLIENT__{key}"), (*value).to_owned()));
    let arguments = vec!["--trusted-proxies".into(), BALANCER.into()];
    Cluster::start_with(1, Plan { arguments, environment: environment.collect(), ..Plan::default() }).await
}

async fn from(address: &str, node: &Node, path: &str) -> Result<Client, Refused> {
    Client::try_connect_from(address, node, path, &[]).await
}

async fn behind_proxy(client: &str, node: &Node, path: &str) -> Result<Client, Refused> {
    Client::try_connect_from(BALANCER, node, path, &[("x-forwarded-for", client)]).await
}

#[track_caller]
fn refused(outcome: Result<Client, Refused>, code: &str) {
    let refused = outcome.err().expect("it is refused");
    assert_eq!(refused.why(), (429, code.to_owned()));
    let after: u64 = refused.header("retry-after").expect("Retry-After").parse().expect("a number");
    assert!((1..=10).contains(&after), "{after}");
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_no_more() {
    let _turn = own_cluster_turn().await;
    let cluster = cluster(&[("MAX_CONNECTIONS_PER_ADDRESS", "3")]).await;
    let node = &cluster.nodes[0];
    let path = cluster.create(&document(&unique_path("address"), &[])).await.path;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(from("127.0.5.1", node, &path).await.expect("it is let in"));
    }
    refused(from("127.0.5.1", node, &path).await, "address_connections");
    // A socket that says nothing has its place too.
    let _silent = [connected_from("127.0.5.2", node).await, connected_from("127.0.5.2", node).await];
    let mut other = from("127.0.5.2", node, &path).await.expect("it is let in");
    refused(from("127.0.5.2", node, &path).await, "address_connections");
    other.send("1").await;

    // Of a proxy, its clients are counted.
    let mut behind = Vec::new();
    for client in ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"] {
        behind.push(behind_proxy(client, node, &path).await.expect("it is let in"));
    }
    refused(behind_proxy("192.0.2.1", node, &path).await, "address_connections");

    open.pop().expect("one of three").leave().await;
    let again = eventually("a place", PATIENCE, async || from("127.0.5.1", node, &path).await.ok()).await;
    assert!(metric(node, "handshakes_refused_total", &["429", "address_connections"]).await >= 3);
    drop((again, open, behind));
}

#[tokio::test]
async fn an_address_connects_so_often_and_no_more() {
    let _turn = own_cluster_turn().await;
    let cluster = cluster(&[("HANDSHAKES_PER_ADDRESS_PER_SECOND", "2")]).await;
    let node = &cluster.nodes[0];
    let path = cluster.create(&document(&unique_path("rate"), &[])).await.path;
    let mut admitted = 0;
    let last = loop {
        match from("127.0.6.1", node, &path).await {
            Ok(client) => client.leave().await,
            outcome => break outcome,
        }
        admitted += 1;
        assert!(admitted < 200, "no end");
    };
    refused(last, "address_rate");
    assert!(admitted >= 20, "ten seconds' worth at once, not {admitted}");
    from("127.0.6.2", node, &path).await.expect("another address is let in");
    let waited = eventually("a second later", PATIENCE, async || from("127.0.6.1", node, &path).await.ok()).await;
    drop(waited);
}

fn version_2(client: [u8; 4]) -> Vec<u8> {
    let addresses = [&client[..], &[10, 0, 0, 1], &4_000u16.to_be_bytes(), &443u16.to_be_bytes()].concat();
    // The client spoke TLS to the balancer.
    let tls = [0x20, 0, 5, 1, 0, 0, 0, 0];
    let length = ((addresses.len() + tls.len()) as u16).to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &length[..], &addresses, &tls].concat()
}

#[tokio::test]
async fn a_balancer_says_who_the_client_is_and_nobody_else_does() {
    let _turn = own_cluster_turn().await;
    let cluster = cluster(&[("PROXY_PROTOCOL", "true"), ("HANDSHAKE_DEADLINE_SECONDS", "1")]).await;
    let node = &cluster.nodes[0];
    let service = Service::start().await;
    let routes = [route("connect", &[http(&service, "/connect")]), route("default", &[json!({"type": "echo"})])];
    let path = cluster.create(&document(&unique_path("balanced"), &routes)).await.path;
    let with = async |address: &str, header: &[u8]| {
        let mut io = connected_from(address, node).await;
        io.write_all(header).await.expect("the socket takes it");
        io
    };
    let said = async |header: &[u8]| {
        let client = Client::over(with(BALANCER, header).await, node, &path, &[]).await.expect("it is let in");
        let event = service.next("/connect").await.json();
        client.leave().await;
        event["sourceIp"].as_str().expect("an address").to_owned()
    };
    assert_eq!(said(&version_2([192, 0, 2, 77])).await, "192.0.2.77");
    assert_eq!(said(b"PROXY TCP6 2001:db8::7 2001:db8::1 4000 443\r\n").await, "2001:db8::7");
    assert_eq!(said(b"PROXY UNKNOWN\r\n").await, BALANCER);

    // Behind a header that names nobody, the client's own words are not the balancer's.
    let io = with(BALANCER, b"PROXY UNKNOWN\r\n").await;
    let forged = [("x-forwarded-for", "192.0.2.66")];
    Client::over(io, node, &path, &forged).await.expect("it is let in").leave().await;
    assert_eq!(service.next("/connect").await.json()["sourceIp"], BALANCER);

    // Whoever else sends one is not heard.
    let mut forged = with("127.0.0.1", &version_2([192, 0, 2, 77])).await;
    let mut answer = Vec::new();
    let _ended = soon("the end of it", forged.read_to_end(&mut answer)).await;
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 400"), "{answer:?}");
    from("127.0.0.1", node, &path).await.expect("without a header it is let in").leave().await;
    assert_eq!(service.next("/connect").await.json()["sourceIp"], "127.0.0.1");

    // And a balancer that sends none, or a broken one, is told nothing.
    for wrong in [&b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..], b"PROXY TCP4 nonsense 10.0.0.1 1 2\r\n"] {
        let mut io = with(BALANCER, wrong).await;
        answer.clear();
        let _ended = soon("the end of it", io.read_to_end(&mut answer)).await;
        assert!(answer.is_empty(), "{answer:?}");
    }
    let count = async |reason: &str| metric(node, "client_sockets_refused_total", &[reason]).await;
    eventually("both are counted", PATIENCE, async || (count("proxy_header").await == 2).then_some(())).await;
    let mut slow = with(BALANCER, b"PROXY TC").await;
    let ended = tokio::time::timeout(Duration::from_secs(4), slow.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "a half header is waited for without end");
    eventually("it is counted", PATIENCE, async || (count("timeout").await == 1).then_some(())).await;
}
