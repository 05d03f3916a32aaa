//! Traces: what a collector is sent for a handshake and its events, how services and topics hear of it, whom clients may
//! have followed, and that nothing is said without a collector.

use serde_json::json;

use crate::document::{custom, http, kafka, route};
use crate::kafka::broker;
use crate::protobuf::Fields;
use crate::sandbox::{own_cluster_turn, unique_path, Cluster, Plan};
use crate::service::{Behaviour, Service};
use crate::wait::{eventually, PATIENCE};
use crate::ws::Client;

/// A client's own context.
const CLIENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn plan(collector: &Service, more: &[(&str, &str)]) -> Plan {
    let mut environment = vec![
        ("WSGATEWAY__TRACING__ENDPOINT".to_owned(), collector.url("")),
        ("WSGATEWAY__TRACING__SAMPLE_RATIO".to_owned(), "1.0".to_owned()),
    ];
    environment.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Plan { environment, ..Plan::default() }
}

/// opentelemetry-proto's Span.SpanKind.
const SERVER: u64 = 2;
const CLIENT_KIND: u64 = 3;
const PRODUCER: u64 = 4;
const CONSUMER: u64 = 5;
/// Status.StatusCode.
const ERROR: u64 = 2;

#[derive(Clone, Debug)]
struct Span {
    trace_id: Vec<u8>,
    span_id: Vec<u8>,
    parent_span_id: Vec<u8>,
    name: String,
    kind: u64,
    attributes: Vec<(String, String)>,
    /// Trace and span.
    links: Vec<(Vec<u8>, Vec<u8>)>,
    status: u64,
    message: String,
}

fn fields(message: &[u8]) -> Fields<'_> {
    Fields::read(message).expect("a message of Protocol Buffers")
}

/// By the numbers of opentelemetry-proto's trace.proto and common.proto.
fn read(span: &[u8]) -> Span {
    let span = fields(span);
    let attribute = |attribute: &[u8]| {
        let (attribute, value) = (fields(attribute), fields(fields(attribute).bytes(2)));
        let value = if value.has(1) { value.text(1) } else { value.number(3).to_string() };
        (attribute.text(1), value)
    };
    let link = |link: &[u8]| (fields(link).bytes(1).to_vec(), fields(link).bytes(2).to_vec());
    let status = fields(span.bytes(15));
    Span {
        trace_id: span.bytes(1).to_vec(),
        span_id: span.bytes(2).to_vec(),
        parent_span_id: span.bytes(4).to_vec(),
        name: span.text(5),
        kind: span.number(6),
        attributes: span.all(9).map(attribute).collect(),
        links: span.all(13).map(link).collect(),
        status: status.number(3),
        message: status.text(2),
    }
}

/// All spans so far, of every batch.
fn spans(collector: &Service) -> Vec<Span> {
    let mut all = Vec::new();
    for batch in collector.received("/v1/traces") {
        assert_eq!(batch.header("content-type"), Some("application/x-protobuf"));
        for resource_spans in fields(&batch.body).all(1) {
            for scope_spans in fields(resource_spans).all(2) {
                all.extend(fields(scope_spans).all(2).map(read));
            }
        }
    }
    all
}

async fn span(collector: &Service, name: &str) -> Span {
    eventually(&format!("a span {name:?}"), PATIENCE, async || {
        spans(collector).into_iter().find(|span| span.name == name)
    })
    .await
}

fn attribute(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.clone()).unwrap_or_else(|| panic!("no {name}: {span:?}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The header that tells this span.
fn traceparent(span: &Span) -> String {
    format!("00-{}-{}-", hex(&span.trace_id), hex(&span.span_id))
}

#[tokio::test]
async fn an_event_is_a_trace_that_services_and_topics_are_part_of() {
    let _turn = own_cluster_turn().await;
    let (collector, service, broker) = (Service::start().await, Service::start().await, broker().await);
    let topic = broker.topic("traces").await;
    let cluster = Cluster::start_with(1, plan(&collector, &[])).await;
    service.behave("/broken", Behaviour::status(503));
    let path = unique_path("traced");
    let is = |name: &str| json!({"equal": {"path": "$.type", "value": name}});
    let secret = format!("{}?token=secret-1", service.url("/fine"));
    let fine = json!({"type": "http", "destination": secret, "timeoutInMillis": 10_000});
    cluster
        .create(&json!({"path": path, "routes": [
            route("connect", &[http(&service, "/connect")]),
            custom("fine", is("fine"), &[fine, kafka(broker, &topic)]),
            custom("broken", is("broken"), &[http(&service, "/broken")]),
            route("disconnect", &[http(&service, "/disconnect")]),
        ]}))
        .await;
    let headers = [("traceparent", CLIENT), ("authorization", "Bearer secret-2")];
    let mut client = Client::try_connect(&cluster.nodes[0], &format!("{path}?t=secret-3"), &headers).await.unwrap();

    // The handshake, linked to the client's trace: clients are not trusted unless a setting says so.
    let handshake = span(&collector, &format!("GET {path}")).await;
    assert_eq!((handshake.kind, handshake.parent_span_id.len()), (SERVER, 0));
    assert_eq!(hex(&handshake.links[0].0), CLIENT[3..35]);
    assert_eq!(
        (attribute(&handshake, "http.response.status_code"), attribute(&handshake, "url.path")),
        ("101".into(), path)
    );
    // Its connect event is part of it, and what the service does with that is, too.
    let connect = span(&collector, "event connect").await;
    assert_eq!((&connect.trace_id, &connect.parent_span_id), (&handshake.trace_id, &handshake.span_id));
    let told = service.next("/connect").await;
    assert_eq!(told.header("traceparent").unwrap()[..35], traceparent(&connect)[..35]);

    client.send("{\"type\": \"fine\"}").await;
    let event = span(&collector, "event fine").await;
    assert_eq!((event.kind, attribute(&event, "wsgateway.route")), (CONSUMER, "fine".to_owned()));
    assert_ne!(event.trace_id, handshake.trace_id, "a trace per event");
    assert_eq!(event.links[0], (handshake.trace_id.clone(), handshake.span_id.clone()));
    let request = service.next("/fine").await;
    assert_eq!(attribute(&event, "wsgateway.event.id"), request.attributes().get("id"));
    let post = spans(&collector).into_iter().find(|span| span.name == "POST" && span.trace_id == event.trace_id);
    let post = post.expect("the request's span is sent with or before its event's");
    assert_eq!((post.kind, &post.parent_span_id), (CLIENT_KIND, &event.span_id));
    assert_eq!(
        request.header("traceparent").unwrap()[..53],
        traceparent(&post),
        "the service's spans are below the request's"
    );
    assert_eq!(
        (attribute(&post, "url.full"), attribute(&post, "http.response.status_code")),
        (service.url("/fine"), "200".into())
    );
    let send = span(&collector, &format!("send {}", topic.name)).await;
    assert_eq!((send.kind, &send.trace_id, &send.parent_span_id), (PRODUCER, &event.trace_id, &event.span_id));
    assert_eq!(attribute(&send, "messaging.destination.name"), topic.name);
    let record = topic.next().await;
    let told = record.headers.iter().find(|(name, _)| name == "traceparent").map(|(_, value)| value.clone());
    assert_eq!(told.unwrap()[..53], traceparent(&send));

    // What fails says so, with every attempt.
    client.send("{\"type\": \"broken\"}").await;
    client.error_frame("delivery_failed").await;
    let failed = span(&collector, "event broken").await;
    assert!(failed.status == ERROR && failed.message.contains("503"), "{failed:?}");
    let attempts: Vec<Span> =
        spans(&collector).into_iter().filter(|span| span.parent_span_id == failed.span_id).collect();
    assert_eq!(attempts.len(), service.received("/broken").len());
    assert!(attempts.iter().all(|span| attribute(span, "error.type") == "503"), "{attempts:?}");

    // The last ones are sent when the node leaves, and no credential was in any of them.
    drop(client);
    cluster.nodes[0].signal(libc::SIGTERM);
    assert!(cluster.nodes[0].wait_exit(PATIENCE).await.success());
    let disconnect = span(&collector, "event disconnect").await;
    assert_eq!(disconnect.links[0].1, handshake.span_id);
    for batch in collector.received("/v1/traces") {
        let text = String::from_utf8_lossy(&batch.body).into_owned();
        assert!(!text.contains("secret"), "{text}");
    }
}

#[tokio::test]
async fn clients_that_are_trusted_continue_their_traces() {
    let _turn = own_cluster_turn().await;
    let (collector, service) = (Service::start().await, Service::start().await);
    let more = [("WSGATEWAY__TRACING__TRUST_CLIENT_TRACEPARENT", "true"), ("WSGATEWAY__TRACING__SAMPLE_RATIO", "0.0")];
    let cluster = Cluster::start_with(1, plan(&collector, &more)).await;
    let path = unique_path("trusted");
    cluster.create(&json!({"path": path, "routes": [route("default", &[http(&service, "/default")])]})).await;
    let headers = [("traceparent", CLIENT), ("tracestate", "vendor=1")];
    let mut client = Client::try_connect(&cluster.nodes[0], &path, &headers).await.unwrap();
    let handshake = span(&collector, &format!("GET {path}")).await;
    assert_eq!(
        (hex(&handshake.trace_id), hex(&handshake.parent_span_id)),
        (CLIENT[3..35].into(), CLIENT[36..52].into())
    );
    let other = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    client.send(&format!("{{\"traceparent\": \"{other}\"}}")).await;
    let event = span(&collector, "event default").await;
    assert_eq!((hex(&event.trace_id), hex(&event.parent_span_id)), (other[3..35].into(), other[36..52].into()));
    assert_eq!(service.next("/default").await.header("traceparent").unwrap()[3..35], other[3..35]);
    // One that says it is not recorded is not, and is passed on all the same.
    let silent = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    client.send(&format!("{{\"traceparent\": \"{silent}\"}}")).await;
    let request = service.next("/default").await;
    assert_eq!(request.header("traceparent").unwrap()[3..35], silent[3..35]);
    assert!(request.header("traceparent").unwrap().ends_with("-00"));
    client.send("{}").await;
    service.next("/default").await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let names: Vec<String> = spans(&collector).into_iter().map(|span| span.name).collect();
    assert_eq!(names.iter().filter(|name| *name == "event default").count(), 1, "{names:?}");
}

#[tokio::test]
async fn a_collector_that_is_dead_costs_nobody_anything_and_is_counted() {
    let _turn = own_cluster_turn().await;
    let service = Service::start().await;
    let environment = vec![
        // Nobody listens there.
        ("WSGATEWAY__TRACING__ENDPOINT".to_owned(), "http://127.0.0.1:1".to_owned()),
        ("WSGATEWAY__TRACING__SAMPLE_RATIO".to_owned(), "1.0".to_owned()),
        ("WSGATEWAY__TRACING__SPANS_QUEUED_MAX".to_owned(), "64".to_owned()),
    ];
    let cluster = Cluster::start_with(1, Plan { environment, ..Plan::default() }).await;
    let path = unique_path("untaken");
    cluster.create(&json!({"path": path, "routes": [route("default", &[http(&service, "/default")])]})).await;
    let mut client = Client::connect(&cluster.nodes[0], &path).await;
    for number in 0..200 {
        client.send(&number.to_string()).await;
    }
    service.wait_for("/default", 200).await;
    let admin = cluster.nodes[0].admin();
    eventually("spans that were dropped", PATIENCE, async || {
        let metrics = admin.get("/metrics").await.expect(200).text();
        let lost = metrics
            .lines()
            .find_map(|line| line.strip_prefix("wsgateway_trace_spans_total{outcome=\"queue_full\"} "))?;
        (lost.parse::<u64>().unwrap() > 0).then_some(())
    })
    .await;
    let said = cluster.nodes[0].log().matches("traces cannot be exported").count();
    assert!((1..=2).contains(&said), "a line in a minute, not one for each batch: {said}");
}

#[tokio::test]
async fn a_handshake_is_recorded_with_the_first_of_its_events_that_is() {
    let _turn = own_cluster_turn().await;
    let (collector, service) = (Service::start().await, Service::start().await);
    // Nothing is in the sample but what a client asks for.
    let more = [("WSGATEWAY__TRACING__TRUST_CLIENT_TRACEPARENT", "true"), ("WSGATEWAY__TRACING__SAMPLE_RATIO", "0.0")];
    let cluster = Cluster::start_with(1, plan(&collector, &more)).await;
    let path = unique_path("later");
    cluster.create(&json!({"path": path, "routes": [route("default", &[http(&service, "/default")])]})).await;
    let mut client = Client::connect(&cluster.nodes[0], &path).await;
    let silent = Client::connect(&cluster.nodes[0], &path).await;
    client.send("{}").await;
    service.next("/default").await;
    for _ in 0..2 {
        client.send(&format!("{{\"traceparent\": \"{CLIENT}\"}}")).await;
        service.next("/default").await;
    }
    let events = eventually("both events", PATIENCE, async || {
        let events: Vec<Span> = spans(&collector).into_iter().filter(|span| span.name == "event default").collect();
        (events.len() == 2).then_some(events)
    })
    .await;
    let handshakes: Vec<Span> = spans(&collector).into_iter().filter(|span| span.kind == SERVER).collect();
    assert_eq!(handshakes.len(), 1, "of the connection that had such an event, and once: {handshakes:?}");
    for event in events {
        assert_eq!(event.links, [(handshakes[0].trace_id.clone(), handshakes[0].span_id.clone())]);
    }
    assert_eq!(attribute(&handshakes[0], "http.response.status_code"), "101");
    drop(silent);
}

#[tokio::test]
async fn all_that_becomes_of_an_event_is_one_trace() {
    let _turn = own_cluster_turn().await;
    let (collector, service) = (Service::start().await, Service::start().await);
    service.behave("/broken", Behaviour::status(500));
    let cluster = Cluster::start_with(1, plan(&collector, &[])).await;
    let path = unique_path("whole");
    let is = |name: &str| json!({"equal": {"path": "$.type", "value": name}});
    let mut audit = custom("audit", is("order"), &[http(&service, "/audit")]);
    audit["continue"] = json!(true);
    let mut broken = http(&service, "/broken");
    broken["retry"] = json!({"attempts": 1});
    let routes = [audit, custom("order", is("order"), &[broken]), route("error", &[http(&service, "/error")])];
    cluster.create(&json!({"path": path, "routes": routes})).await;
    let mut client = Client::connect(&cluster.nodes[0], &path).await;

    // Two routes, and what is told of the failure of one of them.
    client.send("{\"type\": \"order\"}").await;
    client.error_frame("delivery_failed").await;
    let audit = span(&collector, "event audit").await;
    let order = span(&collector, "event order").await;
    let error = span(&collector, "event error").await;
    assert_eq!((&order.trace_id, &error.trace_id), (&audit.trace_id, &audit.trace_id));
    assert_eq!((&order.parent_span_id, &error.parent_span_id), (&audit.span_id, &order.span_id));
    let told = service.next("/error").await;
    assert_eq!(told.header("traceparent").expect("a context")[3..35], hex(&audit.trace_id));

    // What no route takes has a span, too.
    client.send("{\"type\": \"unknown\"}").await;
    client.error_frame("no_route").await;
    let refused = span(&collector, "event").await;
    assert!(refused.status == ERROR && attribute(&refused, "error.type") == "no_route", "{refused:?}");
    let error = eventually("its error event", PATIENCE, async || {
        spans(&collector).into_iter().find(|span| span.parent_span_id == refused.span_id)
    })
    .await;
    assert_eq!((error.name.as_str(), &error.trace_id), ("event error", &refused.trace_id));
}

#[tokio::test]
async fn without_a_collector_a_trusted_context_is_passed_on_as_it_came() {
    let _turn = own_cluster_turn().await;
    let service = Service::start().await;
    let environment = vec![("WSGATEWAY__TRACING__TRUST_CLIENT_TRACEPARENT".to_owned(), "true".to_owned())];
    let cluster = Cluster::start_with(1, Plan { environment, ..Plan::default() }).await;
    let path = unique_path("through");
    let routes = [route("connect", &[http(&service, "/connect")]), route("default", &[http(&service, "/default")])];
    cluster.create(&json!({"path": path, "routes": routes})).await;
    let headers = [("traceparent", CLIENT)];
    let mut client = Client::try_connect(&cluster.nodes[0], &path, &headers).await.unwrap();
    assert_eq!(service.next("/connect").await.header("traceparent"), Some(CLIENT));
    let other = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    client.send(&format!("{{\"traceparent\": \"{other}\"}}")).await;
    assert_eq!(service.next("/default").await.header("traceparent"), Some(other));
    // A new one: not recorded, and its id is random (flag 2).
    client.send("{}").await;
    assert!(service.next("/default").await.header("traceparent").is_some_and(|told| told.ends_with("-02")));
}
