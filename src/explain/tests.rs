//! Tests of the engine on documents as users write them.

use serde_json::{json, Value};

use super::*;
use crate::config::compile::compile;
use crate::config::validate::{validate, NodeFacts};

fn explained(document: Value, event: &str, connection: Value) -> Explained {
    let validated = validate(&document.to_string(), &NodeFacts::default()).expect("the document is sound");
    let endpoint = compile("ep-1", 3, &validated.document).expect("it compiles");
    let connection = serde_json::from_value(connection).expect("a connection");
    let place = Place { node: "n1", unix_millis: 1_700_000_000_000 };
    explain(&endpoint, event.as_bytes(), &connection, &place).expect("a connection that can be")
}

fn shop() -> Value {
    let to = |path: &str| json!([{"type": "http", "destination": format!("http://s/{path}"), "additionalHeaders": {"X-Api-Key": "hunter2", "X-A": "1"}}]);
    json!({"path": "/shop/{country}", "routeSelector": "$.action", "routes": [
        {"type": "custom", "name": "key", "key": "buy", "backends": [{"type": "kafka", "topic": "buys", "bootstrapServers": "b:9092", "key": "$.order"}]},
        {"type": "custom", "name": "both", "continue": true, "backends": to("{country}/both"), "expression": {"or": [
            {"and": [{"equal": {"path": "$.a", "value": 1}}, {"gt": {"path": "$.b", "value": 5}}]},
            {"not": {"exists": {"path": "$.headers.x", "source": "connection"}}}]}},
        {"type": "custom", "name": "last", "backends": to("last"), "expression": {"exists": {"path": "$.b"}}},
        {"type": "custom", "name": "never", "backends": to("never"), "expression": {"exists": {"path": "$"}}},
        {"type": "error", "name": "errors", "backends": to("errors")}]})
}

#[test]
fn every_step_is_told() {
    let connection = json!({"path": "/shop/n%20l?x=1", "headers": {"X": "1"}, "user": "ann"});
    let explained = explained(shop(), r#"{"a": 1, "b": 7.0}"#, connection);
    assert_eq!(explained.outcome, "forwarded");
    let routes = serde_json::to_value(&explained.custom_routes).unwrap();
    assert_eq!(explained.selector.as_ref().unwrap().value, None);
    let matched: Vec<_> = explained.custom_routes.iter().map(|route| route.matched).collect();
    assert_eq!(matched, [Some(false), Some(true), Some(true), None]);
    let and = &routes[1]["expression"]["parts"][0];
    assert_eq!(and["at"], "routes[1].expression.or[0].and");
    assert_eq!(and["parts"][1]["at"], "routes[1].expression.or[0].and[1].gt");
    assert_eq!(and["parts"][1]["comparison"]["seen"], json!([7.0]));
    assert_eq!(routes[1]["expression"]["parts"].as_array().unwrap().len(), 1, "the or was decided by its first part");
    assert_eq!(
        routes[1]["decidedBy"],
        json!(["routes[1].expression.or[0].and[0].equal", "routes[1].expression.or[0].and[1].gt"])
    );
    assert_eq!(explained.taken.len(), 2);
    let request = serde_json::to_value(&explained.taken[0].requests[0]).unwrap();
    assert_eq!(
        (&request["at"], &request["method"], &request["url"]),
        (&json!("routes[1].backends[0]"), &json!("POST"), &json!("http://s/n%20l/both"))
    );
    let text = request["headers"].to_string();
    for part in [r#"["x-a","1"]"#, r#"["ce-userid","ann"]"#, r#"["ce-route","both"]"#, r#"["ce-node","n1"]"#] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(!text.contains("hunter2") && text.contains("redacted"), "{text}");
    assert_eq!(explained.taken[0].body.get(), r#"{"a": 1, "b": 7.0}"#, "byte by byte");
    assert_eq!(explained.connection["query"]["x"], "1");
    let id = |route: &Taken| {
        let requests = serde_json::to_value(&route.requests).unwrap();
        let headers = requests[0]["headers"].as_array().unwrap().clone();
        headers.into_iter().find(|header| header[0] == "ce-id").unwrap()
    };
    assert_eq!(id(&explained.taken[0]), id(&explained.taken[1]), "it is one event");
}

#[test]
fn the_last_part_that_was_looked_at_decided() {
    let mut shop = shop();
    shop["routes"].as_array_mut().unwrap().remove(3);
    let explained =
        explained(shop, r#"{"a": 2, "action": "x"}"#, json!({"headers": {"x": "1"}, "params": {"country": "nl"}}));
    assert_eq!(explained.outcome, "rejected");
    assert_eq!(explained.error.as_ref().unwrap().code, "no_route");
    let route = &explained.custom_routes[1];
    assert_eq!(route.decided_by, ["routes[1].expression.or[0].and[0].equal", "routes[1].expression.or[1].not.exists"]);
    assert_eq!(explained.taken[0].r#type, "error");
    assert!(explained.client[0].get().contains("no_route"));
}

#[test]
fn keys_records_and_what_is_no_json() {
    let bought = explained(shop(), r#"{"action": "buy", "order": 17}"#, json!({}));
    assert_eq!(bought.selector.as_ref().unwrap().value, Some(json!("buy")));
    assert_eq!(bought.custom_routes[1].matched, None, "not looked at");
    let request = serde_json::to_value(&bought.taken[0].requests[0]).unwrap();
    assert_eq!((&request["topic"], &request["key"]), (&json!("buys"), &json!("17")));
    let broken = explained(shop(), "{\"a\"", json!({}));
    assert_eq!(broken.error.as_ref().unwrap().code, "invalid_json");
    assert!(broken.taken[0].body.get().contains(r#""event":"{\"a\"""#), "{}", broken.taken[0].body);
    let nowhere = explained(shop(), r#"{"b": 1}"#, json!({}));
    assert!(nowhere.taken[0].requests[0].what.summary().contains("country"), "a path parameter is missing");
}

#[test]
fn echoes_limits_and_impossible_connections() {
    let echo = |raw: bool| json!({"path": "/e", "settings": {"maxMessageBytes": 20}, "routes": [{"type": "default", "name": "d", "backends": [{"type": "echo", "raw": raw}]}]});
    assert_eq!(explained(echo(true), "no json", json!({})).outcome, "echoed");
    let echoed = explained(echo(false), "[1]", json!({}));
    assert_eq!((echoed.outcome, echoed.client[0].get()), ("forwarded", "[1]"));
    let large = explained(echo(false), &"1".repeat(21), json!({}));
    assert_eq!((large.outcome, large.error.unwrap().code.as_str()), ("closed", "1009"));
    let validated = validate(&shop().to_string(), &NodeFacts::default()).unwrap();
    let endpoint = compile("ep-1", 3, &validated.document).unwrap();
    let place = Place { node: "n1", unix_millis: 0 };
    for (connection, path) in [
        (json!({"path": "/other"}), "connection.path"),
        (json!({"headers": {"a b": "1"}}), "connection.headers[\"a b\"]"),
        (json!({"headers": {"a": "1\n2"}}), "connection.headers.a"),
    ] {
        let connection = serde_json::from_value(connection).unwrap();
        assert_eq!(explain(&endpoint, b"{}", &connection, &place).unwrap_err()[0].path, path);
    }
}

#[test]
fn what_is_shown_of_a_large_event_is_bounded() {
    let leaves: Vec<_> = (0..200).map(|n| json!({"equal": {"path": "$..*", "value": n}})).collect();
    let document = json!({"path": "/e", "settings": {"maxMessageBytes": 1_000_000}, "routes": [
        {"type": "custom", "name": "c", "expression": {"or": leaves}, "backends": []}]});
    let event = json!([vec!["x".repeat(400); 2000], {"deep": vec![vec![1; 100]; 100]}]).to_string();
    let told = serde_json::to_string(&explained(document, &event, json!({})).custom_routes).unwrap();
    assert!(told.len() < 1_000_000, "{}", told.len());
    assert!(told.contains("a list of 2000") && told.contains("\"seenOf\""));
}

#[test]
fn the_place_of_dead_letters_is_told() {
    let http = |path: &str| json!({"type": "http", "destination": format!("http://s/{path}")});
    let document = json!({"path": "/a", "deadLetter": {"type": "kafka", "topic": "dead", "bootstrapServers": "b:9092", "key": "$.n"},
        "routes": [{"type": "default", "name": "d", "backends": [http("d")]},
            {"type": "custom", "name": "own", "expression": {"exists": {"path": "$.own"}}, "backends": [http("own")],
             "deadLetter": http("dead")}]});
    let by_default = explained(document.clone(), r#"{"n": 7}"#, json!({}));
    let letter = serde_json::to_value(&by_default.taken[0].dead_letter).unwrap();
    assert_eq!((&letter["topic"], &letter["key"]), (&json!("dead"), &json!("7")));
    let own = explained(document, r#"{"own": 1}"#, json!({}));
    assert_eq!(own.taken[0].dead_letter.as_ref().unwrap().summary(), "POST http://s/dead");
}

#[test]
fn limits_are_told_by_whose_they_are() {
    let document = json!({"path": "/a", "routes": [], "throttling": {"scope": "node", "onExceeded": "close",
        "messagesPerSecond": {"rate": 100}, "perConnection": {"rate": 0.5}, "maxConnections": 3,
        "perIdentity": {"key": "$.claims.tenant", "rate": 7, "burst": 9}}});
    let limits = |connection| serde_json::to_value(explained(document.clone(), "1", connection).limits).unwrap();
    let with_claims = limits(json!({"claims": {"tenant": "acme"}}));
    assert_eq!(
        with_claims[0],
        json!({"at": "throttling.perConnection", "of": "connection", "rate": 0.5, "burst": 1.0,
        "scope": "node", "onExceeded": "close"})
    );
    assert_eq!((&with_claims[1]["of"], &with_claims[1]["burst"]), (&json!("$.claims.tenant acme"), &json!(9.0)));
    assert_eq!(with_claims[2]["at"], "throttling.messagesPerSecond");
    assert_eq!(with_claims.as_array().unwrap().len(), 3, "limits of connections are not about events");
    assert_eq!(limits(json!({"sourceIp": "10.0.0.7"}))[1]["of"], "ip 10.0.0.7");
    let without = explained(json!({"path": "/a"}), "1", json!({}));
    assert!(!serde_json::to_string(&without).unwrap().contains("limits"));
}

#[test]
fn how_hard_it_is_tried_is_told() {
    let backend = json!({"type": "http", "destination": "http://h", "signingSecret": "${env:WSGATEWAY_SECRET_X}",
        "retry": {"attempts": 5, "backoffInMillis": 10}, "circuitBreaker": {}});
    let route = |kind: &str, backend: &Value| json!({"type": kind, "name": kind, "backends": [backend]});
    let plain = json!({"type": "http", "destination": "http://h"});
    let document = json!({"path": "/a", "settings": {"ordering": "key", "orderingKey": "$.order"},
        "routes": [route("default", &backend), route("error", &plain)]});
    let told = serde_json::to_value(explained(document.clone(), r#"{"order": 7}"#, json!({}))).unwrap();
    let request = &told["taken"][0]["requests"][0];
    let retry = json!({"attempts": 5, "backoffInMillis": 10, "maxBackoffInMillis": 2000, "after": "passing"});
    assert_eq!(request["retry"], retry);
    assert_eq!(request["circuitBreaker"], json!({"failures": 5, "openInMillis": 2000}));
    assert_eq!(request["signed"], true);
    assert!(!request["headers"].to_string().contains("WSGATEWAY_SECRET"), "{request}");
    assert_eq!(told["ordering"], json!({"rule": "key", "key": 7, "atOnce": 8}));
    let broken = serde_json::to_value(explained(document, "{", json!({}))).unwrap();
    let request = &broken["taken"][0]["requests"][0];
    assert_eq!((&request["retry"]["attempts"], request.get("signed")), (&json!(3), None));
    let plain = serde_json::to_value(explained(json!({"path": "/a"}), "1", json!({}))).unwrap();
    assert_eq!(plain["ordering"], json!({"rule": "connection", "atOnce": 1}));
}
