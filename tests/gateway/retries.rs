//! Deliveries to services that fail for a while: what is tried again and what is not, with the same event id, in order,
//! within a budget; and what is said of an event that nobody took.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{json, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::document::{document, http, route, with};
use crate::sandbox::{own_cluster_turn, shared, unique_path, Cluster};
use crate::service::{Behaviour, Request, Service};
use crate::wait::{eventually, soon, PATIENCE};
use crate::ws::Client;

/// A backend that is tried three times with short pauses.
fn quick(service: &Service, path: &str) -> Value {
    with(http(service, path), "retry", json!({"attempts": 3, "backoffInMillis": 5, "maxBackoffInMillis": 10}))
}

/// The numbers that the attempts of one event have given themselves.
fn attempts(calls: &[Request]) -> Vec<String> {
    calls.iter().map(|call| call.attributes().find("attempt").unwrap_or("-").to_string()).collect()
}

/// Fails if the attempts of one event differ in anything but their number and date.
fn check_same_event(calls: &[Request]) {
    let but_number = |call: &Request| {
        let mut headers = call.headers.clone();
        headers.retain(|(name, _)| !matches!(name.as_str(), "ce-attempt" | "date"));
        headers.sort();
        (call.method.clone(), call.body.clone(), headers)
    };
    assert!(calls.windows(2).all(|pair| but_number(&pair[0]) == but_number(&pair[1])), "{calls:#?}");
}

/// How the first attempts fail (the ones behind them are answered 200), how many arrive, and the error event's facts
/// when none is taken.
fn cases() -> Vec<(&'static str, Vec<Behaviour>, usize, Option<Value>)> {
    let always = |status: u16| vec![Behaviour::status(status); 3];
    let facts = |attempts: u32, status: Value, reason: &str| {
        Some(json!({"attempts": attempts, "status": status, "reason": reason}))
    };
    let slow = || Behaviour::status(200).after(Duration::from_millis(600));
    let mut cases = vec![
        ("hung-up", vec![Behaviour::hang_up()], 2, None),
        ("hung-up-twice", vec![Behaviour::hang_up(), Behaviour::hang_up()], 3, None),
        ("slow", vec![slow()], 2, None),
        ("always-slow", vec![slow(), slow(), slow()], 3, facts(3, Value::Null, "timeout")),
        ("always-hung-up", vec![Behaviour::hang_up(); 3], 3, facts(3, Value::Null, "broke_off")),
        ("mixed", vec![Behaviour::status(503), Behaviour::hang_up()], 3, None),
        (
            "in-the-end-refused",
            vec![Behaviour::status(503), Behaviour::status(404)],
            2,
            facts(2, json!(404), "refused"),
        ),
    ];
    for (name, status) in [("408", 408), ("425", 425), ("429", 429), ("502", 502), ("503", 503), ("504", 504)] {
        cases.push((name, vec![Behaviour::status(status)], 2, None));
    }
    cases.push(("always-503", always(503), 3, facts(3, json!(503), "refused")));
    for (name, status) in [("never-301", 301), ("never-400", 400), ("never-409", 409), ("never-500", 500)] {
        cases.push((name, always(status), 1, facts(1, json!(status), "refused")));
    }
    cases
}

#[tokio::test]
async fn what_passes_is_tried_again_with_the_same_id_and_nothing_else_is() {
    let cluster = shared().await;
    let service = Service::start().await;
    let key = |name: &str| {
        let mut backend = quick(&service, &format!("/{name}"));
        backend["timeoutInMillis"] = json!(250);
        json!({"type": "custom", "name": name, "key": name, "backends": [backend]})
    };
    let mut routes: Vec<Value> = cases().iter().map(|(name, ..)| key(name)).collect();
    routes.push(route("error", &[http(&service, "/error")]));
    let document = with(document(&unique_path("retries"), &routes), "routeSelector", json!("$.case"));
    let endpoint = cluster.create(&document).await;
    // Each backend has a lane of its own, so the cases do not wait for each other.
    let mut client = Client::connect(&cluster.nodes[1], &endpoint.path).await;
    for (name, behaviours, ..) in cases() {
        service.behave_in_turn(&format!("/{name}"), behaviours);
        client.send(&json!({"case": name, "id": name}).to_string()).await;
    }
    let expect_failed = cases().iter().filter(|(.., facts)| facts.is_some()).count();
    for _ in 0..expect_failed {
        client.error_frame("delivery_failed").await;
    }
    let errors = service.wait_for("/error", expect_failed).await;
    for (name, _, arrive, facts) in cases() {
        let calls = service.wait_for(&format!("/{name}"), arrive).await;
        let numbers: Vec<String> = (1..=arrive).map(|n| if n == 1 { "-".to_string() } else { n.to_string() }).collect();
        assert_eq!(attempts(&calls), numbers, "{name}");
        check_same_event(&calls);
        let error = errors.iter().map(Request::json).find(|error| error["event"]["case"] == name);
        let told = error.as_ref().map(|error| {
            assert_eq!((&error["code"], &error["route"]), (&json!("delivery_failed"), &json!(name)), "{error}");
            assert_eq!(error["backend"], format!("custom/{name}/0"));
            assert_eq!(error["eventId"], calls[0].attributes().get("id"));
            json!({"attempts": error["attempts"], "status": error["status"], "reason": error["reason"]})
        });
        assert_eq!(told, facts, "{name}: {error:?}");
    }
    client.hears_nothing_for(Duration::from_millis(300)).await;
    let more = cases().iter().map(|(name, ..)| service.received(&format!("/{name}")).len()).sum::<usize>();
    assert_eq!(more, cases().iter().map(|(_, _, arrive, _)| arrive).sum::<usize>(), "nothing was sent later on");
    println!("{} ways to fail: {more} requests, each event with one id", cases().len());
}

#[tokio::test]
async fn a_reply_that_is_none_is_not_asked_for_again() {
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave("/reply", Behaviour::status(200).body("no json"));
    let backend = with(quick(&service, "/reply"), "reply", json!(true));
    let routes = [route("default", &[backend]), route("error", &[http(&service, "/error")])];
    let endpoint = cluster.create(&document(&unique_path("bad-reply"), &routes)).await;
    let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;
    client.send("1").await;
    client.error_frame("delivery_failed").await;
    let error = service.next("/error").await.json();
    assert_eq!((&error["attempts"], &error["reason"]), (&json!(1), &json!("bad_reply")), "{error}");
    assert_eq!(service.received("/reply").len(), 1);
}

#[tokio::test]
async fn pauses_heed_retry_after_up_to_the_longest_of_the_policy() {
    let cluster = shared().await;
    let service = Service::start().await;
    let asks = |seconds: &str| Behaviour::status(503).header("Retry-After", seconds);
    for (path, seconds, max, at_least, at_most) in [
        ("/heeded", "1", 2_000, Duration::from_millis(1_000), Duration::from_millis(2_500)),
        ("/bounded", "3600", 300, Duration::from_millis(300), Duration::from_millis(2_000)),
    ] {
        service.behave_in_turn(path, [asks(seconds)]);
        let policy = json!({"attempts": 2, "backoffInMillis": 1, "maxBackoffInMillis": max});
        let routes = [route("default", &[with(http(&service, path), "retry", policy)])];
        let endpoint = cluster.create(&document(&unique_path("retry-after"), &routes)).await;
        let mut client = Client::connect(&cluster.nodes[2], &endpoint.path).await;
        client.send("1").await;
        let calls = service.wait_for(path, 2).await;
        let waited = calls[1].at - calls[0].at;
        println!("Retry-After: {seconds} with at most {max} ms: tried again after {waited:?}");
        assert!(waited >= at_least && waited <= at_most, "{waited:?}");
    }
}

#[tokio::test]
async fn the_order_is_kept_while_the_first_event_is_tried_again() {
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave_in_turn("/in-order", [503, 503, 200, 200, 502].map(Behaviour::status));
    let routes = [route("default", &[quick(&service, "/in-order")])];
    let endpoint = cluster.create(&document(&unique_path("in-order"), &routes)).await;
    let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;
    for event in 1..=6 {
        client.send(&event.to_string()).await;
    }
    let calls = service.wait_for("/in-order", 9).await;
    let bodies: Vec<&str> = calls.iter().map(Request::text).collect();
    assert_eq!(bodies, ["1", "1", "1", "2", "3", "3", "4", "5", "6"]);
    assert!(calls.iter().all(|call| !call.overlapped));
    client.hears_nothing_for(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn without_a_policy_there_are_three_attempts_but_a_connect_routes_answer_counts() {
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave("/busy", Behaviour::status(503));
    let routes = [
        route("connect", &[http(&service, "/connect")]),
        route("default", &[http(&service, "/busy")]),
        route("error", &[http(&service, "/error")]),
    ];
    let endpoint = cluster.create(&document(&unique_path("default-policy"), &routes)).await;
    let node = &cluster.nodes[1];
    service.behave_in_turn("/connect", [Behaviour::status(503), Behaviour::status(429), Behaviour::hang_up()]);
    for (status, arrived) in [(502, 1), (429, 2)] {
        let refused = Client::try_connect(node, &endpoint.path, &[]).await.err().expect("a refusal");
        assert_eq!(refused.why(), (status, "connect_route".to_owned()));
        assert_eq!(service.received("/connect").len(), arrived, "an answer to a connect event is a decision");
    }
    let mut client = Client::connect(node, &endpoint.path).await;
    assert_eq!(service.received("/connect").len(), 4, "a lost connection is no answer");
    client.send("1").await;
    client.error_frame("delivery_failed").await;
    assert_eq!(attempts(&service.received("/busy")), ["-", "2", "3"]);

    let patient = [route("connect", &[quick(&service, "/patient")])];
    let endpoint = cluster.create(&document(&unique_path("patient-connect"), &patient)).await;
    service.behave_in_turn("/patient", [Behaviour::status(503)]);
    Client::connect(node, &endpoint.path).await;
    assert_eq!(attempts(&service.received("/patient")), ["-", "2"], "a document may ask for it");
}

#[tokio::test]
async fn a_service_that_restarts_loses_no_event() {
    let cluster = shared().await;
    let service = Service::start().await;
    let place = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = place.local_addr().expect("bound");
    drop(place);
    let mut backend = http(&service, "/x");
    backend["destination"] = json!(format!("http://{addr}/restarted"));
    backend["retry"] = json!({"attempts": 20, "backoffInMillis": 50, "maxBackoffInMillis": 100});
    let endpoint = cluster.create(&document(&unique_path("restarts"), &[route("default", &[backend])])).await;
    let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;
    client.send("1").await;
    client.send("2").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let late = Service::start_at(addr).await;
    let calls = late.wait_for("/restarted", 2).await;
    assert_eq!(calls.iter().map(Request::text).collect::<Vec<_>>(), ["1", "2"]);
    let number: u32 = calls[0].attributes().get("attempt").parse().expect("a number");
    println!("the service was there at attempt {number}");
    client.hears_nothing_for(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn a_connection_that_is_reset_is_tried_again() {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-le";
    let cluster = shared().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound");
    // Reset, reset within the answer's head, then an answer; what each of them was sent.
    let serving = tokio::spawn(async move {
        let mut heard = Vec::new();
        for attempt in 1..=3 {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut request = vec![0; 4096];
            let length = socket.read(&mut request).await.expect("a request");
            heard.push(String::from_utf8_lossy(&request[..length]).into_owned());
            match attempt {
                1 => {}
                2 => socket.write_all(HEAD).await.expect("half an answer"),
                _ => socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.expect("an answer"),
            }
            if attempt < 3 {
                socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("a reset instead of an end");
            }
        }
        heard
    });
    let service = Service::start().await;
    let mut backend = quick(&service, "/x");
    backend["destination"] = json!(format!("http://{addr}/reset"));
    let document = document(&unique_path("reset"), &[route("default", &[backend])]);
    let endpoint = cluster.create(&with(document, "ack", json!({"when": "delivered"}))).await;
    let mut client = Client::connect(&cluster.nodes[1], &endpoint.path).await;
    client.send("1").await;
    assert_eq!(client.json().await["status"], "delivered");
    let heard = soon("three attempts", serving).await.expect("the service");
    for (attempt, request) in heard.iter().enumerate() {
        let says = request.contains(&format!("ce-attempt: {}\r\n", attempt + 1));
        assert!(request.starts_with("POST /reset ") && says == (attempt > 0), "{request}");
    }
}

#[tokio::test]
async fn a_brown_out_is_not_multiplied() {
    const CLIENTS: usize = 10;
    const EVENTS: usize = 100;
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave("/brown", Behaviour::status(503));
    let policy = json!({"attempts": 5, "backoffInMillis": 1, "maxBackoffInMillis": 2});
    let routes = [
        route("default", &[with(http(&service, "/brown"), "retry", policy)]),
        route("error", &[http(&service, "/error")]),
    ];
    let endpoint = cluster.create(&document(&unique_path("brown-out"), &routes)).await;
    let node = &cluster.nodes[0];
    let began = Instant::now();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = Client::connect(node, &endpoint.path).await;
        clients.push(tokio::spawn(async move {
            for event in 0..EVENTS {
                client.send(&event.to_string()).await;
            }
            for _ in 0..EVENTS {
                client.error_frame("delivery_failed").await;
            }
        }));
    }
    for client in clients {
        client.await.expect("every event is answered with an error frame");
    }
    let events = CLIENTS * EVENTS;
    let requests = service.received("/brown").len();
    // A fifth, ten a second, and the hundred that are saved up.
    let bound = events + events / 5 + 10 * (1 + began.elapsed().as_secs() as usize) + 100;
    println!("{events} events of which each may be tried 5 times: {requests} requests (bound {bound})");
    assert!(requests > events && requests <= bound, "{requests} requests, bound {bound}");
    let errors = service.wait_for("/error", events).await;
    let stopped = errors.iter().filter(|error| error.text().contains("retry budget")).count();
    assert!(stopped > events / 2, "{stopped} of {events} say that the budget was used up");
    let metrics = node.admin().get("/metrics").await.expect(200).text();
    let figure = |outcome: &str| -> usize {
        let labels = format!("{{endpoint=\"{}\",backend=\"default/default/0\",outcome=\"{outcome}\"}} ", endpoint.path);
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("wsgateway_backend_retries_total")?.strip_prefix(&labels));
        line.unwrap_or_else(|| panic!("no {labels} in\n{metrics}")).parse().expect("a number")
    };
    assert_eq!(figure("retried"), requests - events);
    assert!(figure("over_budget") >= stopped);
    let ids: BTreeSet<String> =
        service.received("/brown").iter().map(|call| call.attributes().get("id").to_string()).collect();
    assert_eq!(ids.len(), events, "each event has one id");
}

#[tokio::test]
async fn a_node_that_leaves_does_not_wait_for_the_next_attempt() {
    let _turn = own_cluster_turn().await;
    let cluster = Cluster::start(1).await;
    let service = Service::start().await;
    service.behave("/never", Behaviour::status(503));
    let policy = json!({"attempts": 20, "backoffInMillis": 60_000, "maxBackoffInMillis": 600_000});
    // A pause is random; this service asks for a long one.
    service.behave("/never", Behaviour::status(503).header("Retry-After", "600"));
    let routes = [
        route("default", &[with(http(&service, "/never"), "retry", policy)]),
        route("error", &[http(&service, "/error")]),
    ];
    let endpoint = cluster.create(&document(&unique_path("leaving"), &routes)).await;
    let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;
    client.send("1").await;
    service.wait_for("/never", 1).await;
    let asked = Instant::now();
    cluster.nodes[0].signal(libc::SIGTERM);
    let status = cluster.nodes[0].wait_exit(Duration::from_secs(30)).await;
    assert!(status.success(), "ended with {status}\n{}", cluster.nodes[0].log_tail());
    println!("a node with a delivery that waits ten minutes for its next attempt ended after {:?}", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_secs(15));
    assert_eq!(attempts(&service.received("/never")), ["-", "2"], "one more attempt, at once");
    let error = eventually("the error event", PATIENCE, async || service.received("/error").pop()).await.json();
    assert_eq!(error["attempts"], 2, "{error}");
    assert!(error["message"].as_str().unwrap().contains("the node leaves"), "{error}");
}

#[tokio::test]
async fn an_answer_counts_from_its_status_on() {
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave("/taken", Behaviour::status(200).body("\"working on it").unfinished());
    service.behave("/refused", Behaviour::status(400).body("\"explaining").unfinished());
    let slow = |path: &str| with(http(&service, path), "timeoutInMillis", json!(3_000));
    let routes = [route("default", &[slow("/taken")]), route("error", &[http(&service, "/error")])];
    let wanted = with(document(&unique_path("status"), &routes), "ack", json!({"when": "delivered"}));
    let endpoint = cluster.create(&wanted).await;
    let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;
    let began = Instant::now();
    client.send("1").await;
    assert_eq!(client.json().await["status"], "delivered");
    println!("delivered after {:?}, though the body never ends", began.elapsed());
    assert!(began.elapsed() < Duration::from_millis(2_500));
    assert_eq!(service.received("/taken").len(), 1);
    let routes = [route("default", &[slow("/refused")]), route("error", &[http(&service, "/error")])];
    let endpoint = cluster.create(&document(&unique_path("status"), &routes)).await;
    let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;
    client.send("1").await;
    client.error_frame("delivery_failed").await;
    let error = service.next("/error").await.json();
    assert_eq!((&error["status"], &error["attempts"]), (&json!(400), &json!(1)), "{error}");
}
