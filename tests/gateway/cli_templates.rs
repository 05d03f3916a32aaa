//! Templates, schemas and acks as `check`, the tests in endpoint files and `explain` show them; and that explain says what
//! happens.

use serde_json::{json, Value};

use crate::cli::{out, run};
use crate::cli_files::file;
use crate::document::{custom, document, http, route, with};
use crate::sandbox::{shared, unique_path};
use crate::service::Service;
use crate::ws::Client;

const TALK: &str = include_str!("../../docs/examples/talk.yaml");

#[tokio::test]
async fn the_worked_example_passes_its_tests_and_faults_have_their_line() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/examples/talk.yaml");
    let fine = run(&["check", example], &[]).await;
    assert!(fine.status.success() && out(&fine).contains("5 tests passed"), "{}", out(&fine));
    for (from, to, line) in [
        ("event.text | trim", "event.text | trm", ":20:1: routes[1].transform.inbound: there is no filter \"trm\""),
        ("{{ event }}\n", "{{ evnt }}\n", ":22:1: routes[1].transform.inbound: there is no variable \"evnt\""),
        ("{% endfor %}", "", "routes[1].transform.inbound: unexpected end of input"),
        ("'{\"room\": {{", "'{\"room\": {{ }} {{", ":5:3: transform.outbound: line 1 of the template: {{ }} needs"),
        ("required: [sku]", "required: sku", ":10:14: routes[0].schema.required: "),
        ("tags: [a, b], original", "tags: [b], original", "tests[0].expect.output: is"),
        ("clientEventId: 1}", "clientEventId: 2}", "tests[0].expect.client: is"),
        (
            "error: transform_failed",
            "error: no_route",
            "tests[2].expect.error: is \"no_route\", but the event is rejected: transform_failed",
        ),
    ] {
        let broken = TALK.replacen(from, to, 1);
        assert_ne!(broken, TALK, "{from}");
        let path = file("talk", "broken.yaml", &broken);
        let refused = run(&["check", &path.display().to_string()], &[]).await;
        assert_eq!(refused.status.code(), Some(1), "{to}");
        assert!(out(&refused).contains(line), "{line:?} is missing in\n{}", out(&refused));
    }
    let event = r#"{"text": "hi", "tags": []}"#;
    let shown = run(&["explain", "-f", example, "-e", event, "-c", r#"{"path": "/talk/lobby"}"#], &[]).await;
    for part in
        ["\"line\": \"guest: hi\"", "(transformed)", "client    {\"type\":\"ack\"", "client    {\"room\": \"lobby\""]
    {
        assert!(out(&shown).contains(part), "{part} is missing in\n{}", out(&shown));
    }
    let refused = run(&["explain", "-f", example, "-e", r#"{"sku": "A1"}"#], &[]).await;
    assert!(out(&refused).contains("rejected: schema_violation by routes[0]: /sku: "), "{}", out(&refused));
    let later = run(&["explain", "-f", example, "-e", r#"{"sku": "a-1"}"#], &[]).await;
    assert!(out(&later).contains("ack       when delivered: {\"as\""), "{}", out(&later));
}

#[tokio::test]
async fn explain_says_what_happens() {
    let cluster = shared().await;
    let service = Service::start().await;
    let mut strict = custom("strict", json!({"exists": {"path": "$.n"}}), &[http(&service, "/strict")]);
    strict["schema"] = json!({"properties": {"n": {"minimum": 5}}});
    strict["transform"] = json!({"inbound": r#"{"n": {{ event.n * 2 }}, "who": {{ connection.query.who }}, "v": {{ endpoint.version }}}"#});
    let mut error = route("error", &[http(&service, "/error")]);
    error["transform"] = json!({"inbound": r#"{"code": {{ event.code }}, "said": {{ event.message }}}"#});
    let routes = [strict, route("default", &[json!({"type": "echo"})]), error];
    let mut described = with(
        document(&unique_path("explained"), &routes),
        "ack",
        json!({"when": "received", "template": "[{{ ack.status }}]"}),
    );
    described["transform"] = json!({"outbound": "[{{ event }}]"});
    let endpoint = cluster.create(&described).await;
    let mut client = Client::connect(&cluster.nodes[1], &format!("{}?who=ann", endpoint.path)).await;
    let explain = async |event: &str| -> Value {
        let question = format!(r#"{{"event": {event}, "connection": {{"query": {{"who": "ann"}}}}}}"#);
        let target = format!("/api/v1/endpoints/{}/explain", endpoint.id);
        cluster.nodes[2].admin().call("POST", &target, crate::http::JSON, question.as_bytes()).await.expect(200).json()
    };

    let told = explain(r#"{"n": 7}"#).await;
    client.send(r#"{"n": 7}"#).await;
    assert_eq!(client.json().await, told["client"][0]);
    let taken = &told["taken"][0];
    assert_eq!((&taken["schema"], &taken["transformed"]), (&json!(true), &json!(true)));
    assert_eq!(service.next("/strict").await.json(), taken["body"]);
    assert_eq!(taken["body"], json!({"n": 14, "who": "ann", "v": 1}));

    let told = explain(r#"{"n": 1}"#).await;
    client.send(r#"{"n": 1}"#).await;
    let frame = client.error_frame("schema_violation").await;
    assert_eq!((&told["error"]["message"], &told["error"]["at"]), (&frame["error"]["message"], &json!("routes[0]")));
    assert_eq!(service.next("/error").await.json(), told["taken"][0]["body"]);
    assert!(told.get("ack").is_none(), "{told}");

    let told = explain(r#"{"a": 1}"#).await;
    client.send(r#"{"a": 1}"#).await;
    let got = [client.json().await, client.json().await];
    assert_eq!(told["client"], json!(got), "the ack, then the echo through the outbound template");
    assert_eq!(got[1], json!([{"a": 1}]));
}
