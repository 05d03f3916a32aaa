//! Which route an event takes: each operator of an expression, keys, the default, and none at all.

use std::collections::BTreeMap;

use serde_json::{json, Value};

use crate::document::{custom, document, http, route, with};
use crate::sandbox::{shared, unique_path};
use crate::service::Service;
use crate::ws::Client;

/// Operator (also the route's name and its service path), expression, an event that matches, one that nearly does.
fn operators() -> Vec<(&'static str, Value, Value, Value)> {
    let leaf = |op: &str, path: &str, value: Value| json!({ op: { "path": path, "value": value } });
    vec![
        ("equal", leaf("equal", "$.equal", json!("a")), json!({ "equal": "a" }), json!({ "equal": "A" })),
        ("equal-number", leaf("equal", "$.eqn", json!(8)), json!({ "eqn": 8 }), json!({ "eqn": "8" })),
        ("equal-null", leaf("equal", "$.eqnull", json!(null)), json!({ "eqnull": null }), json!({ "eqnull": false })),
        ("notEqual", leaf("notEqual", "$.ne", json!(1)), json!({ "ne": 2 }), json!({ "ne": 1 })),
        ("matches", leaf("matches", "$.re", json!("^a+b$")), json!({ "re": "aaab" }), json!({ "re": "aaabc" })),
        ("gt", leaf("gt", "$.gt", json!(5)), json!({ "gt": 5.5 }), json!({ "gt": 5 })),
        ("gte", leaf("gte", "$.gte", json!(5)), json!({ "gte": 5 }), json!({ "gte": 4.999 })),
        ("lt", leaf("lt", "$.lt", json!(-1)), json!({ "lt": -2 }), json!({ "lt": "-2" })),
        ("lte", leaf("lte", "$.lte", json!(0)), json!({ "lte": 0 }), json!({ "lte": 1 })),
        ("in", leaf("in", "$.in", json!(["x", 7])), json!({ "in": 7 }), json!({ "in": "7" })),
        (
            "contains",
            leaf("contains", "$.tags", json!("red")),
            json!({ "tags": ["blue", "red"] }),
            json!({ "tags": [] }),
        ),
        ("startsWith", leaf("startsWith", "$.sw", json!("ab")), json!({ "sw": "abc" }), json!({ "sw": "bab" })),
        (
            "exists",
            json!({ "exists": { "path": "$.ex.deep" } }),
            json!({ "ex": { "deep": null } }),
            json!({ "ex": {} }),
        ),
        (
            "any-node",
            leaf("equal", "$.items[*].id", json!(3)),
            json!({ "items": [{ "id": 1 }, { "id": 3 }] }),
            json!({ "items": [] }),
        ),
        (
            "descendant",
            leaf("equal", "$..needle", json!(1)),
            json!({ "hay": [{ "needle": 1 }] }),
            json!({ "hay": [{ "needle": 2 }] }),
        ),
        (
            "and",
            json!({ "and": [leaf("equal", "$.and.a", json!(1)), leaf("equal", "$.and.b", json!(2))] }),
            json!({ "and": { "a": 1, "b": 2 } }),
            json!({ "and": { "a": 1, "b": 3 } }),
        ),
        (
            "or",
            json!({ "or": [leaf("equal", "$.or.a", json!(1)), leaf("equal", "$.or.b", json!(2))] }),
            json!({ "or": { "a": 0, "b": 2 } }),
            json!({ "or": { "a": 0, "b": 0 } }),
        ),
        (
            "not",
            json!({ "and": [{ "exists": { "path": "$.not" } }, { "not": leaf("equal", "$.not", json!(1)) }] }),
            json!({ "not": 2 }),
            json!({ "not": 1 }),
        ),
    ]
}

#[tokio::test]
async fn each_operator_decides_as_documented() {
    let cluster = shared().await;
    let service = Service::start().await;
    let mut routes: Vec<Value> = operators()
        .into_iter()
        .map(|(name, expression, ..)| custom(name, expression, &[http(&service, &format!("/{name}"))]))
        .collect();
    routes.push(route("default", &[http(&service, "/default")]));
    let endpoint = cluster.create(&document(&unique_path("operators"), &routes)).await;
    let mut client = Client::connect(&cluster.nodes[1], &endpoint.path).await;

    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, _, matching, other) in operators() {
        for (path, event) in [(format!("/{name}"), matching), ("/default".into(), other)] {
            client.send(&event.to_string()).await;
            expected.entry(path).or_default().push(event.to_string());
        }
    }
    // Values that are no objects have no such paths.
    for event in ["[]", "\"a\"", "8"] {
        client.send(event).await;
        expected.entry("/default".into()).or_default().push(event.into());
    }
    for (path, bodies) in &expected {
        let received = service.wait_for(path, bodies.len()).await;
        let texts: Vec<&str> = received.iter().map(|call| call.text()).collect();
        assert_eq!(texts, *bodies, "what {path} received");
        let route = path.trim_start_matches('/');
        assert!(received.iter().all(|call| call.attributes().get("route") == route));
    }
    println!("{} operators: each took its event and left the one that nearly matched", operators().len());
}

#[tokio::test]
async fn the_connection_can_be_looked_at_too() {
    let cluster = shared().await;
    let service = Service::start().await;
    let vip = json!({ "equal": { "path": "$.query.level", "value": "vip", "source": "connection" } });
    let room = json!({ "equal": { "path": "$.params.room", "value": "red", "source": "connection" } });
    let routes = [
        custom("vip", vip, &[http(&service, "/vip")]),
        custom("room", room, &[http(&service, "/room")]),
        route("default", &[http(&service, "/default")]),
    ];
    let path = unique_path("source");
    cluster.create(&document(&format!("{path}/{{room}}"), &routes)).await;
    let node = &cluster.nodes[2];
    for (target, expected) in [("blue?level=vip", "/vip"), ("red?level=low", "/room"), ("blue", "/default")] {
        let mut client = Client::connect(node, &format!("{path}/{target}")).await;
        client.send("1").await;
        service.next(expected).await;
    }
}

#[tokio::test]
async fn keys_choose_a_route_by_one_look_up_and_the_first_match_wins() {
    let cluster = shared().await;
    let service = Service::start().await;
    let keyed = |name: &str, key: &str| json!({ "type": "custom", "name": name, "key": key, "backends": [http(&service, &format!("/{name}"))] });
    let routes = [
        custom("first", json!({ "exists": { "path": "$.first" } }), &[http(&service, "/first")]),
        keyed("join", "join"),
        keyed("leave", "leave"),
        custom("late", json!({ "equal": { "path": "$.action", "value": "join" } }), &[http(&service, "/late")]),
        route("default", &[http(&service, "/default")]),
    ];
    let wanted = with(document(&unique_path("keyed"), &routes), "routeSelector", json!("$.action"));
    let endpoint = cluster.create(&wanted).await;
    let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;
    let cases = [
        (r#"{"action":"join"}"#, "/join"),
        (r#"{"action":"leave","n":1}"#, "/leave"),
        (r#"{"action":"join","first":1}"#, "/first"),
        (r#"{"action":"other"}"#, "/default"),
        (r#"{"action":["join"]}"#, "/default"),
        (r#"{}"#, "/default"),
    ];
    for (event, path) in cases {
        client.send(event).await;
        assert_eq!(service.next(path).await.text(), event);
    }
    assert!(service.received("/late").is_empty(), "a later match is not looked at");
}

#[tokio::test]
async fn continue_goes_on_to_the_next_match() {
    let cluster = shared().await;
    let service = Service::start().await;
    let has = |field: &str| json!({ "exists": { "path": format!("$.{field}") } });
    let mut audit = custom("audit", has("a"), &[http(&service, "/audit")]);
    audit["continue"] = json!(true);
    let routes = [
        audit,
        custom("second", has("b"), &[http(&service, "/second")]),
        route("default", &[http(&service, "/default")]),
    ];
    let endpoint = cluster.create(&document(&unique_path("continue"), &routes)).await;
    let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;
    client.send(r#"{"a":1,"b":1}"#).await;
    let (audit, second) = (service.next("/audit").await, service.next("/second").await);
    assert_eq!(audit.attributes().get("id"), second.attributes().get("id"), "it is one event");
    client.send(r#"{"b":2}"#).await;
    assert_eq!(service.next("/second").await.text(), r#"{"b":2}"#);
    client.send(r#"{"c":3}"#).await;
    assert_eq!(service.next("/default").await.text(), r#"{"c":3}"#);
    assert_eq!(service.received("/audit").len(), 1);
}

#[tokio::test]
async fn an_event_without_a_route_is_answered_with_no_route() {
    let cluster = shared().await;
    let service = Service::start().await;
    let routes = [
        route("error", &[http(&service, "/error")]),
        custom("known", json!({ "exists": { "path": "$.known" } }), &[http(&service, "/known")]),
    ];
    let endpoint = cluster.create(&document(&unique_path("none"), &routes)).await;
    let mut client = Client::connect(&cluster.nodes[1], &endpoint.path).await;
    client.send(r#"{"id":"my-7","unknown":1}"#).await;
    let frame = client.error_frame("no_route").await;
    assert_eq!(frame["clientEventId"], "my-7", "the client's own id is echoed: {frame}");
    let event = service.next("/error").await.json();
    assert_eq!(event["code"], "no_route");
    assert_eq!(event["event"], json!({ "id": "my-7", "unknown": 1 }));
    assert_eq!(event["eventId"], frame["eventId"]);
    client.send(r#"{"known":1}"#).await;
    service.next("/known").await;
}
