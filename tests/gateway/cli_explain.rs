//! explain against what really happens: the same event is sent by a client and explained, and both must have the same
//! route, request and body. And the `tests` of endpoint files, which `check` runs with the same engine.

use std::collections::BTreeMap;

use serde_json::{json, Value};

use crate::cli::{err, out, run};
use crate::cli_files::file;
use crate::document::{custom, document, http, route, with};
use crate::sandbox::{shared, unique_path};
use crate::service::{Request, Service};
use crate::ws::Client;

/// Of one event, or of the HTTP exchange itself.
const PER_EVENT: [&str; 10] = [
    "ce-id",
    "ce-time",
    "ce-sequence",
    "traceparent",
    "ce-connectionid",
    "ce-node",
    "host",
    "accept-encoding",
    "content-length",
    "date",
];

fn routes(service: &Service) -> Vec<Value> {
    let mut audit = custom("audit é", json!({"exists": {"path": "$.audit"}}), &[http(service, "/audit")]);
    audit["continue"] = json!(true);
    let mut put = http(service, "/rooms/{room}");
    put["method"] = json!("PUT");
    put["additionalHeaders"] = json!({"X-Kind": "put"});
    let vip = json!({"and": [{"equal": {"path": "$.query.level", "value": "vip", "source": "connection"}},
        {"not": {"gt": {"path": "$.items[*].n", "value": 5}}}]});
    vec![
        audit,
        json!({"type": "custom", "name": "keyed", "key": "buy", "backends": [put]}),
        custom("vip", vip, &[http(service, "/vip")]),
        custom(
            "odd",
            json!({"in": {"path": "$..odd", "value": [1, 3, "5"]}}),
            &[http(service, "/odd"), json!({"type": "echo"})],
        ),
        route("default", &[http(service, "/default")]),
        route("error", &[http(service, "/error")]),
    ]
}

fn compared(headers: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    headers.filter(|(name, _)| !PER_EVENT.contains(&name.as_str())).collect()
}

fn of_request(request: &Request) -> (String, String, BTreeMap<String, String>, String) {
    let headers = compared(request.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone())));
    (request.method.clone(), request.path.clone(), headers, request.text().to_owned())
}

#[tokio::test]
async fn explain_says_what_really_happens() {
    let cluster = shared().await;
    let service = Service::start().await;
    let path = unique_path("explain");
    let wanted = with(document(&format!("{path}/{{room}}"), &routes(&service)), "routeSelector", json!("$.action"));
    let endpoint = cluster.create(&wanted).await;
    let target = format!("/api/v1/endpoints/{}/explain", endpoint.id);
    let events = [
        r#"{"action":"buy",  "n": 1.50}"#,
        r#"{"action":"buy","audit":null}"#,
        r#"{"items":[{"n":4},{"n":5}]}"#,
        r#"{"items":[{"n":4},{"n":6}]}"#,
        r#"{"deep":[{"odd":3}],"audit":1}"#,
        r#"{"deep":[{"odd":"3"}]}"#,
        "1e999",
        "[]",
        "{\"broken\"",
    ];
    let mut compared_requests = 0;
    for connection in ["red?level=vip", "b%20l?level=low"] {
        let target_path = format!("{path}/{connection}");
        let mut client = Client::connect(&cluster.nodes[0], &target_path).await;
        for event in events {
            let mut question = json!({"connection": {"path": target_path}});
            match serde_json::from_str::<Value>(event) {
                Ok(_) => question["event"] = Value::Null,
                Err(_) => question["text"] = json!(event),
            }
            // The event's own bytes, not those of a tree.
            let question = question.to_string().replace("\"event\":null", &format!("\"event\":{event}"));
            let admin = cluster.nodes[1].admin();
            let answer = admin.call("POST", &target, crate::http::JSON, question.as_bytes()).await;
            let explained = answer.expect(200).json();
            client.send(event).await;
            for taken in explained["taken"].as_array().expect("routes") {
                for request in taken["requests"].as_array().expect("requests").iter().filter(|it| it["type"] == "http")
                {
                    let url = request["url"].as_str().expect("a URL");
                    let place = format!("/{}", url.splitn(4, '/').nth(3).unwrap_or_default());
                    let received = service.next(&place).await;
                    let (method, _, headers, body) = of_request(&received);
                    let listed = request["headers"].as_array().expect("headers").iter();
                    let said = compared(listed.map(|pair| {
                        (
                            pair[0].as_str().unwrap_or_default().to_owned(),
                            pair[1].as_str().unwrap_or_default().to_owned(),
                        )
                    }));
                    assert_eq!(request["method"], method.as_str(), "{event}");
                    assert_eq!(said, headers, "{event}");
                    match taken["type"] == "error" {
                        false => assert_eq!(body, event, "{connection}"),
                        true => {
                            let (said, sent) = (&taken["body"], received.json());
                            assert_eq!(
                                (&said["code"], &said["message"], &said["event"]),
                                (&sent["code"], &sent["message"], &sent["event"])
                            );
                        }
                    }
                    compared_requests += 1;
                }
            }
            for frame in explained["client"].as_array().expect("frames") {
                let received = client.json().await;
                assert_eq!((&received["type"], &received["error"]), (&frame["type"], &frame["error"]), "{event}");
            }
        }
    }
    assert!(compared_requests >= 2 * events.len(), "{compared_requests}");
    println!("{compared_requests} requests were as they had been explained");
}

#[tokio::test]
async fn explain_answers_for_versions_and_candidates_and_refuses_nonsense() {
    let cluster = shared().await;
    let path = unique_path("explain");
    let echo = |name: &str| json!({"type": "default", "name": name, "backends": [{"type": "echo"}]});
    let endpoint = cluster.create(&document(&path, &[echo("first")])).await;
    let admin = cluster.nodes[0].admin();
    admin.put(&format!("/api/v1/endpoints/{}", endpoint.id), &document(&path, &[echo("second")])).await.expect(200);
    let target = format!("/api/v1/endpoints/{}/explain", endpoint.id);
    for (question, version, name) in [
        (json!({"event": 1}), 2, "second"),
        (json!({"event": 1, "version": 1}), 1, "first"),
        (json!({"event": 1, "document": document(&path, &[echo("third")])}), 0, "third"),
    ] {
        let explained = admin.post(&target, &question).await.expect(200).json();
        assert_eq!(
            (&explained["endpoint"]["version"], &explained["taken"][0]["name"]),
            (&json!(version), &json!(name))
        );
    }
    for (question, at) in [
        (json!({}), "event"),
        (json!({"event": 1, "text": "1"}), "text"),
        (json!({"event": 1, "version": 1, "document": {}}), "document"),
        (json!({"event": 1, "document": {"path": "/x", "routes": [{"type": "nope", "name": "n"}]}}), "routes[0].type"),
        (json!({"event": 1, "connection": {"path": "/other"}}), "connection.path"),
        (json!({"event": 1, "connection": {"sourceIp": "nowhere"}}), "connection.sourceIp"),
        (json!({"event": 1, "connection": {"nothing": 1}}), "connection.nothing"),
        (json!({"event": 1, "version": "two"}), "version"),
    ] {
        let problem = admin.post(&target, &question).await.expect(400).json();
        assert_eq!(problem["errors"][0]["path"], at, "{question}: {problem}");
    }
    admin.post(&target, &json!({"event": 1, "version": 9})).await.expect_problem(404, "version_not_found");
    admin
        .post("/api/v1/endpoints/ep-none/explain", &json!({"event": 1}))
        .await
        .expect_problem(404, "endpoint_not_found");

    let server = format!("http://{}", cluster.nodes[2].admin);
    cluster.wait_version(&endpoint.id, 2).await;
    let told =
        run(&["explain", &path, "--event", "[1,2]", "--server", &format!("http://127.0.0.1:1,{server}")], &[]).await;
    assert!(told.status.success(), "{}", err(&told));
    for line in [
        format!("endpoint  {path} (version 2)"),
        "takes     routes[0] \"second\" (default)".into(),
        "  body    [1,2]".into(),
        "client    [1,2]".into(),
    ] {
        assert!(out(&told).contains(&line), "{line:?} is missing in\n{}", out(&told));
    }
    let candidate = file("explain", "wrong.yaml", &format!("path: {path}\nroutes:\n  - type: nope\n    name: n\n"));
    let refused =
        run(&["explain", &path, "-f", &candidate.display().to_string(), "-e", "1", "--server", &server], &[]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains(&format!("{}:3:5: routes[0].type", candidate.display())), "{}", err(&refused));
}

const TESTED: &str = "path: /shop/{country}
routeSelector: $.action
routes:
  - type: custom
    name: Buy
    key: buy
    backends:
      - {type: http, destination: 'http://shop:8000/{country}/buy'}
      - {type: kafka, topic: bought, bootstrapServers: 'k:9092'}
  - type: custom
    name: VIP
    expression: {equal: {path: $.user, value: ann, source: connection}}
    backends: [{type: echo}]
tests:
  - name: buying
    event: {action: buy, n: 1}
    connection: {path: /shop/nl}
    expect:
      route: Buy
      output: {action: buy, n: 1}
      backends: ['POST http://shop:8000/nl/buy', kafka bought]
  - event: {}
    connection: {user: ann}
    expect: {routes: [VIP], backends: [echo]}
  - event: {}
    expect: {error: no_route, routes: []}
  - text: '{'
    expect: {error: invalid_json}
";

#[tokio::test]
async fn check_runs_the_tests_of_a_file() {
    let fine = file("file-tests", "fine.yaml", TESTED);
    let passed = run(&["check", &fine.display().to_string()], &[]).await;
    assert!(passed.status.success() && out(&passed).contains("4 tests passed"), "{}{}", out(&passed), err(&passed));
    for (from, to, line) in [
        (
            "route: Buy",
            "route: VIP",
            ":19:7: tests[0].expect.route: is \"VIP\", but the event takes [\"Buy\"] (buying)",
        ),
        ("output: {action: buy, n: 1}", "output: {action: buy}", ":20:7: tests[0].expect.output: is"),
        ("kafka bought]", "kafka sold]", ":21:7: tests[0].expect.backends: is"),
        (
            "error: no_route",
            "error: invalid_json",
            ":26:14: tests[2].expect.error: is \"invalid_json\", but the event is rejected: no_route",
        ),
        ("path: /shop/nl", "path: /other", ":17:18: tests[0].connection.path: \"/other\" does not match"),
        ("expect: {error: invalid_json}", "expect: {}", ":28:5: tests[3].expect: expects nothing"),
        ("text: '{'", "name: x", "tests[3]: needs either"),
        ("    name: Buy", "    nome: Buy", ":5:5: routes[0].nome: unknown field"),
        ("  - name: buying", "  - nome: buying", ":15:5: tests[0].nome: unknown field `nome`"),
    ] {
        let broken = file("file-tests", "broken.yaml", &TESTED.replacen(from, to, 1));
        let refused = run(&["check", &broken.display().to_string()], &[]).await;
        assert_eq!(refused.status.code(), Some(1), "{to}");
        assert!(out(&refused).contains(line), "{line:?} is missing in\n{}", out(&refused));
    }
    let offline = run(
        &[
            "explain",
            "-f",
            &fine.display().to_string(),
            "-e",
            r#"{"action":"buy"}"#,
            "-c",
            r#"{"path":"/shop/nl"}"#,
            "--output",
            "json",
        ],
        &[],
    )
    .await;
    let explained: Value = serde_json::from_str(&out(&offline)).expect("JSON");
    assert_eq!(explained["taken"][0]["requests"][0]["url"], "http://shop:8000/nl/buy");
    assert_eq!(run(&["explain", "--event", "1"], &[]).await.status.code(), Some(2), "neither endpoint nor file");
    let usage = run(&["explain", "-f", &fine.display().to_string(), "-e", "1", "-c", "{"], &[]).await;
    assert_eq!(usage.status.code(), Some(2), "{}", err(&usage));
}
