//! Dead letters: events that a backend has not taken for good, kept in a service or a topic with why, and sent again by
//! `wsgateway replay` – the same id, the same bytes.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{json, Value};

use crate::cli::{err, out, run};
use crate::document::{document, http, kafka, route, with};
use crate::http::JSON;
use crate::kafka::broker;
use crate::sandbox::{run_folder, shared, unique_path, Endpoint, Node};
use crate::service::{Behaviour, Request, Service};
use crate::wait::eventually;
use crate::ws::Client;

/// An event whose bytes a parser would change.
const EVENT: &str = "{ \"n\":1.00e2,\"s\":\"\\u00e9\", \"n\": 2 }";

/// A service whose `/events` refuses everything.
async fn refusing() -> Service {
    let service = Service::start().await;
    service.behave("/events", Behaviour::status(500));
    service
}

async fn metric(node: &Node, name: &str, parts: &[&str]) -> u64 {
    let metrics = node.admin().get("/metrics").await.expect(200).text();
    let found = metrics.lines().find(|line| line.starts_with(name) && parts.iter().all(|part| line.contains(part)));
    found.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

fn decoded(request: &Request, name: &str) -> String {
    let value = request.header(name).unwrap_or_else(|| panic!("no {name} in {:?}", request.headers));
    percent_encoding::percent_decode_str(value).decode_utf8().expect("UTF-8").into_owned()
}

#[tokio::test]
async fn a_letter_is_the_event_and_says_why() {
    let service = refusing().await;
    let path = format!("{}/{{room}}", unique_path("dead"));
    let routes = [route("default", &[http(&service, "/events")]), route("error", &[http(&service, "/error")])];
    let endpoint = shared().await.create(&with(document(&path, &routes), "deadLetter", http(&service, "/dead"))).await;
    let node = &shared().await.nodes[0];
    let mut client = Client::connect(node, &endpoint.path.replace("{room}", "b%C3%A9")).await;
    client.send(EVENT).await;
    let (tried, letter) = (service.next("/events").await, service.next("/dead").await);
    assert_eq!(letter.text(), EVENT, "byte by byte");
    for name in ["id", "type", "source", "time", "sequence", "connectionid", "endpointpath", "route", "traceparent"] {
        assert_eq!(letter.attributes().get(name), tried.attributes().get(name), "{name}");
    }
    assert_eq!(decoded(&letter, "ce-deadletterreason"), "answered 500");
    for (name, value) in [("outcome", "refused"), ("status", "500"), ("backend", "default/default/0")] {
        assert_eq!(letter.attributes().get(&format!("deadletter{name}")), value, "{name}");
    }
    let attempts: usize = letter.attributes().get("deadletterattempts").parse().expect("a number");
    assert_eq!(attempts, service.received("/events").len());
    assert!(letter.attributes().get("deadlettertime") >= letter.attributes().get("time"));
    assert_eq!(decoded(&letter, "ce-deadletterparams"), "{\"room\":\"bé\"}");
    assert_eq!(tried.attributes().find("deadletterreason"), None);

    // The sender and the error route hear of it as ever.
    let frame: Value = serde_json::from_str(&client.text().await).expect("JSON");
    assert_eq!(frame["error"]["code"], "delivery_failed");
    assert_eq!(service.next("/error").await.json()["eventId"], tried.attributes().get("id"));
    let kept = ["outcome=\"kept\"", endpoint.path.as_str()];
    eventually("it is counted", Duration::from_secs(5), async || {
        (metric(node, "wsgateway_dead_letters_total", &kept).await == 1).then_some(())
    })
    .await;

    // What is delivered leaves none.
    service.behave("/events", Behaviour::status(200));
    client.send("{\"fine\":1}").await;
    service.next("/events").await;
    client.leave().await;
    assert_eq!(service.received("/dead").len(), 1);
}

#[tokio::test]
async fn a_route_has_its_own_and_only_required_backends_and_events_after_the_handshake_count() {
    let service = refusing().await;
    let refused = |path: &str| {
        service.behave(path, Behaviour::status(400));
        http(&service, path)
    };
    let mut best_effort = refused("/best-effort");
    best_effort["required"] = json!(false);
    let mut default = route("default", &[refused("/events"), best_effort]);
    default["deadLetter"] = http(&service, "/own");
    let disconnect = route("disconnect", &[refused("/bye")]);
    let connect = route("connect", &[http(&service, "/connect")]);
    let document = document(&unique_path("dead-routes"), &[connect, default, disconnect]);
    let endpoint = shared().await.create(&with(document, "deadLetter", http(&service, "/all"))).await;
    let mut client = Client::connect(&shared().await.nodes[1], &endpoint.path).await;
    client.send("1").await;
    let own = service.next("/own").await;
    assert_eq!((own.text(), own.attributes().get("deadletterbackend")), ("1", "default/default/0"));
    service.next("/best-effort").await;
    client.leave().await;
    let bye = service.next("/all").await;
    assert_eq!(bye.attributes().get("type"), "io.wsgateway.disconnect");
    assert_eq!(bye.attributes().get("deadletterbackend"), "disconnect/disconnect/0");
    // A refused handshake is told to who asked.
    service.behave("/connect", Behaviour::status(403));
    let refused = Client::try_connect(&shared().await.nodes[1], &endpoint.path, &[]).await;
    assert_eq!(refused.err().expect("refused").status, 403);
    assert_eq!((service.received("/own").len(), service.received("/all").len()), (1, 1));
}

#[tokio::test]
async fn a_letter_that_cannot_be_kept_is_counted_and_nothing_more() {
    let service = refusing().await;
    service.behave("/dead", Behaviour::status(400));
    let routes = [route("default", &[http(&service, "/events")]), route("error", &[http(&service, "/error")])];
    let document = with(document(&unique_path("dead-dead"), &routes), "deadLetter", http(&service, "/dead"));
    let endpoint = shared().await.create(&document).await;
    let node = &shared().await.nodes[0];
    let mut client = Client::connect(node, &endpoint.path).await;
    client.send("1").await;
    assert_eq!(service.next("/error").await.json()["code"], "delivery_failed");
    assert!(client.text().await.contains("delivery_failed"));
    let labels = ["outcome=\"refused\"", endpoint.path.as_str()];
    assert_eq!(metric(node, "wsgateway_dead_letters_total", &labels).await, 1);
    let said = "a dead letter is lost: answered 400";
    assert!(node.log().lines().any(|line| line.contains(said) && line.contains(&endpoint.path)), "it is logged");
    assert_eq!((service.received("/dead").len(), service.received("/error").len()), (1, 1), "no letter about a letter");
}

/// Sends five events that fail into a topic; answers their ids in order.
async fn fill(endpoint: &Endpoint, service: &Service) -> Vec<String> {
    let mut client = Client::connect(&shared().await.nodes[0], &endpoint.path).await;
    for n in 0..5 {
        client.send(&format!("{{ \"n\":{n}.0 }}")).await;
        assert!(client.text().await.contains("delivery_failed"));
    }
    let mut seen = BTreeSet::new();
    let ids = service.received("/events").into_iter().map(|request| request.attributes().get("id").to_owned());
    ids.filter(|id| seen.insert(id.clone())).collect()
}

#[tokio::test]
async fn letters_in_a_topic_are_sent_again() {
    let (broker, service) = (broker().await, refusing().await);
    let topic = broker.topic("dead").await;
    let routes = [route("default", &[http(&service, "/events")])];
    let document = with(document(&unique_path("dead-topic"), &routes), "deadLetter", kafka(broker, &topic));
    let endpoint = shared().await.create(&document).await;
    let ids = fill(&endpoint, &service).await;
    let mut kept = BTreeSet::new();
    for _ in &ids {
        let record = topic.next().await;
        let attributes = record.attributes();
        assert_eq!(attributes.get("deadletterreason"), "answered 500");
        assert_eq!(
            (attributes.get("deadletterstatus"), attributes.get("source")),
            ("500", format!("/endpoints/{}", endpoint.id).as_str())
        );
        assert_eq!(record.key.as_deref(), Some(attributes.get("connectionid")));
        assert!(String::from_utf8_lossy(&record.body).starts_with("{ \"n\":"));
        kept.insert(attributes.get("id").to_owned());
    }
    assert_eq!(kept, ids.iter().cloned().collect());

    let server = format!("http://{}", shared().await.nodes[2].admin);
    let base = ["replay", "--topic", &topic.name, "--brokers", &broker.bootstrap_servers, "--server", &server];
    let before = service.received("/events").len();
    let tried = run(&[&base[..], &["--dry-run"]].concat(), &[]).await;
    assert!(tried.status.success(), "{}", err(&tried));
    assert!(
        ids.iter().all(|id| out(&tried).contains(id)) && err(&tried).contains("5 would be sent"),
        "{}",
        out(&tried)
    );
    assert_eq!(service.received("/events").len(), before, "a dry run sends nothing");

    // Still refused: the letters stay, and the program says so.
    let failed = run(&base, &[]).await;
    assert!(!failed.status.success() && out(&failed).contains("refused"), "{}\n{}", out(&failed), err(&failed));

    let before = service.received("/events").len();
    service.behave("/events", Behaviour::status(200));
    let sent = run(&[&base[..], &["--rate", "50"]].concat(), &[]).await;
    assert!(sent.status.success() && err(&sent).contains("5 delivered, 0 failed"), "{}\n{}", out(&sent), err(&sent));
    let again = &service.received("/events")[before..];
    let resent: Vec<_> = again.iter().map(|request| request.attributes().get("id").to_owned()).collect();
    assert_eq!(resent, ids, "the same ids in the same order");
    for (n, request) in again.iter().enumerate() {
        assert_eq!(request.text(), format!("{{ \"n\":{n}.0 }}"));
        assert_eq!(request.attributes().sequence(), n as u64 + 1);
        assert_eq!(request.attributes().find("deadletterreason"), None);
    }
    let nothing = run(&base, &[]).await;
    assert!(err(&nothing).contains("0 letters") && err(&nothing).contains("0 delivered"), "{}", err(&nothing));
}

#[tokio::test]
async fn letters_in_a_file_are_sent_again() {
    let service = Service::start().await;
    let path = format!("{}/{{room}}", unique_path("dead-file"));
    let mut backend = http(&service, "/rooms");
    backend["destination"] = json!(format!("{}/{{room}}", service.url("/rooms")));
    let endpoint = shared().await.create(&document(&path, &[route("default", &[backend])])).await;
    let letter = |id: &str, backend: &str| {
        json!({"attributes": {"id": id, "type": "io.wsgateway.message", "source": format!("/endpoints/{}", endpoint.id),
            "time": "2026-01-02T03:04:05.678Z", "sequence": "9", "connectionid": "gone", "userid": "zoë",
            "deadletterbackend": backend, "deadletterparams": "{\"room\":\"a b\"}"}, "data": EVENT})
    };
    let good = letter("01JD0000000000000000000000", "default/default/0");
    let moved = letter("01JD0000000000000000000001", "default/other/0");
    let (file, left) = (run_folder().join("letters.ndjson"), run_folder().join("left.ndjson"));
    std::fs::write(&file, format!("{good}\n\nno letter\n{moved}\n")).expect("written");
    let server = format!("http://{}", shared().await.nodes[0].admin);
    let (from, to) = (file.display().to_string(), left.display().to_string());
    let sent = run(&["replay", "--file", &from, "--left", &to, "--server", &server, "--output", "json"], &[]).await;
    assert!(!sent.status.success(), "one line is no letter, one backend is gone");
    assert!(err(&sent).contains("1 delivered, 2 failed"), "{}", err(&sent));
    let told: Vec<Value> = out(&sent).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let outcomes: Vec<_> = told.iter().map(|told| told["outcome"].as_str().expect("an outcome")).collect();
    assert_eq!(outcomes, ["delivered", "unreadable", "backend_not_found"]);
    assert_eq!((&told[0]["status"], &told[1]["line"]), (&json!(200), &json!(3)));
    let request = service.next("/rooms/a%20b").await;
    assert_eq!((request.text(), decoded(&request, "ce-userid").as_str()), (EVENT, "zoë"));
    assert_eq!(request.attributes().get("time"), "2026-01-02T03:04:05.678Z");
    assert_eq!(std::fs::read_to_string(&left).expect("written"), format!("no letter\n{moved}\n"));
}

#[tokio::test]
async fn the_call_says_what_is_wrong_with_a_letter() {
    let service = refusing().await;
    let endpoint = shared()
        .await
        .create(&document(&unique_path("dead-call"), &[route("default", &[http(&service, "/events")])]))
        .await;
    let admin = shared().await.nodes[0].admin();
    let letter = |name: &str, value: &str| {
        let mut letter = json!({"attributes": {"id": "01JD0000000000000000000000", "type": "io.wsgateway.message",
            "time": "2026-01-02T03:04:05.678Z", "sequence": "9", "connectionid": "c", "deadletterbackend": "default/default/0"},
            "data": "1"});
        letter["attributes"][name] = json!(value);
        letter
    };
    let target = format!("/api/v1/endpoints/{}/replay", endpoint.id);
    for (name, value) in [
        ("id", "x"),
        ("type", "other"),
        ("time", "a b"),
        ("sequence", "-1"),
        ("connectionid", ""),
        ("deadletterbackend", ""),
        ("deadletterparams", "1"),
    ] {
        let problem = admin.post(&target, &letter(name, value)).await.expect_problem(400, "invalid_letter");
        assert_eq!(problem["errors"][0]["path"], format!("attributes.{name}"), "{problem}");
    }
    admin
        .post(&target, &letter("deadletterbackend", "default/default/7"))
        .await
        .expect_problem(404, "backend_not_found");
    let elsewhere = "/api/v1/endpoints/ep-0000000000000000/replay";
    admin.post(elsewhere, &letter("x", "y")).await.expect_problem(404, "endpoint_not_found");
    admin.call("POST", &target, JSON, b"{\"data\": 1}").await.expect_problem(400, "invalid_letter");
    let failed = admin.post(&target, &letter("x", "y")).await.expect(200).json();
    assert_eq!((&failed["outcome"], &failed["status"]), (&json!("refused"), &json!(500)), "{failed}");
    assert_eq!(failed["eventId"], "01JD0000000000000000000000");
}
