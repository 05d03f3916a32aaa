//! A new version of the document and the connections that are open: who is no longer in it is closed with 4401, who still
//! is stays, on every node.

use std::time::Duration;

use serde_json::{json, Value};

use crate::document::{document, with};
use crate::http::Admin;
use crate::sandbox::{shared, unique_path, Endpoint};
use crate::ws::{own_address, Client};

const KEY: &str = "a-key-of-sufficient-length-";

fn keys(names: &[&str]) -> Value {
    let keys: Vec<Value> = names.iter().map(|name| json!({"id": name, "key": format!("{KEY}{name}")})).collect();
    json!({"mode": "apiKey", "keys": keys})
}

fn users(names: &[(&str, &str)]) -> Value {
    let users: Vec<Value> =
        names.iter().map(|(name, password)| json!({"username": name, "password": password})).collect();
    json!({"mode": "basic", "users": users})
}

fn versioned(endpoint: &Endpoint, authentication: &Value) -> Value {
    with(document(&endpoint.path, &[]), "authentication", authentication.clone())
}

async fn put(admin: &Admin, endpoint: &Endpoint, authentication: &Value) {
    let uri = format!("/api/v1/endpoints/{}", endpoint.id);
    admin.put(&uri, &versioned(endpoint, authentication)).await.expect(200);
    // Whoever connects next does so on whichever node.
    let rollout = admin.get(&format!("{uri}/rollout?wait=all")).await.expect(200).json();
    assert_eq!(rollout["complete"], true, "{rollout}");
}

async fn create(authentication: &Value) -> Endpoint {
    let document = with(document(&unique_path("change"), &[]), "authentication", authentication.clone());
    shared().await.create(&document).await
}

async fn connect(node: usize, endpoint: &Endpoint, header: (&str, &str)) -> Client {
    let node = &shared().await.nodes[node];
    Client::try_connect_from(&own_address(), node, &endpoint.path, &[header]).await.expect("accepted")
}

const QUIET: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_key_that_is_taken_out_closes_its_connections_on_every_node_and_no_other() {
    let endpoint = create(&keys(&["one", "two"])).await;
    let mut gone = Vec::new();
    let mut staying = Vec::new();
    for node in 0..3 {
        gone.push(connect(node, &endpoint, ("x-api-key", &format!("{KEY}one"))).await);
        staying.push(connect(node, &endpoint, ("x-api-key", &format!("{KEY}two"))).await);
    }
    let admin = shared().await.nodes[1].admin();
    // The same rule, sent again, changes nothing.
    put(&admin, &endpoint, &keys(&["one", "two"])).await;
    gone[0].hears_nothing_for(QUIET).await;
    put(&admin, &endpoint, &keys(&["two", "three"])).await;
    for client in &mut gone {
        assert_eq!(client.closed().await, 4401);
    }
    // The id stays, the key is another one.
    let mut renewed = keys(&["two"]);
    renewed["keys"][0]["key"] = json!(format!("{KEY}renewed"));
    staying[0].hears_nothing_for(QUIET).await;
    put(&admin, &endpoint, &renewed).await;
    for client in &mut staying {
        assert_eq!(client.closed().await, 4401);
    }
}

#[tokio::test]
async fn a_user_who_is_taken_out_or_has_a_new_password_is_closed() {
    let endpoint =
        create(&users(&[("ann", "first-password"), ("bob", "second-password"), ("eve", "third-password")])).await;
    let login = |credentials: &str| {
        use base64::Engine;
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(credentials))
    };
    let mut ann = connect(0, &endpoint, ("authorization", &login("ann:first-password"))).await;
    let mut bob = connect(1, &endpoint, ("authorization", &login("bob:second-password"))).await;
    let mut eve = connect(2, &endpoint, ("authorization", &login("eve:third-password"))).await;
    let admin = shared().await.nodes[0].admin();
    put(&admin, &endpoint, &users(&[("ann", "first-password"), ("bob", "changed-password")])).await;
    assert_eq!(eve.closed().await, 4401, "taken out");
    assert_eq!(bob.closed().await, 4401, "another password");
    ann.hears_nothing_for(QUIET).await;
}

#[tokio::test]
async fn connections_are_held_to_the_mode_of_the_document() {
    let none = json!({"mode": "none"});
    let endpoint = create(&none).await;
    let mut anonymous = connect(0, &endpoint, ("x-none", "1")).await;
    let admin = shared().await.nodes[0].admin();
    put(&admin, &endpoint, &keys(&["one"])).await;
    assert_eq!(anonymous.closed().await, 4401, "it has shown nothing");
    let mut keyed = connect(1, &endpoint, ("x-api-key", &format!("{KEY}one"))).await;
    put(&admin, &endpoint, &none).await;
    keyed.hears_nothing_for(QUIET).await;
    put(&admin, &endpoint, &users(&[("one", "first-password")])).await;
    assert_eq!(keyed.closed().await, 4401, "a key is no password");
}
