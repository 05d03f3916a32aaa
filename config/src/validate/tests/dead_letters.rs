//! Dead letter backends.

use super::*;

#[test]
fn dead_letters_go_to_services_and_topics() {
    let http = json!({"type": "http", "destination": "http://h/{room}", "timeoutInMillis": 10, "additionalHeaders": {"a": "b"}});
    let kafka = json!({"type": "kafka", "topic": "t", "key": "$.a", "headers": {"a": "b"}});
    for backend in [&http, &kafka] {
        assert_eq!(faults(&with("/deadLetter", backend.clone())), Vec::<String>::new());
        let routes = json!([{"type": "error", "name": "e", "deadLetter": backend}]);
        assert_eq!(faults(&with("/routes", routes)), Vec::<String>::new());
    }
    let also = |field: &str, value: Value| {
        let mut backend = http.clone();
        backend[field] = value;
        backend
    };
    for (backend, at, part) in [
        (json!({"type": "echo"}), ".type", "must be \"http\" or \"kafka\""),
        (also("required", json!(true)), ".required", "does not belong to a dead letter backend"),
        (also("reply", json!(true)), ".reply", "does not belong"),
        (also("topic", json!("t")), ".topic", "does not belong to type \"http\""),
        (also("destination", json!("http://h/{user}")), ".destination", "no parameter"),
        (also("colour", json!(1)), ".colour", "unknown field"),
        (json!({"type": "kafka"}), "", "needs a \"topic\""),
    ] {
        refused(&with("/deadLetter", backend.clone()), &format!("deadLetter{at}"), part);
        let routes = json!([{"type": "default", "name": "d", "deadLetter": backend}]);
        refused(&with("/routes", routes), &format!("routes[0].deadLetter{at}"), part);
    }
    let connect = json!([{"type": "connect", "name": "c", "deadLetter": http}]);
    refused(&with("/routes", connect), "routes[0].deadLetter", "does not belong to connect routes");
    let warned = validate(&with("/deadLetter", kafka).to_string(), &NodeFacts::default()).unwrap().warnings;
    assert_eq!(warned.iter().map(|warning| warning.path.as_str()).collect::<Vec<_>>(), ["deadLetter"]);
}
