//! The story the gateway exists for, on three nodes: a client on one, an HTTP service and a Kafka topic that hear of it,
//! pushes that come back through the two other nodes.

use std::time::Duration;

use crate::cloud_event::{check_story, Attributes};
use crate::document::{document, http, kafka, route};
use crate::kafka::broker;
use crate::sandbox::{shared, unique_path};
use crate::service::Service;
use crate::ws::Client;

/// Each kind of JSON value, and spellings that a gateway which parses and prints again would change.
const EVENTS: &[&str] = &[
    r#"{"action":"say","text":"hello"}"#,
    r#"[1,"two",{"three":3}]"#,
    r#""just text""#,
    "42",
    "-0",
    "1.0",
    "1e400",
    "123456789012345678901234567890.000000000000000000001",
    "true",
    "false",
    "null",
    r#""\u0041\ud83d\ude00 é \/ \n""#,
    " {\t\"spaced\" :\n[ 1 , 2 ] , \"z\":1,\"a\":2 } ",
    r#"{"twice":1,"twice":2}"#,
    "{}",
    "[]",
];

#[tokio::test]
async fn both_services_hear_every_event_and_their_pushes_come_back() {
    let cluster = shared().await;
    let broker = broker().await;
    let topic = broker.topic("flow").await;
    let service = Service::start().await;
    let to_both = |path: &str| [http(&service, path), kafka(broker, &topic)];
    let path = unique_path("flow") + "/{room}";
    let routes = ["connect", "default", "disconnect"].map(|kind| route(kind, &to_both(&format!("/{kind}"))));
    let endpoint = cluster.create(&document(&path, &routes)).await;
    let [first, second, third] = cluster.nodes.as_slice() else { panic!("three nodes") };

    let (mut client, visit) = Client::connect_known(first, &path.replace("{room}", "lobby"), &service).await;
    let connected = topic.next().await;
    let description = visit.call.json();
    assert_eq!(description["connectionId"], visit.id.as_str());
    assert_eq!(description["params"]["room"], "lobby");
    assert_eq!(connected.body, visit.call.body, "both services get the same description");
    let mut over_http = vec![visit.call.attributes()];
    let mut over_kafka = vec![connected.attributes()];
    println!("connect event at both services: {}", visit.call.text());

    for event in EVENTS {
        client.send(event).await;
        let call = service.next("/default").await;
        let record = topic.next().await;
        assert_eq!(call.text(), *event, "HTTP body");
        assert_eq!(String::from_utf8_lossy(&record.body), *event, "Kafka record");
        assert_eq!(record.key.as_deref(), Some(visit.id.as_str()), "the record's key is the connection");
        assert_eq!(record.partition, connected.partition, "one connection, one partition");
        assert_eq!(call.method, "POST");
        assert_eq!(call.header("content-type"), Some("application/json"));
        over_http.push(call.attributes());
        over_kafka.push(record.attributes());
    }
    println!("{} events arrived byte for byte at both", EVENTS.len());

    second.admin().push(&visit.id, r#"{"from": "Service2",  "n": 1.0}"#).await.expect(202);
    assert_eq!(client.text().await, r#"{"from": "Service2",  "n": 1.0}"#);
    third.admin().push(&visit.id, r#"["from","Service1"]"#).await.expect(202);
    assert_eq!(client.text().await, r#"["from","Service1"]"#);
    println!("pushes through the two other nodes reached the client");

    client.leave().await;
    let goodbye = service.next("/disconnect").await;
    let record = topic.next().await;
    assert_eq!(goodbye.body, record.body);
    let description = goodbye.json();
    assert_eq!(description["connectionId"], visit.id.as_str());
    assert_eq!(description["code"], 1000);
    assert_eq!(description["initiator"], "client");
    assert_eq!(description["eventsIn"], EVENTS.len());
    assert_eq!(description["eventsOut"], 2);
    over_http.push(goodbye.attributes());
    over_kafka.push(record.attributes());
    check_attributes(&over_http, &endpoint.id, &path, &visit.id);
    check_attributes(&over_kafka, &endpoint.id, &path, &visit.id);

    topic.gets_nothing_for(Duration::from_millis(1500)).await;
    assert_eq!(service.received("/disconnect").len(), 1, "exactly one disconnect event");
    println!("one disconnect event at each: {}", goodbye.text());
}

fn check_attributes(story: &[Attributes], endpoint_id: &str, endpoint_path: &str, connection_id: &str) {
    for (number, event) in story.iter().enumerate() {
        let kind = match number {
            0 => "connect",
            last if last == story.len() - 1 => "disconnect",
            _ => "message",
        };
        event.check(kind, endpoint_id, endpoint_path, connection_id);
    }
    check_story(story);
}
