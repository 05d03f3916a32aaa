//! Kafka behind TLS and SASL, and every compression: what the gateway is let in with, and what is said when it is not.

use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::document::{document, http, kafka, route, with};
use crate::kafka::{broker, Broker, Topic};
use crate::sandbox::{own_cluster_turn, run_folder, shared, unique_path, Cluster, Plan};
use crate::service::Service;
use crate::ws::Client;

/// A backend at this listener.
fn at(servers: &str, topic: &Topic, security: Value) -> Value {
    json!({"type": "kafka", "topic": topic.name, "bootstrapServers": servers, "security": security})
}

fn sasl(protocol: &str, mechanism: &str, broker: &Broker) -> Value {
    let mut security = json!({"protocol": protocol, "saslMechanism": mechanism, "username": "alice",
        "password": "alice-secret"});
    if protocol == "SASL_SSL" {
        security["ca"] = broker.tls("ca.pem").into();
    }
    security
}

#[tokio::test]
async fn events_reach_brokers_over_tls_and_sasl() {
    let cluster = shared().await;
    let broker = broker().await;
    let secured = &broker.secured;
    let ssl = json!({"protocol": "SSL", "ca": broker.tls("ca.pem")});
    let mut mutual = ssl.clone();
    mutual["certificate"] = broker.tls("client.pem").into();
    mutual["privateKey"] = broker.tls("client.key").into();
    let cases = [
        ("SSL", &secured.ssl, ssl),
        ("SSL with a client's certificate", &secured.mtls, mutual),
        ("PLAIN", &secured.sasl_plaintext, sasl("SASL_PLAINTEXT", "PLAIN", broker)),
        ("SCRAM-SHA-256", &secured.sasl_plaintext, sasl("SASL_PLAINTEXT", "SCRAM-SHA-256", broker)),
        ("PLAIN over TLS", &secured.sasl_ssl, sasl("SASL_SSL", "PLAIN", broker)),
        ("SCRAM-SHA-256 over TLS", &secured.sasl_ssl, sasl("SASL_SSL", "SCRAM-SHA-256", broker)),
        ("SCRAM-SHA-512 over TLS", &secured.sasl_ssl, sasl("SASL_SSL", "SCRAM-SHA-512", broker)),
    ];
    for (index, (name, servers, security)) in cases.into_iter().enumerate() {
        let topic = broker.topic("secured").await;
        let wanted = document(&unique_path("secured"), &[route("default", &[at(servers, &topic, security)])]);
        let wanted = with(wanted, "ack", json!({"when": "delivered"}));
        let endpoint = cluster.create(&wanted).await;
        let mut client = Client::connect(&cluster.nodes[index % 3], &endpoint.path).await;
        let sent = Instant::now();
        client.send(r#"{"over":"it"}"#).await;
        assert_eq!(client.json().await["status"], "delivered", "{name}");
        assert_eq!(topic.next().await.body, br#"{"over":"it"}"#, "{name}");
        println!("{name}: first event delivered after {:?}", sent.elapsed());
        let shown = cluster.nodes[0].admin().get(&format!("/api/v1/endpoints/{}", endpoint.id)).await.text();
        assert!(!shown.contains("alice-secret") && !shown.contains("PRIVATE KEY"), "{shown}");
    }
}

#[tokio::test]
async fn every_compression_is_written_and_read() {
    let cluster = shared().await;
    let broker = broker().await;
    let event = json!({"text": "the same again and again ".repeat(200)}).to_string();
    for compression in ["none", "gzip", "zstd", "lz4", "snappy"] {
        // The broker keeps what the producer sent, and the consumer reads it.
        let topic = broker.topic("compressed").await;
        let mut backend = kafka(broker, &topic);
        backend["compression"] = compression.into();
        let wanted = document(&unique_path("compressed"), &[route("default", &[backend])]);
        let endpoint = cluster.create(&with(wanted, "ack", json!({"when": "delivered"}))).await;
        let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;
        client.send(&event).await;
        assert_eq!(client.json().await["status"], "delivered", "{compression}");
        assert_eq!(topic.next().await.body, event.as_bytes(), "{compression}");
        let stored = broker.bytes_of(&topic.name);
        println!("{compression}: {} bytes of an event are {stored} bytes of log", event.len());
        assert_eq!(compression == "none", stored > event.len() as u64, "{compression}: {stored} bytes");
    }
}

/// A wrong password, a wrong authority, a protocol that the listener does not speak: failures that say so, in time.
#[tokio::test]
async fn who_is_not_let_in_is_told_why() {
    let _turn = own_cluster_turn().await;
    let broker = broker().await;
    let files = run_folder().join("kafka-secrets");
    std::fs::create_dir_all(&files).expect("a folder");
    let ca = files.join("ca.pem");
    std::fs::write(&ca, broker.tls("other-ca.pem")).expect("a file");
    let plan = Plan {
        environment: vec![
            ("WSGATEWAY__KAFKA__DELIVERY_TIMEOUT_MILLIS".into(), "1500".into()),
            ("WSGATEWAY__SECRETS__FILE_DIRS".into(), format!("[{:?}]", files.display().to_string())),
        ],
        ..Plan::default()
    };
    let cluster = Cluster::start_with(1, plan).await;
    let service = Service::start().await;
    let secured = &broker.secured;
    let wrong = |mechanism: &str| {
        let mut security = sasl("SASL_SSL", mechanism, broker);
        security["password"] = "wrong-canary-secret".into();
        security
    };
    let by_file = json!({"protocol": "SSL", "ca": format!("${{file:{}}}", ca.display())});
    let cases = [
        ("a wrong password, PLAIN", &secured.sasl_ssl, wrong("PLAIN"), "Authentication failed"),
        ("a wrong password, SCRAM", &secured.sasl_ssl, wrong("SCRAM-SHA-512"), "Authentication failed"),
        ("a wrong authority", &secured.ssl, by_file.clone(), "certificate verify failed"),
        (
            "no certificate",
            &secured.mtls,
            json!({"protocol": "SSL", "ca": broker.tls("ca.pem")}),
            "alert bad certificate",
        ),
        ("nobody listens", &"127.0.0.1:1".to_string(), json!({"protocol": "PLAINTEXT"}), "Connection refused"),
    ];
    let topic = broker.topic("refused").await;
    let mut waiting = Vec::new();
    for (name, servers, security, expected) in cases {
        let error = format!("/error-{}", waiting.len());
        let routes = [route("default", &[at(servers, &topic, security)]), route("error", &[http(&service, &error)])];
        let endpoint = cluster.create(&document(&unique_path("refused"), &routes)).await;
        let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;
        client.send(r#"{"let":"in"}"#).await;
        waiting.push((name, endpoint, client, error, expected, Instant::now()));
    }
    for (name, endpoint, client, error, expected, sent) in &mut waiting {
        let frame = client.error_frame("delivery_failed").await;
        let event = service.next(error).await;
        let told = event.json()["message"].as_str().expect("a message").to_string();
        println!("{name}: {told} (after {:?})", sent.elapsed());
        assert!(told.contains(*expected), "{name}: {told}");
        assert!(sent.elapsed() < Duration::from_secs(6), "{name}: after {:?}", sent.elapsed());
        let metrics = cluster.nodes[0].admin().get("/metrics").await.text();
        for text in [frame.to_string(), event.text().to_string(), metrics, cluster.nodes[0].log()] {
            assert!(
                !text.contains("wrong-canary-secret") && !text.contains("alice-secret"),
                "{}: {text}",
                endpoint.path
            );
        }
        assert!(!frame.to_string().contains("127.0.0.1"), "clients learn nothing of brokers: {frame}");
    }
    topic.gets_nothing_for(Duration::from_millis(100)).await;

    // The file is exchanged for the right one: the same endpoint works, without a new version.
    std::fs::write(&ca, broker.tls("ca.pem")).expect("a file");
    let (_, endpoint, ..) = &waiting[2];
    let delivered = crate::wait::eventually("the right authority", Duration::from_secs(12), async || {
        let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;
        client.send(r#"{"let":"in"}"#).await;
        tokio::time::timeout(Duration::from_millis(400), topic.next()).await.ok()
    });
    assert_eq!(delivered.await.body, br#"{"let":"in"}"#);
}
