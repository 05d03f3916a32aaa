//! Acknowledgements: on receipt and after delivery, of the endpoint and of a route, in the gateway's words and in a
//! template's.

use std::time::Duration;

use serde_json::{json, Value};

use crate::document::{custom, document, http, route, with};
use crate::sandbox::{shared, unique_path};
use crate::service::{Behaviour, Service};
use crate::wait::eventually;
use crate::ws::Client;

fn acknowledged(mut route: Value, ack: Value) -> Value {
    route["ack"] = ack;
    route
}

#[tokio::test]
async fn received_comes_at_once_and_delivered_after_all_services() {
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave("/slow", Behaviour::status(200).after(Duration::from_millis(600)));
    let routes = [
        acknowledged(
            custom("slow", json!({"exists": {"path": "$.slow"}}), &[http(&service, "/slow")]),
            json!({"when": "delivered"}),
        ),
        route("default", &[http(&service, "/slow")]),
    ];
    let endpoint =
        cluster.create(&with(document(&unique_path("acks"), &routes), "ack", json!({"when": "received"}))).await;
    let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;

    client.send(r#"{"id": [7], "n": 1}"#).await;
    let sent = std::time::Instant::now();
    let ack = client.json().await;
    assert!(sent.elapsed() < Duration::from_millis(550), "received after {:?}", sent.elapsed());
    let call = service.next("/slow").await;
    let id = call.attributes().get("id").to_owned();
    assert_eq!(ack, json!({"type": "ack", "eventId": id, "status": "received", "clientEventId": [7]}));

    client.send(r#"{"slow": true}"#).await;
    let sent = std::time::Instant::now();
    let ack = client.json().await;
    assert!(sent.elapsed() >= Duration::from_millis(500), "delivered after {:?}", sent.elapsed());
    let id = service.next("/slow").await.attributes().get("id").to_owned();
    assert_eq!(ack, json!({"type": "ack", "eventId": id, "status": "delivered"}), "the route's own, and no other");
    client.hears_nothing_for(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn an_event_on_several_routes_is_acknowledged_once_and_only_if_all_took_it() {
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave("/broken", Behaviour::status(500));
    let going_on = |name: &str, path: &str| {
        let mut route = custom(name, json!({"exists": {"path": format!("$.{name}")}}), &[http(&service, path)]);
        route["continue"] = json!(true);
        route
    };
    let mut best_effort = going_on("effort", "/broken");
    best_effort["backends"][0]["required"] = json!(false);
    let routes = [going_on("a", "/a"), best_effort, going_on("broken", "/broken"), going_on("b", "/b")];
    let endpoint =
        cluster.create(&with(document(&unique_path("once"), &routes), "ack", json!({"when": "delivered"}))).await;
    let mut client = Client::connect(&cluster.nodes[1], &endpoint.path).await;
    client.send(r#"{"id": 1, "a": 1, "effort": 1, "b": 1}"#).await;
    let ack = client.json().await;
    assert_eq!((&ack["status"], &ack["clientEventId"]), (&json!("delivered"), &json!(1)), "{ack}");
    assert_eq!((service.received("/a").len(), service.received("/b").len()), (1, 1));

    client.send(r#"{"id": 2, "a": 1, "broken": 1, "b": 1}"#).await;
    let frame = client.error_frame("delivery_failed").await;
    assert_eq!(frame["clientEventId"], 2, "an error instead of an ack");
    service.wait_for("/b", 2).await;
    client.send(r#"{"id": 3, "a": 1}"#).await;
    assert_eq!(client.json().await["clientEventId"], 3, "nothing came between");
}

#[tokio::test]
async fn refused_events_are_not_acknowledged() {
    let cluster = shared().await;
    let endpoint = cluster
        .create(&with(
            document(
                &unique_path("no-ack"),
                &[custom("c", json!({"exists": {"path": "$.c"}}), &[json!({"type": "echo"})])],
            ),
            "ack",
            json!({"when": "received"}),
        ))
        .await;
    let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;
    client.send("{").await;
    client.error_frame("invalid_json").await;
    client.send("1").await;
    client.error_frame("no_route").await;
    client.send(r#"{"c": 1}"#).await;
    assert_eq!(client.json().await["status"], "received", "the ack comes first");
    assert_eq!(client.text().await, r#"{"c": 1}"#, "then the echo");
}

#[tokio::test]
async fn an_ack_may_have_its_own_words() {
    let cluster = shared().await;
    let service = Service::start().await;
    let template = r#"{"ok": {{ ack.eventId }}, "was": {{ ack.status }}, "you": "{{ connection.query.who }}", "order": {{ event.order }}}"#;
    let routes = [
        acknowledged(
            route("default", &[http(&service, "/default")]),
            json!({"when": "delivered", "template": template}),
        ),
        route("error", &[http(&service, "/error")]),
    ];
    let endpoint = cluster.create(&document(&unique_path("words"), &routes)).await;
    let mut client = Client::connect(&cluster.nodes[2], &format!("{}?who=ann", endpoint.path)).await;
    client.send(r#"{"order": 17}"#).await;
    let ack = client.json().await;
    let id = service.next("/default").await.attributes().get("id").to_owned();
    assert_eq!(ack, json!({"ok": id, "was": "delivered", "you": "ann", "order": 17}));

    // The event is taken whatever its acknowledgement says: then in the gateway's own words.
    client.send(r#"{"id": 5}"#).await;
    let ack = client.json().await;
    assert_eq!((&ack["type"], &ack["status"], &ack["clientEventId"]), (&json!("ack"), &json!("delivered"), &json!(5)));
    let event = service.next("/error").await.json();
    assert_eq!((&event["code"], &event["eventId"]), (&json!("transform_failed"), &ack["eventId"]));
    assert!(event["message"].as_str().is_some_and(|text| text.contains("event.order")), "{event}");
}

#[tokio::test]
async fn a_new_version_acknowledges_anew() {
    let cluster = shared().await;
    let path = unique_path("anew");
    let plain = document(&path, &[route("default", &[json!({"type": "echo"})])]);
    let endpoint = cluster.create(&plain).await;
    let mut client = Client::connect(&cluster.nodes[1], &endpoint.path).await;
    client.send("1").await;
    assert_eq!(client.text().await, "1");
    let next = with(plain, "ack", json!({"when": "received", "template": "[{{ ack.status }}]"}));
    cluster.nodes[0].admin().put(&format!("/api/v1/endpoints/{}", endpoint.id), &next).await.expect(200);
    eventually("the new version at the open connection", Duration::from_secs(10), async || {
        client.send("2").await;
        let first = client.text().await;
        if first == "2" {
            return None;
        }
        assert_eq!((first.as_str(), client.text().await.as_str()), ("[\"received\"]", "2"));
        Some(())
    })
    .await;
}
