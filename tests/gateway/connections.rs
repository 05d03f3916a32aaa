//! The life of a connection: heartbeats, limits of time and memory, order, who can close and look at it.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::document::{all_routes_to, document, http, route, with};
use crate::sandbox::{shared, unique_path};
use crate::service::{Behaviour, Service};
use crate::wait::{eventually, PATIENCE};
use crate::ws::{Client, RawSocket};

#[tokio::test]
async fn who_answers_no_pings_is_closed_with_4408_and_who_answers_stays() {
    let cluster = shared().await;
    let service = Service::start().await;
    let settings = json!({ "heartbeatIntervalInSeconds": 5, "heartbeatMaxMissingPingFrames": 1 });
    let wanted = with(document(&unique_path("heartbeat"), &all_routes_to(&service)), "settings", settings);
    let endpoint = cluster.create(&wanted).await;
    let node = &cluster.nodes[0];
    let mut mute = RawSocket::connect(node, &endpoint.path, None).await;
    let mut polite = Client::connect(node, &endpoint.path).await;
    let started = Instant::now();
    let (code, ()) =
        tokio::join!(mute.closed(Duration::from_secs(25)), polite.hears_nothing_for(Duration::from_secs(14)));
    assert_eq!(code, 4408);
    let took = started.elapsed();
    polite.send(r#"{"still":"here"}"#).await;
    assert_eq!(service.next("/default").await.text(), r#"{"still":"here"}"#);
    assert_eq!(service.next("/disconnect").await.json()["code"], 4408);
    println!("4408 after {took:?} with an interval of 5 s and 1 missing answer");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed_as_a_slow_consumer() {
    let cluster = shared().await;
    let service = Service::start().await;
    let settings = json!({ "outbox": { "maxBytes": 262_144, "maxMessages": 256, "whenFull": "close" } });
    let wanted = with(document(&unique_path("slow"), &all_routes_to(&service)), "settings", settings);
    let endpoint = cluster.create(&wanted).await;
    let _slow = RawSocket::connect(&cluster.nodes[0], &endpoint.path, Some(4_096)).await;
    let id = service.next("/connect").await.attributes().get("connectionid").to_string();
    let filler = format!("\"{}\"", "x".repeat(60_000));
    let started = Instant::now();
    let mut refused = None;
    // More than the kernel's buffers and the outbox can hold together.
    for count in 1..=400 {
        let answer = cluster.nodes[1].admin().push(&id, &filler).await;
        if answer.status != 202 {
            refused = Some((count, answer.status));
            break;
        }
    }
    let (count, status) = refused.expect("at some push the outbox is full");
    assert!(status == 429 || status == 410, "push {count} was answered {status}");
    let description = service.next("/disconnect").await.json();
    assert_eq!(description["code"], 1013, "{description}");
    assert_eq!(description["initiator"], "gateway", "{description}");
    cluster.nodes[2].admin().push(&id, "1").await.expect(410);
    println!("push {count} answered {status}, closed with 1013 after {:?}", started.elapsed());
}

#[tokio::test]
async fn a_full_outbox_that_drops_the_newest_answers_429_and_keeps_the_rest() {
    let cluster = shared().await;
    let service = Service::start().await;
    let settings = json!({ "outbox": { "maxBytes": 262_144, "maxMessages": 256, "whenFull": "dropNewest" } });
    let wanted = with(document(&unique_path("newest"), &all_routes_to(&service)), "settings", settings);
    let endpoint = cluster.create(&wanted).await;
    let _slow = RawSocket::connect(&cluster.nodes[0], &endpoint.path, Some(4_096)).await;
    let id = service.next("/connect").await.attributes().get("connectionid").to_string();
    let filler = format!("\"{}\"", "x".repeat(60_000));
    let mut statuses = Vec::new();
    while statuses.last() != Some(&429) {
        assert!(statuses.len() < 400, "the outbox never filled up");
        let answer = cluster.nodes[2].admin().push(&id, &filler).await;
        assert!(matches!(answer.status, 202 | 429), "{}: {}", answer.status, answer.text());
        statuses.push(answer.status);
    }
    let pending = cluster.nodes[1].admin().get(&format!("/api/v1/connections/{id}")).await.expect(200).text();
    println!("push {} answered 429; the connection lives: {pending}", statuses.len());
}

#[tokio::test]
async fn idle_and_old_connections_are_closed() {
    let cluster = shared().await;
    let service = Service::start().await;
    let idle = with(
        document(&unique_path("idle"), &all_routes_to(&service)),
        "settings",
        json!({ "idleTimeoutInSeconds": 2 }),
    );
    let idle = cluster.create(&idle).await;
    let old = json!({ "maxConnectionDurationInSeconds": 3 });
    let old = cluster.create(&with(document(&unique_path("old"), &[]), "settings", old)).await;
    let mut idler = Client::connect(&cluster.nodes[0], &idle.path).await;
    let mut busy = Client::connect(&cluster.nodes[0], &idle.path).await;
    let mut elder = Client::connect(&cluster.nodes[1], &old.path).await;
    let talk = async {
        for _ in 0..8 {
            busy.send("1").await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let opened = Instant::now();
    let (idle_code, old_code, ()) = tokio::join!(idler.closed(), elder.closed(), talk);
    assert!(opened.elapsed() < Duration::from_secs(8), "limits of 2 and 3 s took {:?}", opened.elapsed());
    busy.send("\"still here\"").await;
    service.wait_for("/default", 9).await;
    let description = service.next("/disconnect").await.json();
    assert_eq!(description["initiator"], "gateway", "{description}");
    assert_eq!(description["code"], idle_code);
    println!("idle: {idle_code}, old: {old_code}; the one that talks stays");
}

#[tokio::test]
async fn events_of_one_connection_arrive_in_order_also_at_a_slow_backend() {
    const EVENTS: usize = 60;
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave("/default", Behaviour::status(200).after(Duration::from_millis(15)));
    let endpoint = cluster.create(&document(&unique_path("order"), &all_routes_to(&service))).await;
    let mut clients = Vec::new();
    for node in &cluster.nodes {
        clients.push(Client::connect_known(node, &endpoint.path, &service).await);
    }
    for number in 1..=EVENTS {
        for (client, _) in &mut clients {
            client.send(&number.to_string()).await;
        }
    }
    let received = service.wait_for("/default", EVENTS * clients.len()).await;
    let expected: Vec<String> = (1..=EVENTS).map(|number| number.to_string()).collect();
    for (_, visit) in &clients {
        let of_this = received.iter().filter(|call| call.attributes().get("connectionid") == visit.id);
        let bodies: Vec<&str> = of_this.map(|call| call.text()).collect();
        assert_eq!(bodies, expected, "events of {}", visit.name);
    }
    assert!(received.iter().any(|call| call.overlapped), "different connections do not wait for each other");
    println!("{EVENTS} events of {} connections, each in order", clients.len());
}

#[tokio::test]
async fn every_backend_of_a_route_gets_the_event_and_an_optional_one_may_fail() {
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave("/optional", Behaviour::status(500));
    service.behave("/hangs-up", Behaviour::hang_up());
    let optional = |path: &str| {
        let mut backend = http(&service, path);
        backend["required"] = json!(false);
        backend
    };
    let backends = [
        http(&service, "/one"),
        http(&service, "/two"),
        http(&service, "/three"),
        optional("/optional"),
        optional("/hangs-up"),
    ];
    let routes = [route("default", &backends), route("error", &[http(&service, "/error")])];
    let endpoint = cluster.create(&document(&unique_path("fan-out"), &routes)).await;
    let mut client = Client::connect(&cluster.nodes[2], &endpoint.path).await;
    let mut ids = Vec::new();
    for event in ["1", "2", "3"] {
        client.send(event).await;
        for path in ["/one", "/two", "/three"] {
            let call = service.next(path).await;
            assert_eq!(call.text(), event);
            ids.push(call.attributes().get("id").to_string());
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), 3, "all backends see the same event id");
    service.wait_for("/optional", 3).await;
    service.wait_for("/hangs-up", 3).await;
    client.hears_nothing_for(Duration::from_secs(1)).await;
    assert!(service.received("/error").is_empty(), "the failure of an optional backend is no error");
}

#[tokio::test]
async fn a_required_connect_backend_can_refuse() {
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave("/connect", Behaviour::status(403).body(r#"{"reason":"not you"}"#));
    let endpoint = cluster.create(&document(&unique_path("refusing"), &all_routes_to(&service))).await;
    let refused = Client::try_connect(&cluster.nodes[1], &endpoint.path, &[]).await.err().expect("refused");
    assert_eq!(refused.status, 403);
    service.behave("/connect", Behaviour::status(200));
    let (client, _) = Client::connect_known(&cluster.nodes[1], &endpoint.path, &service).await;
    client.leave().await;
    service.next("/disconnect").await;
    assert_eq!(service.received("/disconnect").len(), 1, "the refused one never was a connection");
}

#[tokio::test]
async fn an_operator_describes_and_closes_connections_from_any_node() {
    let cluster = shared().await;
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("operator"), &all_routes_to(&service))).await;
    for (query, code, reason) in [("", 4403, None), ("?code=4500&reason=bye", 4500, Some("bye"))] {
        let (mut client, visit) = Client::connect_known(&cluster.nodes[0], &endpoint.path, &service).await;
        client.send("1").await;
        service.next("/default").await;
        let uri = format!("/api/v1/connections/{}", visit.id);
        let description = eventually("the event to be counted", PATIENCE, async || {
            let description = cluster.nodes[1].admin().get(&uri).await.expect(200).json();
            description.to_string().contains("\"eventsIn\":1").then_some(description)
        })
        .await;
        assert!(description["connectedAt"].is_string() && description["lastActiveAt"].is_string(), "{description}");
        assert!(description.to_string().contains(&endpoint.id), "it names its endpoint: {description}");
        cluster.nodes[2].admin().delete(&format!("{uri}{query}")).await.expect(204);
        assert_eq!(client.closed().await, code);
        let goodbye = service.next("/disconnect").await.json();
        assert_eq!(goodbye["code"], code, "{goodbye}");
        assert!(reason.is_none_or(|reason| goodbye["reason"] == reason), "{goodbye}");
    }
}

#[tokio::test]
async fn pushes_of_one_sender_keep_their_order() {
    const PUSHES: usize = 200;
    let cluster = shared().await;
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("pushed"), &all_routes_to(&service))).await;
    let (mut client, visit) = Client::connect_known(&cluster.nodes[0], &endpoint.path, &service).await;
    let admin = cluster.nodes[1].admin();
    let pushing = async {
        for number in 1..=PUSHES {
            admin.push(&visit.id, &number.to_string()).await.expect(202);
        }
    };
    let reading = async {
        for number in 1..=PUSHES {
            assert_eq!(client.text().await, number.to_string());
        }
    };
    tokio::join!(pushing, reading);
}

#[tokio::test]
async fn the_first_subprotocol_that_both_know_is_echoed() {
    let cluster = shared().await;
    let settings = json!({ "subprotocols": ["chat.v2", "chat.v1"] });
    let endpoint = cluster.create(&with(document(&unique_path("sub"), &[]), "settings", settings)).await;
    let node = &cluster.nodes[0];
    let offered = [("sec-websocket-protocol", "other, chat.v1, chat.v2")];
    let client = Client::try_connect(node, &endpoint.path, &offered).await.expect("accepted");
    let echoed =
        client.handshake.iter().find(|(name, _)| name == "sec-websocket-protocol").map(|(_, value)| value.as_str());
    assert!(matches!(echoed, Some("chat.v1" | "chat.v2")), "{:?}", client.handshake);
}

/// The connect event says who comes; whoever has heard the answer to its handshake is there.
#[tokio::test]
async fn who_has_been_let_in_can_be_pushed_to() {
    const CLIENTS: usize = 200;
    let cluster = shared().await;
    let service = Service::start().await;
    let routes = [route("connect", &[http(&service, "/connect")]), route("default", &[json!({"type": "echo"})])];
    let endpoint = cluster.create(&document(&unique_path("at-once"), &routes)).await;
    let each = (0..CLIENTS).map(|number| {
        let (node, endpoint, service) = (&cluster.nodes[number % 3], &endpoint, &service);
        async move {
            let (mut client, visit) = Client::connect_known(node, &endpoint.path, service).await;
            node.admin().push(&visit.id, "1").await.expect(202);
            assert_eq!(client.text().await, "1");
        }
    });
    futures::future::join_all(each).await;
}
