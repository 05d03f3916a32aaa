//! Replies of HTTP backends to the sender, and the outbound template over everything that services send to clients.

use std::time::Duration;

use serde_json::{json, Value};

use crate::document::{all_routes_to, document, http, route, with};
use crate::sandbox::{shared, unique_path};
use crate::service::{Behaviour, Service};
use crate::ws::Client;

fn replying(service: &Service, path: &str) -> Value {
    let mut backend = http(service, path);
    backend["reply"] = json!(true);
    backend
}

#[tokio::test]
async fn a_json_answer_goes_back_to_the_sender() {
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave("/ask", Behaviour::status(201).body("{\"price\": 1.50}\n"));
    service.behave("/mute", Behaviour::status(200).body("{\"not\": \"for the client\"}"));
    let routes = [route("default", &[replying(&service, "/ask"), http(&service, "/mute")])];
    let acked = with(document(&unique_path("reply"), &routes), "ack", json!({"when": "delivered"}));
    let endpoint = cluster.create(&acked).await;
    let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;
    client.send("1").await;
    assert_eq!(client.text().await, "{\"price\": 1.50}\n", "byte by byte, before the ack");
    assert_eq!(client.json().await["status"], "delivered");
    // An answer without a body is no reply.
    service.behave("/ask", Behaviour::status(204));
    client.send("2").await;
    assert_eq!(client.json().await["status"], "delivered");
    client.hears_nothing_for(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn an_answer_that_is_no_reply_fails_the_delivery() {
    let cluster = shared().await;
    let service = Service::start().await;
    let routes = [route("default", &[replying(&service, "/ask")]), route("error", &[http(&service, "/error")])];
    let endpoint = cluster.create(&document(&unique_path("no-reply"), &routes)).await;
    let mut client = Client::connect(&cluster.nodes[1], &endpoint.path).await;
    let long = format!("\"{}\"", "x".repeat(1024 * 1024));
    for (status, body, reason) in [
        (200, "<html>", "is not JSON"),
        (200, long.as_str(), "is longer than 1048576 bytes"),
        (404, "{\"a\": 1}", "answered 404"),
    ] {
        service.behave("/ask", Behaviour::status(status).body(body));
        client.send(r#"{"id": 3}"#).await;
        assert_eq!(client.error_frame("delivery_failed").await["clientEventId"], 3);
        let event = service.next("/error").await.json();
        assert!(event["message"].as_str().is_some_and(|text| text.contains(reason)), "{event}");
    }
    assert_eq!(service.received("/ask").len(), 3, "a service that has answered is not asked again");
}

#[tokio::test]
async fn the_outbound_template_is_over_pushes_replies_and_echoes_only() {
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave("/ask", Behaviour::status(200).body("{\"text\": \"a reply\"}"));
    let mut routes = all_routes_to(&service);
    routes[1] = route("default", &[replying(&service, "/ask"), json!({"type": "echo"})]);
    let outbound = r#"{"to": {{ connection.query.who }}, "text": {{ event.text }}, "on": {{ endpoint.name }}}"#;
    let mut described = with(document(&unique_path("out"), &routes), "transform", json!({"outbound": outbound}));
    described["name"] = json!("chat");
    described["ack"] = json!({"when": "received"});
    let endpoint = cluster.create(&described).await;
    let (mut client, visit) = Client::connect_known(&cluster.nodes[2], &endpoint.path, &service).await;
    let made = |text: &str| json!({"to": visit.name, "text": text, "on": "chat"});
    for node in &cluster.nodes {
        node.admin().push(&visit.id, r#"{"text": "pushed"}"#).await.expect(202);
        assert_eq!(client.json().await, made("pushed"), "through {}", node.name);
    }
    client.send(r#"{"text": "mine"}"#).await;
    assert_eq!(client.json().await["type"], "ack", "the gateway's own frames are as they are");
    assert_eq!(client.json().await, made("mine"));
    assert_eq!(client.json().await, made("a reply"));
    client.send("{").await;
    client.error_frame("invalid_json").await;
}

#[tokio::test]
async fn a_message_that_cannot_be_transformed_is_answered_so() {
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave("/ask", Behaviour::status(200).body("[]"));
    let mut routes = all_routes_to(&service);
    routes[1] = route("default", &[replying(&service, "/ask")]);
    let described =
        with(document(&unique_path("fails"), &routes), "transform", json!({"outbound": "{{ event.text }}"}));
    let endpoint = cluster.create(&described).await;
    let (mut client, visit) = Client::connect_known(&cluster.nodes[0], &endpoint.path, &service).await;
    for node in &cluster.nodes {
        let answer = node.admin().push(&visit.id, r#"{"txt": 1}"#).await.expect(422).json();
        assert_eq!(answer["code"], "transform_failed", "{answer}");
        assert!(answer["detail"].as_str().is_some_and(|detail| detail.contains("event.text")), "{answer}");
        node.admin().push(&visit.id, r#"{"text": "fine"}"#).await.expect(202);
        assert_eq!(client.text().await, "\"fine\"", "and nothing of the other");
    }
    // The same of a reply: the client hears that there is none.
    client.send(r#"{"id": 8}"#).await;
    assert_eq!(client.error_frame("transform_failed").await["clientEventId"], 8);
    let event = service.next("/error").await.json();
    assert!(event["message"].as_str().is_some_and(|text| text.contains("outbound")), "{event}");
    let metrics = cluster.nodes[0].admin().get("/metrics").await.expect(200);
    assert!(metrics.text().contains("pushes_total{result=\"transform_failed\"}"), "{}", metrics.text());
}
