//! Request and reply over Kafka: a service answers in another topic, and the answer comes back to who asked, on whichever
//! node, with nothing remembered in between.

use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::document::{document, route, with};
use crate::kafka::{broker, Broker, Record, Topic};
use crate::sandbox::{shared, unique_path};
use crate::ws::Client;

fn asking(broker: &Broker, topic: &Topic, answers: &Topic) -> Value {
    json!({"type": "kafka", "topic": topic.name, "bootstrapServers": broker.bootstrap_servers, "replyTopic": answers.name})
}

fn header<'r>(record: &'r Record, name: &str) -> &'r str {
    let found = record.headers.iter().find(|(header, _)| header == name);
    found.unwrap_or_else(|| panic!("no {name} among {:?}", record.headers)).1.as_str()
}

/// What a service does that knows of the two headers, and nothing of the gateway.
async fn answer(broker: &Broker, record: &Record, text: &str) {
    let correlation = header(record, "kafka_correlationId");
    let headers = [("kafka_correlationId", correlation)];
    broker.writer().write(header(record, "kafka_replyTopic"), "any", &headers, Some(text)).await;
}

#[tokio::test]
async fn answers_come_back_to_who_asked() {
    let cluster = shared().await;
    let broker = broker().await;
    let (topic, answers) = (broker.topic("asked").await, broker.topic("answers").await);
    let path = unique_path("asking");
    let wanted = document(&path, &[route("default", &[asking(broker, &topic, &answers)])]);
    cluster.create(&with(wanted, "transform", json!({"outbound": "{\"answer\": {{ event }}}"}))).await;
    // Another endpoint is answered in the same topic.
    let (other_topic, other_path) = (broker.topic("asked-too").await, unique_path("asking-too"));
    let mut other = asking(broker, &other_topic, &answers);
    other["correlationHeader"] = "x-correlation".into();
    cluster.create(&document(&other_path, &[route("default", &[other])])).await;

    let mut clients = Vec::new();
    for node in &cluster.nodes {
        clients.push(Client::connect(node, &path).await);
    }
    let mut stranger = Client::connect(&cluster.nodes[0], &other_path).await;
    let asked = Instant::now();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&json!({"ask": number}).to_string()).await;
    }
    let mut questions = Vec::new();
    for _ in 0..3 {
        questions.push(topic.next().await);
    }
    // In another order than they were asked.
    questions.reverse();
    for question in &questions {
        let attributes = question.attributes();
        let correlation = header(question, "kafka_correlationId");
        let expected = [
            attributes.get("source").trim_start_matches("/endpoints/"),
            attributes.get("connectionid"),
            attributes.get("id"),
        ]
        .join("/");
        assert_eq!(correlation, expected);
        let body: Value = serde_json::from_slice(&question.body).expect("JSON");
        answer(broker, question, &json!({"to": body["ask"]}).to_string()).await;
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.json().await, json!({"answer": {"to": number}}));
    }
    println!("three questions on three nodes, all answered after {:?}", asked.elapsed());

    // With a header of its own, and none of the other endpoint's answers.
    stranger.send("\"mine\"").await;
    let question = other_topic.next().await;
    let correlation = header(&question, "x-correlation").to_string();
    let writer = broker.writer();
    writer.write(&answers.name, "k", &[("x-correlation", &correlation)], Some("\"yours\"")).await;
    assert_eq!(stranger.text().await, "\"yours\"");

    // Answers to nobody: of another endpoint, of a client that has left, of no event, no JSON. The next one arrives.
    let mut leaver = Client::connect(&cluster.nodes[1], &path).await;
    leaver.send("{}").await;
    let abandoned = topic.next().await;
    leaver.leave().await;
    answer(broker, &abandoned, "\"too late\"").await;
    for wrong in ["", "ep-0/x/y", "nonsense", &correlation] {
        writer.write(&answers.name, "k", &[("kafka_correlationId", wrong)], Some("1")).await;
    }
    answer(broker, &questions[0], "{\"not\": json").await;
    answer(broker, &questions[0], "\"again\"").await;
    // questions[0] was the last asked.
    let asker = serde_json::from_slice::<Value>(&questions[0].body).expect("JSON")["ask"].as_u64().expect("a number");
    assert_eq!(clients[asker as usize].json().await, json!({"answer": "again"}), "an answer may come twice");
    for client in &mut clients {
        client.hears_nothing_for(Duration::from_millis(100)).await;
    }
    stranger.hears_nothing_for(Duration::from_millis(100)).await;
}
