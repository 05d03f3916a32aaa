//! A client that does not read for a while, on an endpoint where newer messages take the place of older ones.

use std::collections::BTreeMap;

use serde_json::{json, Value};

use crate::document::{all_routes_to, document, with};
use crate::sandbox::{shared, unique_path};
use crate::service::Service;
use crate::ws::{RawSocket, TEXT};

#[tokio::test]
async fn of_each_key_a_client_that_did_not_read_gets_the_newest_in_order() {
    const FILLERS: u64 = 100;
    const ROUNDS: u64 = 30;
    const SYMBOLS: [&str; 4] = ["A", "B", "C", "D"];
    let cluster = shared().await;
    let service = Service::start().await;
    let outbox = json!({"maxBytes": 262_144, "maxMessages": 16, "whenFull": "coalesce", "coalesceBy": "$.of.symbol"});
    let wanted = document(&unique_path("coalesce"), &all_routes_to(&service));
    let endpoint = cluster.create(&with(wanted, "settings", json!({ "outbox": outbox }))).await;
    let mut slow = RawSocket::connect(&cluster.nodes[0], &endpoint.path, Some(4_096)).await;
    let id = service.next("/connect").await.attributes().get("connectionid").to_string();

    let mut number = 0;
    let mut push = async |symbol: Option<&str>, filler: usize| {
        number += 1;
        let of = symbol.map_or(json!({}), |symbol| json!({ "symbol": symbol }));
        let message = json!({ "n": number, "of": of, "filler": "x".repeat(filler) }).to_string();
        // An honest answer: every one of them was taken, and is sent unless a newer one takes its place.
        let answer = cluster.nodes[1].admin().push(&id, &message).await;
        assert_eq!(answer.status, 202, "{number}: {}", answer.text());
        number
    };
    // More than the kernel's buffers can hold: from some filler on messages wait.
    for _ in 0..FILLERS {
        push(Some("filler"), 60_000).await;
    }
    let mut last = BTreeMap::new();
    let mut unkeyed = Vec::new();
    for round in 0..ROUNDS {
        for symbol in SYMBOLS {
            last.insert(symbol, push(Some(symbol), 10).await);
        }
        if round % 10 == 5 {
            unkeyed.push(push(None, 10).await);
        }
    }
    let end = push(None, 10).await;
    unkeyed.push(end);

    let mut got: Vec<Value> = Vec::new();
    while got.last().is_none_or(|message| message["n"] != end) {
        let (opcode, payload) = slow.read_frame().await;
        if opcode == TEXT {
            let message: Value = serde_json::from_slice(&payload).expect("whole JSON");
            assert!(
                got.last().is_none_or(|last| last["n"].as_u64() < message["n"].as_u64()),
                "{message} is out of order"
            );
            got.push(message);
        }
    }
    let numbers = |wanted: Option<&str>| -> Vec<u64> {
        let of = |message: &&Value| message["of"]["symbol"].as_str() == wanted;
        got.iter().filter(of).map(|message| message["n"].as_u64().unwrap()).collect()
    };
    for symbol in SYMBOLS {
        assert_eq!(numbers(Some(symbol)), [last[symbol]], "of {symbol} the newest, and no other");
    }
    assert_eq!(numbers(None), unkeyed, "messages without the key are all there");
    let fillers = numbers(Some("filler"));
    assert!(fillers.len() > 1 && fillers.last() == Some(&FILLERS), "{fillers:?}");
    let coalesced = format!("wsgateway_outbox_dropped_total{{endpoint=\"{}\",reason=\"coalesced\"}} ", endpoint.path);
    let metrics = cluster.nodes[0].admin().get("/metrics").await.expect(200).text();
    let counted =
        metrics.lines().find_map(|line| line.strip_prefix(&coalesced)).expect("counted").parse::<u64>().unwrap();
    assert_eq!(got.len() as u64 + counted, end, "what did not arrive was counted");
    assert!(service.received("/disconnect").is_empty());
    println!("{} of {end} messages reached a client that did not read, {counted} gave way to newer ones", got.len());
}

#[tokio::test]
async fn what_coalescing_cannot_keep_closes_the_connection() {
    let cluster = shared().await;
    let service = Service::start().await;
    let outbox = json!({"maxBytes": 262_144, "maxMessages": 4, "whenFull": "coalesce", "coalesceBy": "$.symbol"});
    let wanted = document(&unique_path("coalesce-close"), &all_routes_to(&service));
    let endpoint = cluster.create(&with(wanted, "settings", json!({ "outbox": outbox }))).await;
    let _slow = RawSocket::connect(&cluster.nodes[2], &endpoint.path, Some(4_096)).await;
    let id = service.next("/connect").await.attributes().get("connectionid").to_string();
    let unkeyed = format!("\"{}\"", "x".repeat(60_000));
    let mut pushes = 0;
    let answer = loop {
        pushes += 1;
        assert!(pushes < 400, "the outbox never filled up");
        let answer = cluster.nodes[0].admin().push(&id, &unkeyed).await;
        if answer.status != 202 {
            break answer;
        }
    };
    answer.expect_problem(410, "connection_gone");
    assert_eq!(service.next("/disconnect").await.json()["code"], 1013);
}
