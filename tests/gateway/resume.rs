//! Clients that lose their network and come back to their connection: what they missed, who may not, and what services see
//! of it: nothing, or exactly one disconnect event.

use std::time::Duration;

use serde_json::{json, Value};

use crate::document::{all_routes_to, document, with};
use crate::sandbox::{own_cluster_turn, shared, unique_path, Cluster, Endpoint, Node};
use crate::service::Service;
use crate::wait::{eventually, PATIENCE};
use crate::ws::{Client, Received};

/// A client that counts what it gets, as docs/resume.md says.
struct Counting {
    client: Client,
    id: String,
    token: String,
    received: u64,
}

impl Counting {
    async fn connect(node: &Node, target: &str) -> (Self, Value) {
        let mut client = Client::connect(node, target).await;
        let session = client.json().await;
        assert_eq!(session["type"], "session", "{session}");
        let text = |name: &str| session[name].as_str().unwrap_or_else(|| panic!("no {name} in {session}")).to_owned();
        let received = session["received"].as_u64().expect("a number");
        (Self { client, id: text("connectionId"), token: text("resumeToken"), received }, session)
    }

    async fn new(node: &Node, endpoint: &Endpoint) -> Self {
        let (new, session) = Self::connect(node, &endpoint.path).await;
        assert_eq!((&session["resumed"], new.received), (&json!(false), 0), "{session}");
        assert_eq!(session["reason"], Value::Null, "{session}");
        new
    }

    async fn next(&mut self) -> Value {
        let message = self.client.json().await;
        self.received += 1;
        message
    }

    async fn expect(&mut self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            assert_eq!(self.next().await, json!({ "n": number }));
        }
    }

    /// The network is gone: no close frame.
    fn cut(self) -> Lost {
        Lost { id: self.id, token: self.token, received: self.received }
    }
}

/// What is left of it.
#[derive(Clone)]
struct Lost {
    id: String,
    token: String,
    received: u64,
}

impl Lost {
    fn target(&self, path: &str) -> String {
        format!("{path}?resume={}&received={}", self.token, self.received)
    }

    async fn back(&self, node: &Node, endpoint: &Endpoint) -> Counting {
        let (back, session) = Counting::connect(node, &self.target(&endpoint.path)).await;
        assert_eq!(session["resumed"], json!(true), "{session}");
        assert_eq!((&back.id, back.received), (&self.id, self.received), "{session}");
        assert_ne!(back.token, self.token);
        back
    }

    async fn not_back(&self, node: &Node, path: &str, reason: &str) -> Counting {
        let (new, session) = Counting::connect(node, &self.target(path)).await;
        assert_eq!((&session["resumed"], &session["reason"]), (&json!(false), &json!(reason)), "{session}");
        assert_ne!(new.id, self.id);
        assert_eq!(new.received, 0);
        new
    }
}

async fn push(node: &Node, id: &str, number: u64) -> u16 {
    node.admin().push(id, &json!({ "n": number }).to_string()).await.status
}

async fn endpoint_with(cluster: &Cluster, service: &Service, resume: Value) -> Endpoint {
    let wanted = document(&unique_path("resume"), &all_routes_to(service));
    cluster.create(&with(wanted, "resume", resume)).await
}

/// Waits until a node has noticed that the client is gone.
async fn wait_away(node: &Node, id: &str) {
    let key = format!("a lost socket of {id}");
    eventually(&key, PATIENCE, async || {
        let metrics = node.admin().get("/metrics").await.expect(200).text();
        let away = metrics.lines().find_map(|line| line.strip_prefix("wsgateway_connections_away "))?;
        (away != "0").then_some(())
    })
    .await;
    // It may have been another test's: the end of a socket on loopback is read within milliseconds.
    tokio::time::sleep(Duration::from_millis(150)).await;
}

#[tokio::test]
async fn a_client_that_lost_its_network_gets_what_it_missed_in_order_and_once() {
    let cluster = shared().await;
    let service = Service::start().await;
    let endpoint = endpoint_with(cluster, &service, json!({ "windowInSeconds": 30 })).await;
    let [home, second, third] = &cluster.nodes[..] else { panic!("three nodes") };
    let mut client = Counting::new(home, &endpoint).await;
    let id = client.id.clone();
    assert_eq!(service.next("/connect").await.attributes().get("connectionid"), id);
    let membership = format!("/api/v1/groups/{}/connections/{id}", &endpoint.path[1..]);
    second.admin().call("PUT", &membership, &[], b"").await.expect(204);
    let mut number = 0;
    for (round, node) in [home, second, third, second].into_iter().enumerate() {
        for _ in 0..5 {
            number += 1;
            assert_eq!(push(third, &id, number).await, 202);
        }
        // Two of these reach the socket and not the client.
        client.expect(number - 4..=number - 2).await;
        let lost = client.cut();
        for at in [home, second, third].into_iter().cycle().take(30) {
            number += 1;
            assert_eq!(push(at, &id, number).await, 202);
        }
        let group = &endpoint.path[1..];
        number += 1;
        let to_group = second.admin().post(&format!("/api/v1/groups/{group}"), &json!({ "n": number })).await;
        assert_eq!(to_group.expect(202).json()["queued"], 1, "groups outlive the socket");
        let from = number - 32;
        client = lost.back(node, &endpoint).await;
        client.expect(from..=number).await;
        number += 1;
        assert_eq!(push(second, &id, number).await, 202);
        client.expect([number]).await;
        client.client.hears_nothing_for(Duration::from_millis(100)).await;
        client.client.send(&json!({ "round": round }).to_string()).await;
        let event = service.next("/default").await;
        assert_eq!(event.json(), json!({ "round": round }));
        assert_eq!(event.attributes().get("connectionid"), id);
        assert_eq!(event.attributes().get("sequence"), (round + 2).to_string(), "one after the other");
    }
    assert_eq!(service.received("/connect").len(), 1);
    assert!(service.received("/disconnect").is_empty());
    client.client.leave().await;
    let gone = service.next("/disconnect").await.json();
    assert_eq!((&gone["code"], &gone["connectionId"]), (&json!(1000), &json!(id)), "{gone}");
    assert!(!gone.to_string().contains("resume="), "{gone}");
    assert_eq!(push(home, &id, 0).await, 410);
}

#[tokio::test]
async fn a_token_is_good_once_and_for_its_connection_alone() {
    let cluster = shared().await;
    let service = Service::start().await;
    let endpoint = endpoint_with(cluster, &service, json!({ "windowInSeconds": 30 })).await;
    let other = endpoint_with(cluster, &service, json!({ "windowInSeconds": 30 })).await;
    let node = &cluster.nodes[0];
    let first = Counting::new(node, &endpoint).await.cut();
    let second = first.back(node, &endpoint).await;
    // The library has answered the ping behind the session frame when it is asked for the next message.
    let mut second = second;
    assert_eq!(push(node, &first.id, 1).await, 202);
    second.expect([1]).await;
    second.client.hears_nothing_for(Duration::from_millis(200)).await;
    first.not_back(node, &endpoint.path, "unknown").await;
    let (mut wrong, real) = (second.cut(), first.id.clone());
    let good = wrong.clone();
    let secret = wrong.token.split_once('.').unwrap().1.to_owned();
    wrong.token = format!("{real}.{}", secret.chars().rev().collect::<String>());
    if wrong.token != good.token {
        let (_, session) = Counting::connect(node, &wrong.target(&endpoint.path)).await;
        assert!(["unknown", "malformed"].contains(&session["reason"].as_str().unwrap()), "{session}");
    }
    wrong.token = "nonsense".into();
    wrong.not_back(node, &endpoint.path, "malformed").await;
    good.not_back(node, &other.path, "other_endpoint").await;
    let (_, session) = Counting::connect(node, &format!("{}?resume={}", endpoint.path, good.token)).await;
    assert_eq!(session["reason"], "malformed", "without the count: {session}");
    let mut back = good.back(node, &endpoint).await;
    assert_eq!(push(node, &real, 2).await, 202);
    back.expect([2]).await;
    let log: String = cluster.nodes.iter().map(Node::log).collect();
    assert!(!log.contains(&secret), "a token is in a log");
}

#[tokio::test]
async fn when_the_window_is_over_services_hear_of_it_once() {
    let cluster = shared().await;
    let service = Service::start().await;
    let endpoint = endpoint_with(cluster, &service, json!({ "windowInSeconds": 1 })).await;
    let node = &cluster.nodes[1];
    let lost = Counting::new(node, &endpoint).await.cut();
    wait_away(node, &lost.id).await;
    assert_eq!(push(node, &lost.id, 1).await, 202);
    let gone = service.next("/disconnect").await.json();
    assert_eq!((&gone["code"], &gone["reason"]), (&json!(1006), &json!("connection lost")), "{gone}");
    assert_eq!(gone["connectionId"], lost.id.as_str());
    assert_eq!(push(node, &lost.id, 2).await, 410);
    let new = lost.not_back(node, &endpoint.path, "unknown").await;
    new.client.leave().await;
    service.next("/disconnect").await;
    let of_lost = service.received("/disconnect").iter().filter(|call| call.text().contains(&lost.id)).count();
    assert_eq!(of_lost, 1);
}

#[tokio::test]
async fn what_is_kept_is_bounded_and_the_outboxs_policy_says_what_happens_then() {
    let cluster = shared().await;
    let node = &cluster.nodes[2];
    for when_full in ["close", "dropNewest", "dropOldest"] {
        let service = Service::start().await;
        let wanted = document(&unique_path("resume-full"), &all_routes_to(&service));
        let wanted = with(wanted, "resume", json!({ "windowInSeconds": 30, "maxBytes": 1024 }));
        let wanted = with(wanted, "settings", json!({ "outbox": { "whenFull": when_full } }));
        let endpoint = cluster.create(&wanted).await;
        let lost = Counting::new(node, &endpoint).await.cut();
        wait_away(node, &lost.id).await;
        let away = async || {
            let view = node.admin().get(&format!("/api/v1/connections/{}", lost.id)).await;
            (view.status == 200).then_some(())
        };
        eventually("the connection", PATIENCE, away).await;
        let mut statuses = Vec::new();
        for number in 1..=30 {
            statuses.push(push(&cluster.nodes[0], &lost.id, number).await);
        }
        let taken = statuses.iter().take_while(|status| **status == 202).count() as u64;
        match when_full {
            "close" => {
                assert!((5..=15).contains(&taken) && statuses[taken as usize..].iter().all(|status| *status == 410));
                assert_eq!(service.next("/disconnect").await.json()["code"], 1013);
                lost.not_back(node, &endpoint.path, "unknown").await;
            }
            "dropNewest" => {
                assert!((5..=15).contains(&taken) && statuses[taken as usize..].iter().all(|status| *status == 429));
                lost.back(node, &endpoint).await.expect(1..=taken).await;
            }
            _ => {
                assert_eq!(taken, 30);
                let mut back = lost.back(node, &endpoint).await;
                let first = back.next().await["n"].as_u64().expect("a number");
                assert!((15..=25).contains(&first), "{first}");
                back.expect(first + 1..=30).await;
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_missed_too_much_is_told_so() {
    let cluster = shared().await;
    let service = Service::start().await;
    let endpoint = endpoint_with(cluster, &service, json!({ "windowInSeconds": 30, "maxBytes": 1024 })).await;
    let node = &cluster.nodes[0];
    let mut client = Counting::new(node, &endpoint).await;
    for number in 1..=60 {
        assert_eq!(push(node, &client.id, number).await, 202);
    }
    client.expect(1..=60).await;
    let mut lost = client.cut();
    lost.received = 2;
    lost.not_back(node, &endpoint.path, "missed_too_much").await;
    let gone = service.next("/disconnect").await.json();
    assert_eq!((&gone["code"], &gone["connectionId"]), (&json!(1006), &json!(lost.id)), "{gone}");
}

#[tokio::test]
async fn a_token_is_no_credential() {
    let cluster = shared().await;
    let service = Service::start().await;
    let keys = json!([{ "id": "ann", "key": "the-key-of-ann-0001" }, { "id": "bob", "key": "the-key-of-bob-0001" }]);
    let authentication = json!({ "mode": "apiKey", "keys": keys, "in": "query", "name": "key" });
    let wanted = document(&unique_path("resume-user"), &all_routes_to(&service));
    let wanted = with(with(wanted, "resume", json!({ "windowInSeconds": 30 })), "authentication", authentication);
    let endpoint = cluster.create(&wanted).await;
    let node = &cluster.nodes[1];
    let as_user = |target: String, user: &str| format!("{target}&key=the-key-of-{user}-0001");
    let (client, _) = Counting::connect(node, &as_user(format!("{}?", endpoint.path), "ann")).await;
    let lost = client.cut();
    let refused = Client::try_connect(node, &lost.target(&endpoint.path), &[]).await.err().expect("no credential");
    assert_eq!(refused.status, 401);
    let (_, session) = Counting::connect(node, &as_user(lost.target(&endpoint.path), "bob")).await;
    assert_eq!((&session["resumed"], &session["reason"]), (&json!(false), &json!("other_user")), "{session}");
    let (back, session) = Counting::connect(node, &as_user(lost.target(&endpoint.path), "ann")).await;
    assert_eq!((&session["resumed"], &back.id), (&json!(true), &lost.id), "{session}");
    // Her key is withdrawn while she is away.
    let lost = back.cut();
    let mut bob_alone = wanted.clone();
    bob_alone["authentication"]["keys"] = json!([{ "id": "bob", "key": "the-key-of-bob-0001" }]);
    node.admin().put(&format!("/api/v1/endpoints/{}", endpoint.id), &bob_alone).await.expect(200);
    let of_lost = async || service.received("/disconnect").into_iter().find(|call| call.text().contains(&lost.id));
    let gone = eventually("her disconnect event", PATIENCE, of_lost).await.json();
    assert_eq!(gone["code"], 4401, "{gone}");
    let refused = Client::try_connect(node, &as_user(lost.target(&endpoint.path), "ann"), &[]).await.err();
    assert_eq!(refused.expect("a withdrawn key").status, 401);
}

#[tokio::test]
async fn another_socket_takes_the_place_of_one_that_seems_to_live() {
    let cluster = shared().await;
    let service = Service::start().await;
    let wanted = document(&unique_path("resume-half"), &all_routes_to(&service));
    let wanted = with(wanted, "resume", json!({ "windowInSeconds": 30 }));
    // It is one connection all the time: this is its place.
    let endpoint = cluster.create(&with(wanted, "throttling", json!({ "maxConnections": 1, "scope": "node" }))).await;
    let node = &cluster.nodes[0];
    let mut old = Counting::new(node, &endpoint).await;
    assert_eq!(push(node, &old.id, 1).await, 202);
    old.expect([1]).await;
    let lost = Lost { id: old.id.clone(), token: old.token.clone(), received: old.received };
    let mut new = lost.back(node, &endpoint).await;
    let end = old.client.receive().await;
    assert!(matches!(end, Received::Close(4409) | Received::Lost), "{end:?}");
    assert_eq!(push(node, &lost.id, 2).await, 202);
    new.expect([2]).await;
    let lost = new.cut();
    wait_away(node, &lost.id).await;
    let full = Client::try_connect(node, &endpoint.path, &[]).await.err().expect("the place is taken");
    assert_eq!(full.status, 429);
    let back = lost.back(node, &endpoint).await;
    assert!(service.received("/disconnect").is_empty());
    assert_eq!(service.received("/connect").len(), 1);
    back.client.leave().await;
    service.wait_for("/disconnect", 1).await;
    Counting::new(node, &endpoint).await;
}

#[tokio::test]
async fn who_is_away_can_be_closed_like_others() {
    let cluster = shared().await;
    let service = Service::start().await;
    let endpoint = endpoint_with(cluster, &service, json!({ "windowInSeconds": 30 })).await;
    let node = &cluster.nodes[0];
    let (one, other) = (Counting::new(node, &endpoint).await.cut(), Counting::new(node, &endpoint).await.cut());
    cluster.nodes[1].admin().delete(&format!("/api/v1/connections/{}", one.id)).await.expect(204);
    let gone = service.next("/disconnect").await.json();
    assert_eq!((&gone["connectionId"], &gone["initiator"]), (&json!(one.id), &json!("service")), "{gone}");
    one.not_back(node, &endpoint.path, "unknown").await.client.leave().await;
    service.next("/disconnect").await;
    cluster.nodes[2].admin().delete(&format!("/api/v1/endpoints/{}", endpoint.id)).await.expect(204);
    let gone = service.next("/disconnect").await.json();
    assert_eq!((&gone["connectionId"], &gone["code"]), (&json!(other.id), &json!(4410)), "{gone}");
}

#[tokio::test]
async fn a_node_that_leaves_ends_the_connections_of_those_who_are_away() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(1).await;
    let service = Service::start().await;
    let endpoint = endpoint_with(&cluster, &service, json!({ "windowInSeconds": 30 })).await;
    let node = &cluster.nodes[0];
    let lost = Counting::new(node, &endpoint).await.cut();
    wait_away(node, &lost.id).await;
    node.signal(libc::SIGTERM);
    let gone = service.next("/disconnect").await.json();
    assert_eq!((&gone["connectionId"], &gone["code"]), (&json!(lost.id), &json!(1012)), "{gone}");
    node.wait_exit(Duration::from_secs(20)).await;
    node.restart().await;
    lost.not_back(node, &endpoint.path, "node_lost").await;
    assert_eq!(service.received("/disconnect").len(), 1);
}

#[tokio::test]
async fn a_session_ends_with_its_node_and_a_relay_does_not_end_a_session() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(3).await;
    let service = Service::start().await;
    let endpoint = endpoint_with(&cluster, &service, json!({ "windowInSeconds": 30 })).await;
    let [home, second, third] = &cluster.nodes[..] else { panic!("three nodes") };
    let lost = Counting::new(home, &endpoint).await.cut();
    let mut client = lost.back(second, &endpoint).await;
    assert_eq!(push(third, &lost.id, 1).await, 202);
    client.expect([1]).await;
    // The node that carries its bytes dies: the connection is another one's.
    second.kill();
    assert!(matches!(client.client.receive().await, Received::Lost));
    let lost = client.cut();
    for number in 2..=4 {
        assert_eq!(push(third, &lost.id, number).await, 202);
    }
    let mut client = lost.back(third, &endpoint).await;
    client.expect(2..=4).await;
    assert!(service.received("/disconnect").is_empty());
    // The node that has it dies.
    home.kill();
    assert!(matches!(client.client.receive().await, Received::Lost));
    let lost = client.cut();
    // 503 as long as it may only be out of reach.
    let target = lost.target(&endpoint.path);
    let answered = async || Client::try_connect(third, &target, &[]).await.ok();
    let mut new = eventually("another connection", PATIENCE, answered).await;
    let session = new.json().await;
    assert_eq!((&session["resumed"], &session["reason"]), (&json!(false), &json!("node_lost")), "{session}");
    assert_eq!(push(third, session["connectionId"].as_str().expect("an id"), 1).await, 202);
    assert_eq!(new.json().await, json!({ "n": 1 }));
}

/// What the old socket has brought is served and answered, or was never read: its places in the window come back.
#[tokio::test]
async fn taking_a_socket_over_in_the_middle_of_a_burst_costs_no_place_in_the_window() {
    let cluster = shared().await;
    let echo = [crate::document::route("default", &[json!({ "type": "echo" })])];
    let wanted = with(document(&unique_path("resume-burst"), &echo), "resume", json!({ "windowInSeconds": 30 }));
    let endpoint = cluster.create(&with(wanted, "settings", json!({ "maxInFlight": 64 }))).await;
    let node = &cluster.nodes[0];
    let mut client = Counting::new(node, &endpoint).await;
    for round in 0..30 {
        for n in 0..100 {
            client.client.send(&format!("[{round},{n}]")).await;
        }
        let lost = Lost { id: client.id.clone(), token: client.token.clone(), received: client.received };
        let mut back = lost.back(node, &endpoint).await;
        // Answers of the burst that the old socket took along are sent again; then this one's own.
        back.client.send("\"last\"").await;
        while back.next().await != json!("last") {}
        client = back;
    }
    let shown = async || {
        let view = node.admin().get(&format!("/api/v1/connections/{}", client.id)).await.expect(200).json();
        (view["inFlight"] == 0).then_some(())
    };
    eventually("an empty window", PATIENCE, shown).await;
}

#[tokio::test]
async fn a_node_that_has_just_come_back_is_not_taken_for_lost() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(3).await;
    let service = Service::start().await;
    let endpoint = endpoint_with(&cluster, &service, json!({ "windowInSeconds": 30 })).await;
    let [home, second, third] = &cluster.nodes[..] else { panic!("three nodes") };
    for round in 0..3 {
        // Long enough for the others' links to find nobody there.
        home.kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        home.restart().await;
        let served = async || Client::try_connect(home, &endpoint.path, &[]).await.ok();
        eventually("the endpoint", PATIENCE, served).await;
        let lost = Counting::new(home, &endpoint).await.cut();
        let target = lost.target(&endpoint.path);
        // 503 as long as its link is not up again.
        let by = if round % 2 == 0 { second } else { third };
        let answered = async || Client::try_connect(by, &target, &[]).await.ok();
        let session = eventually("an answer", PATIENCE, answered).await.json().await;
        assert_eq!(session["resumed"], json!(true), "round {round}: {session}");
    }
}
