//! A cluster that heals itself, on real nodes: a lost disk, a node that leaves by the API and is removed, what is refused.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::{err, out, run};
use crate::document::{all_routes_to, document};
use crate::http::JSON;
use crate::sandbox::{own_cluster_turn, shared, unique_path, Cluster, Node, Plan};
use crate::service::Service;
use crate::wait::eventually;
use crate::ws::Client;

/// φ of gossip, the silence after which a place is given to another node, and a round of the leader.
const REPLACED_WITHIN: Duration = Duration::from_secs(40);

async fn view(node: &Node) -> Value {
    node.admin().get("/api/v1/cluster").await.expect(200).json()
}

async fn id(node: &Node) -> String {
    view(node).await["nodeId"].as_str().expect("an id").to_owned()
}

/// Waits until the running nodes are the voters in the eyes of each, and nobody else is a member.
async fn wait_shape(nodes: &[&Node], within: Duration) {
    let mut ids = Vec::new();
    for node in nodes {
        ids.push(Value::from(id(node).await));
    }
    ids.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
    for node in nodes {
        eventually(&format!("{ids:?} to vote, as {} sees it", node.name), within, async || {
            let raft = view(node).await["raft"].take();
            let mut voters = raft["voters"].as_array().cloned()?;
            voters.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
            (voters == ids && raft["learners"].as_array()?.is_empty()).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_lost_disk_is_replaced_under_way_and_the_next_loss_is_survived() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(3).await;
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("healing"), &all_routes_to(&service))).await;
    let leader = cluster.leader().await;
    let (wiped, stays) = (&cluster.nodes[(leader + 1) % 3], &cluster.nodes[(leader + 2) % 3]);
    let (mut client, visit) = Client::connect_known(stays, &endpoint.path, &service).await;

    let before = id(wiped).await;
    wiped.kill();
    wiped.wipe();
    let began = Instant::now();
    wiped.restart().await;
    assert_ne!(id(wiped).await, before, "an empty disk is a new node");
    let nodes: Vec<&Node> = cluster.nodes.iter().collect();
    wait_shape(&nodes, REPLACED_WITHIN).await;
    println!("a wiped node voted in the place of the old one after {:?}", began.elapsed());
    assert!(stays.admin().push(&visit.id, "\"still here\"").await.status == 202);
    assert_eq!(client.text().await, "\"still here\"");

    // Before, this was the end of configuration writes: of three voters one was dead already.
    cluster.nodes[leader].kill();
    eventually("a write without the leader", Duration::from_secs(20), async || {
        let body = document(&unique_path("after"), &[]);
        (stays.admin().post("/api/v1/endpoints", &body).await.status == 201).then_some(())
    })
    .await;
    wiped.admin().get(&format!("/api/v1/endpoints/{}", endpoint.id)).await.expect(200);
}

#[tokio::test]
async fn a_node_leaves_by_the_api_is_removed_and_told_when_it_comes_back() {
    let _turn = own_cluster_turn().await;
    let mut cluster = Cluster::start(3).await;
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("leaves"), &all_routes_to(&service))).await;
    let (mut client, _) = Client::connect_known(&cluster.nodes[2], &endpoint.path, &service).await;
    let server = format!("http://{}", cluster.nodes[0].admin);
    let ours = async |arguments: &[&str]| run(&[arguments, &["--server", &server]].concat(), &[]).await;

    // In order, asked of another node: the process ends by itself, with success.
    let drained = ours(&["cluster", "drain", "n3", "--message", "a new machine"]).await;
    assert!(drained.status.success() && out(&drained).contains("n3") && out(&drained).contains("leaves"));
    assert_eq!(client.closed_within(Duration::from_secs(20)).await, 1012);
    assert!(cluster.nodes[2].wait_exit(Duration::from_secs(30)).await.success(), "{}", cluster.nodes[2].log_tail());

    // It is needed until somebody else can vote.
    let refused = ours(&["cluster", "remove", "n3"]).await;
    assert!(
        refused.status.code() == Some(1) && err(&refused).contains("start another node first"),
        "{}",
        err(&refused)
    );
    cluster.add_node().await;
    eventually("the new node to be seen to be there", Duration::from_secs(10), async || {
        let removed = ours(&["cluster", "remove", "n3", "-m", "its machine is sold"]).await;
        (removed.status.success() && out(&removed).contains("is removed")).then_some(())
    })
    .await;
    wait_shape(&[&cluster.nodes[0], &cluster.nodes[1], &cluster.nodes[3]], REPLACED_WITHIN).await;
    let shown = out(&ours(&["cluster", "status", "--all"]).await);
    let of = |name: &str| shown.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    assert!(of("n4").contains("voter") || of("n4").contains("leader"), "{shown}");
    let again = ours(&["cluster", "remove", of("n3").split_whitespace().nth(1).unwrap_or("n3")]).await;
    assert!(again.status.success(), "what is asked for has happened: {}", err(&again));
    let audit = out(&ours(&["audit"]).await);
    for deed in ["DELETE /cluster/nodes/{id}", "POST /cluster/nodes/{id}/drain"] {
        assert!(audit.contains(deed), "{deed} is not in {audit}");
    }

    // It is told, says what to do, and at the next start says it at once.
    for _ in 0..2 {
        cluster.nodes[2].start();
        let ended = cluster.nodes[2].wait_exit(Duration::from_secs(30)).await;
        assert_eq!(ended.code(), Some(1), "{}", cluster.nodes[2].log_tail());
        let log = cluster.nodes[2].log();
        let said = "was removed from cluster";
        assert!(log.contains(said) && log.contains("its machine is sold") && log.contains("empty the data folder"));
    }
    cluster.nodes[2].wipe();
    cluster.nodes[2].restart().await;
    cluster.nodes[2].admin().get(&format!("/api/v1/endpoints/{}", endpoint.id)).await.expect(200);
}

#[tokio::test]
async fn what_is_no_node_is_neither_drained_nor_removed() {
    let cluster = shared().await;
    let admin = cluster.nodes[0].admin();
    for unknown in ["00000000000000ff", "n1", "%20", "00000000000000FF"] {
        let target = format!("/api/v1/cluster/nodes/{unknown}");
        admin.delete(&target).await.expect_problem(404, "node_not_found");
        admin.call("POST", &format!("{target}/drain"), &[], b"").await.expect_problem(404, "node_not_found");
    }
    let own = format!("/api/v1/cluster/nodes/{}", id(&cluster.nodes[1]).await);
    let problem = admin.delete(&own).await.expect_problem(409, "node_needed");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("one of 3 voters")), "{problem}");
    admin.delete(&format!("{own}?reason=x")).await.expect_problem(400, "invalid_query");
    let unknown = run(&["cluster", "drain", "n9", "--server", &format!("http://{}", admin.addr)], &[]).await;
    assert!(unknown.status.code() == Some(1) && err(&unknown).contains("there is no node n9"), "{}", err(&unknown));
}

#[tokio::test]
async fn three_in_the_morning_the_majority_is_lost() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(3).await;
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("morning"), &all_routes_to(&service))).await;
    let changed = document(&endpoint.path, &[]);
    cluster.nodes[1]
        .admin()
        .put(&format!("/api/v1/endpoints/{}?message=second", endpoint.id), &changed)
        .await
        .expect(200);
    cluster.wait_version(&endpoint.id, 2).await;
    let server = |node: &Node| format!("http://{}", node.admin);
    let file = crate::sandbox::run_folder().join("morning.ndjson");
    let file = file.to_str().expect("a path");
    let taken = run(&["cluster", "backup", file, "--server", &server(&cluster.nodes[2])], &[]).await;
    assert!(taken.status.success() && out(&taken).contains("1 documents"), "{}", err(&taken));
    let again = run(&["cluster", "backup", file, "--server", &server(&cluster.nodes[2])], &[]).await;
    assert!(!again.status.success(), "a backup that is there is not overwritten");

    // Two disks are lost; of the third a new cluster is made.
    let id_before = view(&cluster.nodes[2]).await["clusterId"].clone();
    cluster.nodes.iter().for_each(Node::kill);
    cluster.nodes[..2].iter().for_each(Node::wipe);
    let last = &cluster.nodes[2];
    let data = last.data_folder().display().to_string();
    let looked = run(&["cluster", "inspect", "--data-dir", &data], &[]).await;
    assert!(looked.status.success() && out(&looked).matches("voter").count() == 3, "{}{}", out(&looked), err(&looked));
    let asked = run(&["cluster", "recover", "--data-dir", &data], &[]).await;
    assert!(asked.status.code() == Some(1) && err(&asked).contains("--the-others-are-lost"), "{}", err(&asked));
    let recovered = run(&["cluster", "recover", "--data-dir", &data, "--the-others-are-lost"], &[]).await;
    assert!(recovered.status.success(), "{}", err(&recovered));
    last.restart().await;
    assert_ne!(view(last).await["clusterId"], id_before);
    let held = run(&["cluster", "inspect", "--data-dir", &data], &[]).await;
    assert!(!held.status.success(), "a node that runs is left alone");
    last.admin().put(&format!("/api/v1/endpoints/{}", endpoint.id), &changed).await.expect(200);
    for node in &cluster.nodes[..2] {
        node.restart().await;
    }
    let nodes: Vec<&Node> = cluster.nodes.iter().collect();
    wait_shape(&nodes, REPLACED_WITHIN).await;
    let versions =
        cluster.nodes[0].admin().get(&format!("/api/v1/endpoints/{}/versions", endpoint.id)).await.expect(200);
    assert_eq!(versions.json()["items"].as_array().map(Vec::len), Some(3), "{}", versions.text());
    Client::connect(&cluster.nodes[1], &endpoint.path).await.leave().await;

    // All disks are lost: the backup, into a new cluster.
    let other = Cluster::start(1).await;
    let restored = run(&["cluster", "restore", file, "--server", &server(&other.nodes[0])], &[]).await;
    assert!(restored.status.success() && out(&restored).contains("1 documents are restored"), "{}", err(&restored));
    other.wait_version(&endpoint.id, 2).await;
    let version =
        other.nodes[0].admin().get(&format!("/api/v1/endpoints/{}/versions/2", endpoint.id)).await.expect(200);
    assert_eq!(version.json()["message"], "second", "authors and messages too");
    Client::connect(&other.nodes[0], &endpoint.path).await.leave().await;
    let again = run(&["cluster", "restore", file, "--server", &server(&other.nodes[0])], &[]).await;
    assert!(again.status.success() && out(&again).contains("1 were there"), "{}", err(&again));
    other.nodes[0].admin().put(&format!("/api/v1/endpoints/{}", endpoint.id), &changed).await.expect(200);
    let differs = run(&["cluster", "restore", file, "--server", &server(&cluster.nodes[0])], &[]).await;
    assert!(err(&differs).contains("409 differs"), "{}", err(&differs));
}

#[tokio::test]
async fn a_node_that_is_in_no_cluster_calls_nobodys_connection_gone() {
    let cluster = shared().await;
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("stranger"), &all_routes_to(&service))).await;
    let (_client, visit) = Client::connect_known(&cluster.nodes[0], &endpoint.path, &service).await;
    // It waits for two others that do not come.
    let alone = Cluster::prepare(3, Plan { token: Some("the token of a lonely node".into()), ..Plan::default() });
    alone.nodes[0].start();
    let admin = alone.nodes[0].admin();
    let answer = eventually("an answer of the lonely node", Duration::from_secs(20), async || {
        admin.try_call("POST", &format!("/api/v1/connections/{}", visit.id), JSON, b"1").await.ok()
    })
    .await;
    answer.expect_problem(503, "owner_unreachable");
}

#[tokio::test]
async fn what_is_no_backup_is_not_restored() {
    let cluster = shared().await;
    let admin = cluster.nodes[0].admin();
    let head = r#"{"format":"wsgateway-backup","version":1,"clusterId":"x","index":1,"documents":1}"#;
    let document = r#"{"kind":"endpoint","id":"ep-x","key":"/x","activeVersion":1,"versions":[]}"#;
    for (body, says) in [
        ("", "line 1"),
        ("{}", "line 1"),
        (&head.replace("backup\"", "something\""), "line 1: format"),
        (head, "first line says 1"),
        (&format!("{head}\n[]"), "line 2"),
        (&format!("{head}\n\n{document}"), "line 3: endpoint ep-x: versions must count"),
    ] {
        let answer = admin.call("POST", "/api/v1/cluster/restore", &[], body.as_bytes()).await;
        let problem = answer.expect_problem(400, "invalid_backup");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(says)), "{says}: {problem}");
    }
}
