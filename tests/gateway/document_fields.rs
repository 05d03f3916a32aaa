//! Fields of the document that no other scenario is about, each as a client or a service notices it: methods, connect
//! time-outs, acknowledgements and keys of Kafka records, a full outbox that drops the oldest, a change that closes.

use std::time::{Duration, Instant};

use serde_json::{json, Value};
use tokio::net::{TcpSocket, TcpStream};

use crate::document::{all_routes_to, custom, document, http, kafka, route, with};
use crate::kafka::broker;
use crate::sandbox::{shared, unique_path};
use crate::service::Service;
use crate::ws::{Client, RawSocket, TEXT};

#[tokio::test]
async fn a_backend_is_called_with_its_method() {
    let cluster = shared().await;
    let service = Service::start().await;
    let backends =
        ["POST", "PUT", "PATCH"].map(|method| with(http(&service, &format!("/{method}")), "method", json!(method)));
    let endpoint = cluster.create(&document(&unique_path("methods"), &[route("default", &backends)])).await;
    let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;
    client.send(r#"{"n":1}"#).await;
    for method in ["POST", "PUT", "PATCH"] {
        let call = service.next(&format!("/{method}")).await;
        assert_eq!((call.method.as_str(), call.text()), (method, r#"{"n":1}"#));
    }
}

/// A listener whose queue is full answers no connection attempt: the kernel drops what comes.
async fn deaf() -> (String, TcpSocketHeld) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().unwrap()).expect("a free port");
    let listener = socket.listen(1).expect("it listens");
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        queued.push(stream);
        assert!(queued.len() < 64, "the queue has no end");
    }
    (format!("http://{address}/"), (listener, queued))
}

type TcpSocketHeld = (tokio::net::TcpListener, Vec<TcpStream>);

#[tokio::test]
async fn a_backend_that_takes_no_connection_fails_after_its_connect_timeout() {
    let cluster = shared().await;
    let (url, _held) = deaf().await;
    let backend = json!({ "type": "http", "destination": url, "timeoutInMillis": 20_000, "connectTimeoutInMillis": 400,
        "retry": { "attempts": 1 } });
    let endpoint = cluster.create(&document(&unique_path("deaf"), &[route("default", &[backend])])).await;
    let mut client = Client::connect(&cluster.nodes[1], &endpoint.path).await;
    let began = Instant::now();
    client.send("1").await;
    client.error_frame("delivery_failed").await;
    let took = began.elapsed();
    assert!((Duration::from_millis(390)..Duration::from_secs(5)).contains(&took), "it took {took:?}");
    println!("no connection: given up after {took:?}");
}

#[tokio::test]
async fn records_are_acknowledged_and_keyed_as_the_backend_says() {
    let cluster = shared().await;
    let broker = broker().await;
    let topic = broker.topic("keys").await;
    let to = |field: &str, value: &str| with(kafka(broker, &topic), field, json!(value));
    let is = |name: &str| json!({ "equal": { "path": "$.to", "value": name } });
    let routes = [
        custom("acks 0", is("acks 0"), &[to("acks", "0")]),
        custom("acks 1", is("acks 1"), &[to("acks", "1")]),
        custom("acks all", is("acks all"), &[to("acks", "all")]),
        custom("by user", is("by user"), &[to("key", "userId")]),
        custom("by path", is("by path"), &[to("key", "$.order.id")]),
    ];
    let keys = json!({ "mode": "apiKey", "keys": [{ "id": "ann", "key": "a-key-of-sufficient-length-ann" }] });
    let wanted = with(document(&unique_path("keys"), &routes), "authentication", keys);
    let wanted = with(wanted, "ack", json!({ "when": "delivered" }));
    let endpoint = cluster.create(&wanted).await;
    let header = [("x-api-key", "a-key-of-sufficient-length-ann")];
    let mut client = Client::try_connect(&cluster.nodes[2], &endpoint.path, &header).await.expect("accepted");
    let mut connection = None;
    for (to, more, key) in [
        ("acks 0", json!(null), None),
        ("acks 1", json!(null), None),
        ("acks all", json!(null), None),
        ("by user", json!(null), Some("ann")),
        ("by path", json!({ "id": "o-7" }), Some("o-7")),
        ("by path", json!({ "id": 7 }), Some("7")),
        ("by path", json!({}), None),
    ] {
        let event = json!({ "to": to, "order": more });
        client.send(&event.to_string()).await;
        let ack = client.json().await;
        assert_eq!(ack["status"], "delivered", "{to}: {ack}");
        let record = topic.next().await;
        assert_eq!(serde_json::from_slice::<Value>(&record.body).unwrap(), event);
        // Without a key of its own the record has the connection's.
        let key = key.map(str::to_owned).or(connection.clone());
        connection = connection.or_else(|| Some(record.attributes().get("connectionid").to_string()));
        assert_eq!(record.key, key.or(connection.clone()), "{event}");
    }
}

#[tokio::test]
async fn a_full_outbox_that_drops_the_oldest_keeps_the_newest_in_order() {
    const PUSHES: u32 = 200;
    let cluster = shared().await;
    let service = Service::start().await;
    let settings = json!({ "outbox": { "maxBytes": 262_144, "maxMessages": 256, "whenFull": "dropOldest" } });
    let wanted = with(document(&unique_path("oldest"), &all_routes_to(&service)), "settings", settings);
    let endpoint = cluster.create(&wanted).await;
    let mut slow = RawSocket::connect(&cluster.nodes[0], &endpoint.path, Some(4_096)).await;
    let id = service.next("/connect").await.attributes().get("connectionid").to_string();
    let filler = "x".repeat(60_000);
    // More than the kernel's buffers and the outbox can hold together.
    for number in 1..=PUSHES {
        let push = cluster.nodes[1].admin().push(&id, &format!("[{number},\"{filler}\"]")).await;
        assert_eq!(push.status, 202, "{number}: {}", push.text());
    }
    let mut got: Vec<u32> = Vec::new();
    while got.last() != Some(&PUSHES) {
        let (opcode, payload) = slow.read_frame().await;
        if opcode == TEXT {
            let number = String::from_utf8_lossy(&payload[1..8]).split(',').next().unwrap().parse().unwrap();
            assert!(got.last() < Some(&number), "{number} after {:?}", got.last());
            got.push(number);
        }
    }
    assert_eq!(got[0], 1, "what was under way is not taken back");
    assert!(got.len() < PUSHES as usize, "nothing was dropped");
    println!("{} of {PUSHES} messages reached a client that did not read, the newest among them", got.len());
}

#[tokio::test]
async fn a_version_may_keep_connections_or_close_them() {
    let cluster = shared().await;
    for (rule, closed) in [("keep", false), ("close", true)] {
        let wanted = with(document(&unique_path(rule), &[]), "settings", json!({ "onVersionChange": rule }));
        let endpoint = cluster.create(&wanted).await;
        let mut clients = Vec::new();
        for node in &cluster.nodes {
            clients.push(Client::connect(node, &endpoint.path).await);
        }
        let uri = format!("/api/v1/endpoints/{}", endpoint.id);
        cluster.nodes[0].admin().put(&uri, &with(wanted, "name", json!("second"))).await.expect(200);
        cluster.wait_version(&endpoint.id, 2).await;
        for client in &mut clients {
            match closed {
                true => assert_eq!(client.closed().await, 1012),
                false => client.hears_nothing_for(Duration::from_millis(500)).await,
            }
        }
    }
}
