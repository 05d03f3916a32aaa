//! Inbound templates: what services get instead of the event, on every type of route; and what becomes of events that a
//! template cannot transform.

use serde_json::{json, Value};

use crate::document::{custom, document, http, route};
use crate::sandbox::{shared, unique_path};
use crate::service::{Behaviour, Service};
use crate::ws::Client;

/// A route with an inbound template.
pub fn transformed(mut route: Value, template: &str) -> Value {
    route["transform"] = json!({ "inbound": template });
    route
}

#[tokio::test]
async fn services_get_what_the_template_makes_of_an_event() {
    let cluster = shared().await;
    let service = Service::start().await;
    let template = r#"{
        "room": {{ connection.params.room }}, "from": "<{{ connection.query.name }}>", "endpoint": {{ endpoint.path }},
        "text": {{ event.text | trim }}, "all": {{ event }}, "at": {{ now }}, "nick": {{ event.nick | default("nobody") }},
        "tags": [{% for tag in event.tags if tag != "no" %}{{ tag | upper }}{% if not loop.last %}, {% endif %}{% endfor %}]
    }"#;
    let path = format!("{}/{{room}}", unique_path("inbound"));
    let routes = [
        transformed(
            custom("buy", json!({"exists": {"path": "$.buy"}}), &[http(&service, "/buy")]),
            "[{{ event.buy }}, {{ connection.id }}]",
        ),
        transformed(route("default", &[http(&service, "/default"), json!({"type": "echo"})]), template),
    ];
    let endpoint = cluster.create(&document(&path, &routes)).await;
    for (node, (query, name)) in cluster.nodes.iter().zip([("ann", "ann"), ("b%22ob", "b\"ob"), ("%C3%A9", "é")]) {
        let mut client =
            Client::connect(node, &format!("{}?name={query}", endpoint.path.replace("{room}", "lobby"))).await;
        client.send(r#"{"text": "  hi \"there\" ", "tags": ["a", "no", "b"]}"#).await;
        let call = service.next("/default").await;
        let body = call.json();
        assert_eq!(body["room"], "lobby");
        assert_eq!(body["from"], format!("<{name}>"), "inside quotes a value is text");
        assert_eq!(body["text"], "hi \"there\"", "outside them it is JSON");
        assert_eq!(body["all"], json!({"text": "  hi \"there\" ", "tags": ["a", "no", "b"]}));
        assert_eq!((&body["nick"], &body["tags"]), (&json!("nobody"), &json!(["A", "B"])));
        assert_eq!(body["at"], call.attributes().get("time"));
        assert_eq!(client.json().await, body, "an echo answers with the transformed event");

        client.send(r#"{"buy": 1.50}"#).await;
        let call = service.next("/buy").await;
        assert_eq!(call.json(), json!([1.5, call.attributes().get("connectionid")]));
        client.leave().await;
    }
}

#[tokio::test]
async fn connect_disconnect_and_error_events_are_transformed_too() {
    let cluster = shared().await;
    let service = Service::start().await;
    let routes = [
        transformed(
            route("connect", &[http(&service, "/connect")]),
            r#"{"hello": {{ event.query.who }}, "id": {{ event.connectionId }}}"#,
        ),
        transformed(
            route("disconnect", &[http(&service, "/disconnect")]),
            r#"{"bye": {{ connection.query.who }}, "code": {{ event.code }}}"#,
        ),
        transformed(
            route("error", &[http(&service, "/error")]),
            r#"{"what": {{ event.code }}, "of": {{ event.event }}}"#,
        ),
    ];
    let endpoint = cluster.create(&document(&unique_path("own"), &routes)).await;
    let mut client = Client::connect(&cluster.nodes[1], &format!("{}?who=ann", endpoint.path)).await;
    let hello = service.next("/connect").await;
    assert_eq!(hello.json(), json!({"hello": "ann", "id": hello.attributes().get("connectionid")}));
    client.send("no json").await;
    client.error_frame("invalid_json").await;
    assert_eq!(service.next("/error").await.json(), json!({"what": "invalid_json", "of": "no json"}));
    client.leave().await;
    assert_eq!(service.next("/disconnect").await.json(), json!({"bye": "ann", "code": 1000}));
}

#[tokio::test]
async fn an_event_that_cannot_be_transformed_is_refused_whole() {
    let cluster = shared().await;
    let service = Service::start().await;
    let mut audit = custom("audit", json!({"exists": {"path": "$"}}), &[http(&service, "/audit")]);
    audit["continue"] = json!(true);
    let routes = [
        audit,
        transformed(
            custom("strict", json!({"exists": {"path": "$.strict"}}), &[http(&service, "/strict")]),
            "{\n\"name\": {{ event.name }}\n}",
        ),
        transformed(route("default", &[http(&service, "/default")]), "1"),
        route("error", &[http(&service, "/error")]),
    ];
    let endpoint = cluster.create(&document(&unique_path("refused"), &routes)).await;
    let mut client = Client::connect(&cluster.nodes[2], &endpoint.path).await;
    client.send(r#"{"id": 4, "strict": true}"#).await;
    let frame = client.error_frame("transform_failed").await;
    let message = frame["error"]["message"].as_str().expect("a message");
    assert!(message.contains("line 2") && message.contains("event.name"), "{message}");
    assert_eq!(frame["clientEventId"], 4);
    let event = service.next("/error").await.json();
    assert_eq!((&event["code"], &event["route"]), (&json!("transform_failed"), &json!("strict")));
    assert_eq!((&event["event"], &event["eventId"]), (&json!({"id": 4, "strict": true}), &frame["eventId"]));

    // JSON that no tree can hold reaches routes that look at nothing, and is refused where a template looks.
    client.send(r#"{"strict": 1e999}"#).await;
    assert_eq!(service.next("/default").await.text(), "1");
    client.send(r#"{"strict": true, "name": "x"}"#).await;
    assert_eq!(service.next("/strict").await.json(), json!({"name": "x"}));
    assert_eq!(service.next("/audit").await.json()["name"], "x", "nothing of the refused event was sent");
}

#[tokio::test]
async fn templates_of_the_gateways_own_events_may_fail_as_well() {
    let cluster = shared().await;
    let service = Service::start().await;
    let error = || route("error", &[http(&service, "/error")]);
    let refusing = [transformed(route("connect", &[http(&service, "/connect")]), "{{ event.query.who }}"), error()];
    let endpoint = cluster.create(&document(&unique_path("connect"), &refusing)).await;
    let refused = Client::try_connect(&cluster.nodes[0], &endpoint.path, &[]).await;
    assert_eq!(refused.err().map(|refused| refused.status), Some(502));
    Client::connect(&cluster.nodes[0], &format!("{}?who=ann", endpoint.path)).await;
    assert_eq!(service.next("/connect").await.text(), "\"ann\"");

    let silent = [transformed(route("disconnect", &[http(&service, "/disconnect")]), "{{ event.query.who }}"), error()];
    let endpoint = cluster.create(&document(&unique_path("disconnect"), &silent)).await;
    Client::connect(&cluster.nodes[0], &endpoint.path).await.leave().await;
    let event = service.next("/error").await.json();
    assert_eq!((&event["code"], &event["route"]), (&json!("transform_failed"), &json!("disconnect")));
    assert_eq!(event["event"]["code"], 1000, "the whole disconnect event is there: {event}");
    assert!(service.received("/disconnect").is_empty());
}

#[tokio::test]
async fn a_failed_delivery_tells_of_the_clients_own_event() {
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave("/down", Behaviour::status(500));
    let routes = [
        transformed(route("default", &[http(&service, "/down")]), r#"{"made": {{ event.a }}}"#),
        route("error", &[http(&service, "/error")]),
    ];
    let endpoint = cluster.create(&document(&unique_path("down"), &routes)).await;
    let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;
    client.send(r#"{"id": "mine", "a": 1}"#).await;
    assert_eq!(client.error_frame("delivery_failed").await["clientEventId"], "mine");
    assert_eq!(service.next("/down").await.json(), json!({"made": 1}));
    assert_eq!(service.next("/error").await.json()["event"], json!({"id": "mine", "a": 1}));
}
