//! Clients that no one here wrote: Chromium's WebSocket, npm's `ws`, PyPI's `websockets`, libcurl's. One scenario each,
//! all with the same cases on a cluster of three nodes. The programs are in `tests/clients/`. Of `./test clients`.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{json, Value};

use crate::document::{document, http, route, with};
use crate::programs::{chromium, ended, node_packages, python, ROOT};
use crate::sandbox::{run_folder, shared, unique_path};
use crate::service::{Behaviour, Service};
use crate::wait::eventually;

const WITHIN: Duration = Duration::from_secs(60);
const MAX_MESSAGE_BYTES: usize = 200_000;
const KEY: &str = "a-key-that-is-long-enough";

/// The endpoints that the cases are about.
struct Served {
    echo: String,
    with_key: String,
    with_token: String,
    service: Service,
}

async fn serve(theme: &str) -> Served {
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave("/check", Behaviour::status(200).body(r#"{"sub":"ann"}"#));
    let settings = json!({"subprotocols": ["chat.v1"], "maxMessageBytes": MAX_MESSAGE_BYTES});
    let echo = route("default", &[json!({"type": "echo"})]);
    let create = async |name: &str, authentication: Value| {
        let routes = [route("connect", &[http(&service, "/connect")]), echo.clone()];
        let wanted = with(document(&unique_path(&format!("{theme}-{name}")), &routes), "settings", settings.clone());
        cluster.create(&with(wanted, "authentication", authentication)).await.path
    };
    let key = json!({"mode": "apiKey", "in": "query", "name": "key", "keys": [{"id": "ann", "key": KEY}]});
    let bearer = json!({"mode": "bearer", "authorizationServerUrl": service.url("/check"), "tokenQuery": "token"});
    let (echo, with_key) = (create("echo", json!({"mode": "none"})).await, create("key", key).await);
    let with_token = create("token", bearer).await;
    Served { echo, with_key, with_token, service }
}

fn case(name: &str, url: String, protocols: &[&str], send: &[&str], receive: usize, close: bool) -> Value {
    json!({"name": name, "url": url, "protocols": protocols, "send": send, "receive": receive, "close": close})
}

/// What a client is to do, spread over the nodes; `theme` names it to the service.
async fn cases(served: &Served, theme: &str, long: &str) -> Value {
    let nodes = &shared().await.nodes;
    let url = |node: usize, path: &str| format!("ws://{}{path}", nodes[node].client);
    let (echo, token) = (&served.echo, &served.with_token);
    let texts = [r#"{"a":1.0,"b":[]}"#, "\"grüße 🦀\"", long, "{no json"];
    json!({"cases": [
        case("echo", url(0, echo), &["chat.v9", "chat.v1"], &texts, 4, true),
        case("no subprotocol", url(1, echo), &[], &["1"], 1, true),
        case("key in the query", url(2, &format!("{}?key={KEY}", served.with_key)), &[], &["2"], 1, true),
        case("no key", url(2, &served.with_key), &[], &["2"], 1, true),
        case("token in the query", url(0, &format!("{token}?token=t-{theme}-q")), &[], &["3"], 1, true),
        case("token in a subprotocol", url(1, token), &["chat.v1", &format!("bearer.t-{theme}-p")], &["4"], 1, true),
        case("too long", url(0, echo), &[], &[&format!("\"{}\"", "x".repeat(MAX_MESSAGE_BYTES))], 0, false),
        case("pushed", url(1, &format!("{echo}?who=pushed-{theme}")), &[], &[], 1, true),
        case("removed", url(2, &format!("{echo}?who=removed-{theme}")), &[], &[], 0, false),
    ]})
}

/// The id of the connection that came with `?who=NAME`.
async fn id_of(service: &Service, name: &str) -> String {
    let what = format!("the connect event of {name}");
    let call = eventually(&what, WITHIN, async || {
        service.received("/connect").into_iter().find(|call| call.text().contains(&format!("\"{name}\"")))
    });
    call.await.attributes().get("connectionid").to_string()
}

/// Lets a client do all of it; `command` takes the file of the cases as its next argument. `tells_status`: whether it
/// can say how a handshake was refused.
async fn goes_through_all(theme: &str, command: impl FnOnce(PathBuf) -> Command, tells_status: bool) {
    let served = serve(theme).await;
    let long = format!("\"{}\"", "x".repeat(100_000));
    let file = run_folder().join(format!("{theme}.json"));
    std::fs::write(&file, cases(&served, theme, &long).await.to_string()).expect("a file");
    let service = &served.service;
    let others = async {
        // Services, meanwhile, on other nodes than the client's.
        let nodes = &shared().await.nodes;
        let id = id_of(service, &format!("pushed-{theme}")).await;
        nodes[2].admin().push(&id, r#"{"pushed":true}"#).await.expect(202);
        let id = id_of(service, &format!("removed-{theme}")).await;
        nodes[0].admin().delete(&format!("/api/v1/connections/{id}")).await.expect(204);
    };
    let (printed, ()) = tokio::join!(ended(command(file), theme, WITHIN), others);
    let said: Value = serde_json::from_slice(&printed.stdout).expect("JSON");
    let echo = &said["echo"];
    assert_eq!((&echo["protocol"], &echo["code"]), (&json!("chat.v1"), &json!(1000)));
    assert_eq!(echo["received"][0], r#"{"a":1.0,"b":[]}"#, "byte for byte");
    assert_eq!((&echo["received"][1], &echo["received"][2]), (&json!("\"grüße 🦀\""), &json!(long)));
    let error: Value = serde_json::from_str(echo["received"][3].as_str().expect("a text")).expect("JSON");
    assert_eq!(error["error"]["code"], "invalid_json");
    let plain = |text: &str, protocol: &str| json!({"protocol": protocol, "received": [text], "code": 1000});
    assert_eq!(said["no subprotocol"], plain("1", ""));
    assert_eq!(said["key in the query"], plain("2", ""));
    assert_eq!(said["no key"]["refused"], if tells_status { json!(401) } else { json!(true) });
    assert_eq!(said["token in the query"], plain("3", ""));
    assert_eq!(said["token in a subprotocol"], plain("4", "chat.v1"), "the token is not echoed");
    let shown: Vec<Value> =
        service.received("/check").iter().map(|check| check.json()["access_token"].clone()).collect();
    assert_eq!(shown, [json!(format!("t-{theme}-q")), json!(format!("t-{theme}-p"))]);
    assert_eq!(said["too long"], json!({"protocol": "", "received": [], "code": 1009}));
    assert_eq!(said["pushed"], plain(r#"{"pushed":true}"#, ""));
    assert_eq!(said["removed"], json!({"protocol": "", "received": [], "code": 4403}));
}

fn program(interpreter: &str, name: &str, plan: PathBuf) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(format!("{ROOT}/tests/clients/{name}")).arg(plan).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

#[tokio::test]
async fn websockets_of_python() {
    let python = python().await;
    goes_through_all("websockets", |plan| program(python, "websockets_client.py", plan), true).await;
}

#[tokio::test]
async fn libcurl() {
    let python = python().await;
    goes_through_all("libcurl", |plan| program(python, "curl_client.py", plan), true).await;
}

#[tokio::test]
async fn ws_of_node() {
    let packages = node_packages("clients/typescript").await;
    let command = |plan| {
        let mut command = program("node", "ws_client.mjs", plan);
        command.arg(packages);
        command
    };
    goes_through_all("ws", command, true).await;
}

#[tokio::test]
async fn chromium_of_debian() {
    let packages = node_packages("clients/typescript").await;
    let command = |plan| {
        let mut command = program("node", "chromium_client.mjs", plan);
        command.arg(packages).arg(chromium());
        command
    };
    goes_through_all("chromium", command, false).await;
}
