//! The AsyncAPI document of an endpoint: the reference parser takes it, and what clients really send and receive is what
//! it says.

use std::process::Command;
use std::time::Duration;

use serde_json::{json, Value};

use crate::document::{custom, document, http, route, with};
use crate::programs::{ended, node_packages, ROOT};
use crate::sandbox::{run_folder, shared, unique_path};
use crate::service::{Behaviour, Service};
use crate::ws::Client;

/// spectral's numbers.
const WARNING: u64 = 1;

/// What the reference parser finds wrong with documents, errors and warnings.
async fn findings(documents: &[Value]) -> Vec<String> {
    let mut parse = Command::new("node");
    parse.arg(format!("{ROOT}/tests/asyncapi/validate.cjs")).arg(node_packages("tests/asyncapi").await);
    let folder = run_folder().join("asyncapi");
    std::fs::create_dir_all(&folder).expect("a folder");
    for (number, document) in documents.iter().enumerate() {
        let file = folder.join(format!("{number}.json"));
        std::fs::write(&file, document.to_string()).expect("a file");
        parse.arg(file);
    }
    let printed = ended(parse, "the AsyncAPI parser", Duration::from_secs(60)).await.stdout;
    let found: Value = serde_json::from_slice(&printed).expect("JSON");
    let found = found.as_object().expect("an object");
    assert_eq!(found.len(), documents.len(), "every document was looked at");
    let severe = |(file, list): (&String, &Value)| {
        let list = list.as_array().expect("a list").iter();
        let of_file: Vec<String> =
            list.filter(|it| it["severity"].as_u64() <= Some(WARNING)).map(|it| format!("{file}: {it}")).collect();
        of_file
    };
    found.iter().flat_map(severe).collect()
}

fn payload<'d>(made: &'d Value, message: &str) -> &'d Value {
    &made["components"]["messages"][message]["payload"]
}

/// The message's schema with what it refers to.
fn validator(made: &Value, message: &str) -> jsonschema::Validator {
    let mut schema = made.clone();
    schema["$ref"] = json!(format!("#/components/messages/{message}/payload"));
    jsonschema::draft7::new(&schema).expect("a schema")
}

#[tokio::test]
async fn what_clients_send_and_receive_is_what_the_document_says() {
    let cluster = shared().await;
    let service = Service::start().await;
    service.behave("/fails", Behaviour::status(500));
    let path = format!("{}/{{country}}/{{*rest}}", unique_path("asyncapi"));
    let echo = [json!({"type": "echo"})];
    let mut buy = route("default", &echo);
    (buy["type"], buy["name"], buy["key"]) = (json!("custom"), json!("Buy it!"), json!("buy"));
    let fails = custom("fails", json!({"exists": {"path": "$.fails"}}), &[http(&service, "/fails")]);
    let routes = [route("connect", &[http(&service, "/connect")]), buy, fails];
    let mut wanted = with(document(&path, &routes), "routeSelector", json!("$.order.action"));
    wanted["name"] = json!("The shop");
    wanted["settings"] = json!({"subprotocols": ["shop.v1"], "maxMessageBytes": 5000});
    wanted["filters"] = json!({"allowedOrigins": ["https://shop.example"]});
    wanted["authentication"] = json!({"mode": "apiKey", "in": "query", "name": "key",
        "keys": [{"id": "ann", "key": "a-key-that-is-long-enough"}]});
    let endpoint = cluster.create(&wanted).await;
    let node = &cluster.nodes[1];
    let target = format!("/api/v1/endpoints/{}/asyncapi", endpoint.id);
    let made = node.admin().get(&target).await.expect(200).json();

    assert_eq!((&made["asyncapi"], &made["info"]["version"]), (&json!("3.0.0"), &json!("1")));
    assert_eq!(made["info"]["title"], "The shop");
    assert!(!made.to_string().contains("long-enough") && !made.to_string().contains("sha256"), "no key is in it");
    let channel = &made["channels"]["endpoint"];
    assert_eq!(channel["address"], path.replace("{*", "{"));
    let hosts: Vec<&str> =
        made["servers"].as_object().expect("servers").values().filter_map(|server| server["host"].as_str()).collect();
    assert!(hosts.contains(&node.client.to_string().as_str()), "{hosts:?}");
    assert!(channel["description"].as_str().is_some_and(|text| text.contains("5000 bytes")), "{channel}");
    assert_eq!(channel["bindings"]["ws"]["query"]["required"], json!(["key"]));

    // A client that reads the document: connects as the binding says, sends what the schema of a message allows.
    let rest = path.replace("{country}", "nl").replace("{*rest}", "a/b");
    let client = Client::try_connect(node, &format!("{rest}?key=a-key-that-is-long-enough&who=x"), &[]).await;
    let mut client = client.expect("accepted");
    let id = service.next("/connect").await.attributes().get("connectionid").to_string();
    let bought = json!({"order": {"action": "buy"}});
    let schema = validator(&made, "custom-Buy-it-");
    assert!(schema.is_valid(&bought) && !schema.is_valid(&json!({"order": {"action": "sell"}})));
    client.send(&bought.to_string()).await;
    assert_eq!(client.json().await, bought);
    let replies = &made["operations"]["send-custom-Buy-it-"]["reply"]["messages"];
    assert_eq!(replies, &json!([{"$ref": "#/channels/endpoint/messages/reply"}]));
    let frames = validator(&made, "error");
    for (event, code) in [("{", "invalid_json"), ("{\"id\": 7}", "no_route"), ("{\"fails\": 1}", "delivery_failed")] {
        client.send(event).await;
        let frame = client.error_frame(code).await;
        assert!(frames.is_valid(&frame), "{frame} is not {}", payload(&made, "error"));
    }
    assert!(!frames.is_valid(&json!({"type": "error"})), "it does say something");
    node.admin().push(&id, "[1]").await.expect(202);
    assert!(validator(&made, "push").is_valid(&client.json().await));

    // Another version has another document; both stay.
    wanted["name"] = json!("Another shop");
    node.admin().put(&format!("/api/v1/endpoints/{}", endpoint.id), &wanted).await.expect(200);
    let second = node.admin().get(&target).await.expect(200).json();
    assert_eq!((&second["info"]["title"], &second["info"]["version"]), (&json!("Another shop"), &json!("2")));
    assert_eq!(node.admin().get(&format!("{target}?version=1")).await.expect(200).json()["info"]["title"], "The shop");
    node.admin().get(&format!("{target}?version=9")).await.expect_problem(404, "version_not_found");
    node.admin().get(&format!("{target}?versoin=1")).await.expect_problem(400, "invalid_query");
    node.admin().get("/api/v1/endpoints/ep-none/asyncapi").await.expect_problem(404, "endpoint_not_found");

    let sample = std::fs::read_to_string(format!("{ROOT}/config/src/testdata/endpoint-config-sample.json"));
    let mut sample: Value = serde_json::from_str(&sample.expect("the sample")).expect("JSON");
    sample["path"] = json!(unique_path("asyncapi-sample"));
    let sample = cluster.create(&sample).await;
    let bare = cluster.create(&document(&unique_path("asyncapi-bare"), &[])).await;
    let mut documents = vec![made, second];
    for endpoint in [sample, bare] {
        documents
            .push(node.admin().get(&format!("/api/v1/endpoints/{}/asyncapi", endpoint.id)).await.expect(200).json());
    }
    let found = findings(&documents).await;
    assert!(found.is_empty(), "{}", found.join("\n"));
    let mut broken = documents.remove(0);
    broken["operations"]["receive-push"]["channel"]["$ref"] = json!("#/channels/nowhere");
    broken["servers"]["x"] = json!({});
    let found = findings(&[broken]).await;
    assert!(found.len() >= 2, "the parser does look: {found:?}");
    println!("4 documents, no finding of the reference parser");
}
