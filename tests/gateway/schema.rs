//! The JSON Schema of a route: events that do not hold to it are told where, and go no further.

use serde_json::{json, Value};

use crate::document::{custom, document, http, route};
use crate::http::JSON;
use crate::sandbox::{shared, unique_path};
use crate::service::Service;
use crate::ws::Client;

fn checked(mut route: Value, schema: Value) -> Value {
    route["schema"] = schema;
    route
}

#[tokio::test]
async fn an_event_against_its_schema_is_refused_with_the_place() {
    let cluster = shared().await;
    let service = Service::start().await;
    let order = json!({
        "type": "object", "required": ["sku"],
        "properties": {
            "sku": {"$ref": "#/$defs/sku"},
            "lines": {"type": "array", "items": {"properties": {"n": {"type": "integer", "minimum": 1}}}},
            "mail": {"type": "string", "format": "email"},
        },
        "$defs": {"sku": {"type": "string", "pattern": "^[a-z]+-[0-9]+$"}},
    });
    let mut buy = checked(custom("buy", json!({"exists": {"path": "$.sku"}}), &[http(&service, "/buy")]), order);
    // The schema is about the client's event: it is checked before the template.
    buy["transform"] = json!({"inbound": "{{ event.sku }}"});
    let routes = [
        buy,
        checked(route("default", &[http(&service, "/default")]), json!({"type": "array"})),
        route("error", &[http(&service, "/error")]),
    ];
    let endpoint = cluster.create(&document(&unique_path("schema"), &routes)).await;
    let mut client = Client::connect(&cluster.nodes[0], &endpoint.path).await;
    client.send(r#"{"sku": "a-1", "lines": [{"n": 1}, {"n": 2}], "mail": "ann@example.com"}"#).await;
    assert_eq!(service.next("/buy").await.text(), "\"a-1\"");
    client.send("[1]").await;
    assert_eq!(service.next("/default").await.text(), "[1]");

    for (event, place, route) in [
        (r#"{"id": 1, "sku": "A1"}"#, "/sku: ", "buy"),
        (r#"{"id": 1, "sku": "a-1", "lines": [{"n": 1}, {"n": 0}]}"#, "/lines/1/n: ", "buy"),
        (r#"{"id": 1, "sku": "a-1", "mail": "ann"}"#, "/mail: ", "buy"),
        (r#"{"id": 1}"#, "the event: ", "default"),
    ] {
        client.send(event).await;
        let frame = client.error_frame("schema_violation").await;
        let message = frame["error"]["message"].as_str().expect("a message");
        assert!(message.starts_with(place), "{event}: {message}");
        assert_eq!(frame["clientEventId"], 1);
        let told = service.next("/error").await.json();
        assert_eq!((&told["code"], &told["route"]), (&json!("schema_violation"), &json!(route)));
        assert_eq!((&told["message"], &told["eventId"]), (&frame["error"]["message"], &frame["eventId"]));
    }
    assert_eq!((service.received("/buy").len(), service.received("/default").len()), (1, 1));
    let metrics = cluster.nodes[0].admin().get("/metrics").await.expect(200);
    let line = format!(
        "events_in_total{{endpoint=\"{}\",route=\"buy\",type=\"custom\",outcome=\"schema_violation\"}} 3",
        endpoint.path
    );
    assert!(metrics.text().contains(&line), "no {line} in the metrics");
}

#[tokio::test]
async fn a_schema_that_fetches_recurses_or_explodes_is_refused() {
    let cluster = shared().await;
    let doubled = |n: usize| json!({"allOf": [{"$ref": format!("#/$defs/d{n}")}, {"$ref": format!("#/$defs/d{n}")}]});
    let mut explosion: serde_json::Map<String, Value> = (0..14).map(|n| (format!("d{n}"), doubled(n + 1))).collect();
    explosion.insert("d14".into(), json!(true));
    for (schema, place, reason) in [
        (json!({"$ref": "http://127.0.0.1:1/schema.json"}), ".schema[\"$ref\"]", "nothing is fetched"),
        (json!({"properties": {"a": {"$ref": "#"}}}), ".schema.properties.a[\"$ref\"]", "recursive"),
        (json!({"$ref": "#/$defs/d0", "$defs": explosion}), ".schema", "at most 2000 parts"),
        (json!({"pattern": "(a|b)\\1"}), ".schema.pattern", "linear time"),
        (json!({"type": "objekt"}), ".schema.type", "objekt"),
        (json!({"format": "emial"}), ".schema", "emial"),
    ] {
        let refused = document(&unique_path("no-schema"), &[checked(route("default", &[]), schema)]);
        let answer =
            cluster.nodes[1].admin().call("POST", "/api/v1/endpoints", JSON, refused.to_string().as_bytes()).await;
        let problem = answer.expect(400).json();
        let error = &problem["errors"][0];
        assert!(error["path"].as_str().is_some_and(|path| path.starts_with(&format!("routes[0]{place}"))), "{problem}");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(reason)), "{problem}");
    }
}
