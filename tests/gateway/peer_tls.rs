//! TLS between nodes, on real nodes: a cluster whose links are all under it, what crosses them, who is not let in, and
//! settings that will not do.

use std::time::Duration;

use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose};
use serde_json::json;

use crate::document::{all_routes_to, document, with};
use crate::sandbox::{own_cluster_turn, run_folder, unique_path, Cluster, Node, Plan};
use crate::service::Service;
use crate::tls::{Authority, Issued};
use crate::wait::{eventually, PATIENCE};
use crate::ws::Client;

fn node_certificate(authority: &Authority) -> Issued {
    authority.issues(|params| {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    })
}

/// The files of a folder of their own, as settings.
fn settings(name: &str, authority: &Authority, issued: &Issued, mode: &str) -> Vec<(String, String)> {
    let folder = run_folder().join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    vec![
        ("WSGATEWAY__CLUSTER__TLS__CERTIFICATE_FILE".into(), file("node.crt", &issued.pem)),
        ("WSGATEWAY__CLUSTER__TLS__KEY_FILE".into(), file("node.key", &issued.key_pem)),
        ("WSGATEWAY__CLUSTER__TLS__CA_FILE".into(), file("ca.crt", &authority.pem)),
        ("WSGATEWAY__CLUSTER__TLS__MODE".into(), mode.into()),
    ]
}

async fn value(node: &Node, series: &str) -> u64 {
    let metrics = node.admin().get("/metrics").await.expect(200).text();
    let found = metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    found.unwrap_or_else(|| panic!("no {series} in\n{metrics}"))
}

#[tokio::test]
async fn a_cluster_whose_links_are_under_tls_does_all_that_one_does_and_lets_no_other_in() {
    let _turn = own_cluster_turn().await;
    let authority = Authority::new("wsgateway nodes");
    let environment = settings("peer-tls", &authority, &node_certificate(&authority), "required");
    let cluster = Cluster::start_with(3, Plan { environment, ..Plan::default() }).await;
    let service = Service::start().await;
    let wanted = document(&unique_path("peer-tls"), &all_routes_to(&service));
    let endpoint = cluster.create(&with(wanted, "resume", json!({ "windowInSeconds": 30 }))).await;
    let [home, other, third] = &cluster.nodes[..] else { panic!("three nodes") };
    for node in &cluster.nodes {
        assert_eq!(value(node, "wsgateway_cluster_links{tls=\"false\"}").await, 0, "{}", node.name);
        assert!(value(node, "wsgateway_cluster_links{tls=\"true\"}").await > 0, "{}", node.name);
    }

    // A push crosses, and so do the bytes of a client that comes back at another node.
    let mut client = Client::connect(home, &endpoint.path).await;
    let session = client.json().await;
    let id = session["connectionId"].as_str().expect("an id").to_owned();
    let target = format!("/api/v1/connections/{id}");
    assert_eq!(other.admin().post(&target, &json!({ "n": 1 })).await.status, 202);
    assert_eq!(client.json().await, json!({ "n": 1 }));
    drop(client);
    let token = session["resumeToken"].as_str().expect("a token").to_owned();
    let back = format!("{}?resume={token}&received=1", endpoint.path);
    let mut client = Client::connect(other, &back).await;
    let session = client.json().await;
    assert_eq!(session["resumed"], json!(true), "{session}");
    let long = "x".repeat(100_000);
    assert_eq!(third.admin().post(&target, &json!({ "n": 2, "long": long })).await.status, 202);
    assert_eq!(client.json().await["long"], json!(long));

    // A node whose certificate is another authority's finds no cluster, and both sides say so.
    let stranger = Authority::new("somebody else");
    for (name, value) in settings("peer-tls-stranger", &stranger, &node_certificate(&stranger), "required") {
        third.set_environment(&name, &value);
    }
    third.kill();
    third.start();
    eventually("the refusal in the log of a member", PATIENCE, async || home.log().contains("authority").then_some(()))
        .await;
    assert!(value(home, "wsgateway_cluster_links_refused_total{reason=\"authority\"}").await > 0);
}

#[tokio::test]
async fn certificates_between_nodes_are_taken_from_the_files_when_they_change() {
    let _turn = own_cluster_turn().await;
    let authority = Authority::new("wsgateway nodes");
    let first = node_certificate(&authority);
    let environment = settings("peer-tls-new", &authority, &first, "optional");
    let cluster = Cluster::start_with(1, Plan { environment: environment.clone(), ..Plan::default() }).await;
    let node = &cluster.nodes[0];
    let reloads = "wsgateway_tls_reloads_total{listener=\"cluster\",outcome=\"reloaded\"}";
    assert_eq!(value(node, reloads).await, 0);
    settings("peer-tls-new", &authority, &node_certificate(&authority), "optional");
    eventually("the new certificate", PATIENCE, async || (value(node, reloads).await == 1).then_some(())).await;
    // A key that does not fit changes nothing.
    std::fs::write(&environment[1].1, &first.key_pem).expect("a file");
    let failed = "wsgateway_tls_reloads_total{listener=\"cluster\",outcome=\"failed\"}";
    eventually("the complaint", PATIENCE, async || (value(node, failed).await == 1).then_some(())).await;
    assert_eq!(value(node, reloads).await, 1);
}

#[tokio::test]
async fn half_of_the_settings_and_files_that_will_not_do_are_errors_at_start() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(1).await;
    let node = &cluster.nodes[0];
    node.signal(libc::SIGTERM);
    node.wait_exit(Duration::from_secs(20)).await;
    let authority = Authority::new("wsgateway nodes");
    let all = settings("peer-tls-half", &authority, &node_certificate(&authority), "required");
    let ends = async |expected: &str| {
        node.start();
        assert_eq!(node.wait_exit(Duration::from_secs(20)).await.code(), Some(1));
        assert!(node.log_tail().contains(expected), "{expected}\n{}", node.log_tail());
    };
    node.set_environment(&all[0].0, &all[0].1);
    ends("cluster.tls.key_file: is missing: cluster.tls.certificate_file is set").await;
    for (name, value) in &all {
        node.set_environment(name, value);
    }
    node.set_environment(&all[3].0, "sometimes");
    ends("cluster.tls.mode").await;
    node.set_environment(&all[3].0, "required");
    std::fs::write(&all[2].1, "no certificate").expect("a file");
    ends("cluster.tls: the cluster's authority").await;
}
