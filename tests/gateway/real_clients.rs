//! Clients that no one here wrote: Chromium's WebSocket, npm's `ws`, PyPI's `websockets`, libcurl's. One scenario each,
//! all with the same cases on a cluster of three nodes, in the clear and over TLS. The programs are in `tests/clients/`. Of `./test clients`.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{json, Value};
use tokio::sync::OnceCell;

use crate::document::{document, http, route, with};
use crate::programs::{chromium, ended, node_packages, python, ROOT};
use crate::sandbox::{run_folder, shared, unique_path, Cluster, Plan};
use crate::service::{Behaviour, Service};
use crate::tls::Authority;
use crate::wait::eventually;

const WITHIN: Duration = Duration::from_secs(60);
const MAX_MESSAGE_BYTES: usize = 200_000;
const KEY: &str = "a-key-that-is-long-enough";

/// A cluster, and how its clients reach it.
struct Way {
    name: &'static str,
    cluster: &'static Cluster,
    scheme: &'static str,
    /// The authority of its certificates.
    ca: PathBuf,
}

async fn ways() -> [Way; 2] {
    static OVER_TLS: OnceCell<(Cluster, PathBuf)> = OnceCell::const_new();
    let start = || async {
        let authority = Authority::new("of the nodes");
        let server = authority.issues_to_server();
        let file = |name: &str, text: &str| {
            let file = run_folder().join(format!("real-clients-{name}.pem"));
            std::fs::write(&file, text).expect("a file");
            file
        };
        let setting =
            |name: &str, file: PathBuf| (format!("WSGATEWAY__CLIENT__TLS__{name}"), file.display().to_string());
        let environment = vec![
            setting("CERTIFICATE_FILE", file("cert", &server.pem)),
            setting("KEY_FILE", file("key", &server.key_pem)),
        ];
        let cluster = Cluster::start_with(3, Plan { environment, ..Plan::default() }).await;
        (cluster, file("ca", &authority.pem))
    };
    let (over_tls, ca) = OVER_TLS.get_or_init(start).await;
    [
        Way { name: "plain", cluster: shared().await, scheme: "ws", ca: ca.clone() },
        Way { name: "tls", cluster: over_tls, scheme: "wss", ca: ca.clone() },
    ]
}

/// The endpoints that the cases are about.
struct Served {
    echo: String,
    with_key: String,
    with_token: String,
    service: Service,
}

async fn serve(cluster: &Cluster, theme: &str) -> Served {
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

/// What a client is to do, spread over the nodes; `theme` names it to the service.
fn cases(served: &Served, way: &Way, theme: &str, long: &str) -> Value {
    let url = |node: usize, path: &str| format!("{}://{}{path}", way.scheme, way.cluster.nodes[node].client);
    let case = |name: &str, url: String, protocols: &[&str], send: &[&str], receive: usize, close: bool| {
        json!({"name": name, "url": url, "protocols": protocols, "send": send, "receive": receive, "close": close,
            "ca": way.ca})
    };
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
async fn goes_through_all(client: &str, command: impl Fn(PathBuf) -> Command, tells_status: bool) {
    for way in ways().await {
        let theme = format!("{client}-{}", way.name);
        let with_authority = |plan| {
            let mut command = command(plan);
            // Of Node.js and of OpenSSL; the others are told by the case, or ask nobody.
            command.env("NODE_EXTRA_CA_CERTS", &way.ca).env("SSL_CERT_FILE", &way.ca);
            command
        };
        goes_this_way(&way, &theme, with_authority, tells_status).await;
    }
}

async fn goes_this_way(way: &Way, theme: &str, command: impl FnOnce(PathBuf) -> Command, tells_status: bool) {
    let served = serve(way.cluster, theme).await;
    let long = format!("\"{}\"", "x".repeat(100_000));
    let file = run_folder().join(format!("{theme}.json"));
    std::fs::write(&file, cases(&served, way, theme, &long).to_string()).expect("a file");
    let service = &served.service;
    let others = async {
        // Services, meanwhile, on other nodes than the client's.
        let nodes = &way.cluster.nodes;
        // The connect event is heard of before the connection is there.
        let id = id_of(service, &format!("pushed-{theme}")).await;
        let pushed = async || (nodes[2].admin().push(&id, r#"{"pushed":true}"#).await.status == 202).then_some(());
        eventually("a push that is taken", WITHIN, pushed).await;
        let id = id_of(service, &format!("removed-{theme}")).await;
        let target = format!("/api/v1/connections/{id}");
        let removed = async || (nodes[0].admin().delete(&target).await.status == 204).then_some(());
        eventually("a connection that is removed", WITHIN, removed).await;
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
        command.arg(&packages);
        command
    };
    goes_through_all("ws", command, true).await;
}

#[tokio::test]
async fn chromium_of_debian() {
    let packages = node_packages("clients/typescript").await;
    let command = |plan| {
        let mut command = program("node", "chromium_client.mjs", plan);
        command.arg(&packages).arg(chromium());
        command
    };
    goes_through_all("chromium", command, false).await;
}
