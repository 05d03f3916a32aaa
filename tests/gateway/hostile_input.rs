//! Strangers who mean harm with what they say: JSON that is deep, huge or double, headers that would be two, origins that
//! are not ours, guessed tokens and connection ids. Each scenario prints its figure and looks at a metric.

use serde_json::{json, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::document::{all_routes_to, custom, document, route, with};
use crate::handshake::{to, Handshake};
use crate::hostile::metric;
use crate::sandbox::{shared, unique_path, Node};
use crate::service::{Behaviour, Service};
use crate::wait::{eventually, soon, PATIENCE};
use crate::ws::{masked_frame, own_address, Client, RawSocket, TEXT};

/// Every event that is JSON comes back as it was, everything else as an error frame; never anything in between.
#[tokio::test]
async fn json_that_is_meant_to_break_parsers_is_taken_whole_or_refused() {
    let cluster = shared().await;
    let node = &cluster.nodes[1];
    let echo = [json!({"type": "echo"})];
    // So that events are looked into.
    let looked_at = custom("looked-at", json!({"equal": {"path": "$.a.b", "value": 1}}), &echo);
    let endpoint = cluster.create(&document(&unique_path("json"), &[looked_at, route("default", &echo)])).await;
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    let many = |count: usize| (0..count).map(|key| format!("\"k{key}\":{key}")).collect::<Vec<_>>().join(",");
    let good = [
        nested(127),
        objects(127),
        format!("{{{}}}", many(5000)),
        "1e400".into(),
        format!("{}.5", "9".repeat(50_000)),
        "-0".into(),
        "1E-99999999999999".into(),
        r#"{"a":1,"a":2,"a":{"b":1}}"#.into(),
        format!("{{{}}}", "\"a\":1,".repeat(5000) + "\"a\":2"),
        r#""\u0000\u001f\uffff""#.into(),
        format!("\"{}\"", "\\u0041".repeat(20_000)),
        " \n\t {} \r\n ".into(),
        "null".into(),
    ];
    let bad = [
        nested(128),
        objects(128),
        nested(60_000),
        "[".repeat(130_000),
        "{\"a\":".repeat(20_000),
        "\"".into(),
        "\u{feff}{}".into(),
        "\"\u{0}\"".into(),
        "01".into(),
        "+1".into(),
        "1.".into(),
        "NaN".into(),
        "{'a':1}".into(),
        "[1,]".into(),
        "{} {}".into(),
        "".into(),
        r#""\ud8""#.into(),
    ];
    let before = metric(node, "events_in_total", &[&endpoint.path, "invalid_json"]).await;
    let mut client = Client::connect(node, &endpoint.path).await;
    for event in &good {
        client.send(event).await;
        let said = client.text().await;
        assert!(said == *event, "{:.80} came back as {said:.200}", event);
    }
    for event in &bad {
        client.send(event).await;
        client.error_frame("invalid_json").await;
    }
    // Half a surrogate pair is JSON by its grammar and no text: one or the other, and the connection lives.
    client.send(r#"["\ud800"]"#).await;
    let said = client.text().await;
    assert!(said == r#"["\ud800"]"# || said.contains("invalid_json"), "{said}");
    client.send("1").await;
    assert_eq!(client.text().await, "1");
    let refused = metric(node, "events_in_total", &[&endpoint.path, "invalid_json"]).await - before;
    assert!(refused >= bad.len() as u64, "{refused}");
    assert!(node.exited().is_none() && !node.log().contains("panicked"), "{}", node.log_tail());
    println!(
        "{} events came back byte for byte, {} were refused with invalid_json, on one connection",
        good.len(),
        bad.len()
    );
}

/// Percent-encodes everything.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn nothing_that_a_client_says_becomes_a_header() {
    let cluster = shared().await;
    let node = &cluster.nodes[0];
    let service = Service::start().await;
    let path = unique_path("headers");
    let wanted = with(
        document(&format!("{path}/{{room}}"), &all_routes_to(&service)),
        "settings",
        json!({"subprotocols": ["chat"]}),
    );
    let check = json!({"mode": "bearer", "authorizationServerUrl": service.url("/check"), "tokenQuery": "token"});
    cluster.create(&with(wanted, "authentication", check)).await;
    let corpus = [
        "\r\nX-Evil: 1",
        "\nX-Evil: 1",
        "\r X-Evil: 1",
        "a\r\n\r\nPOST /evil HTTP/1.1\r\nHost: x\r\n\r\n",
        "\u{0}X-Evil: 1",
        "嘊嘍X-Evil: 1",
        "\u{2028}X-Evil: 1",
        "\u{85}X-Evil: 1",
        "%0d%0aX-Evil: 1",
        "\\r\\nX-Evil: 1",
        "\tX-Evil: 1",
        "\"; X-Evil=1",
        "ce-id: 1",
    ];
    let mut names: Option<Vec<String>> = None;
    for (number, evil) in std::iter::once(&"harmless").chain(&corpus).enumerate() {
        // In the path, the query, the identity that a service gives, and events.
        service.behave("/check", Behaviour::status(200).body(&json!({"sub": evil}).to_string()));
        let target = format!("{path}/{}?who={}&token=t{number}", encoded(evil), encoded(evil));
        let offered = [("sec-websocket-protocol", "chat")];
        let client = Client::try_connect_from(&own_address(), node, &target, &offered).await;
        let mut client = client.unwrap_or_else(|refused| panic!("{evil:?}: {refused:?}"));
        assert!(client.handshake.iter().all(|(name, _)| name != "x-evil"), "{:?}", client.handshake);
        client.send(&json!({"id": evil, "text": evil}).to_string()).await;
        let event = service.next("/default").await;
        assert_eq!(event.json()["text"], *evil);
        let description = service.next("/connect").await;
        assert_eq!(description.json()["params"]["room"], *evil);
        client.leave().await;
        for request in [event, description, service.next("/disconnect").await] {
            let mut found: Vec<String> = request.headers.iter().map(|(name, _)| name.clone()).collect();
            found.sort();
            assert_eq!(names.get_or_insert_with(|| found.clone()), &found, "{evil:?}");
            assert!(
                request.headers.iter().all(|(_, value)| value.bytes().all(|byte| (32..127).contains(&byte))),
                "{request:?}"
            );
        }
    }
    assert!(service.received("/evil").is_empty() && service.received("/error").is_empty());
    println!("header injection: 0 of {} pass, in path, query, identity and event", corpus.len());
}

/// Sends these bytes as the beginning of a connection; answers the status, or 0 for none.
async fn answered(node: &Node, bytes: &[u8]) -> u16 {
    let mut socket = soon("a TCP connection", TcpStream::connect(node.client)).await.expect("the client port is open");
    socket.write_all(bytes).await.expect("the socket takes them");
    let mut head = [0; 12];
    match soon("an answer", socket.read_exact(&mut head)).await {
        Ok(_) => std::str::from_utf8(&head[9..]).ok().and_then(|status| status.parse().ok()).unwrap_or(0),
        Err(_) => 0,
    }
}

#[tokio::test]
async fn handshakes_that_could_be_read_in_two_ways_are_refused() {
    let cluster = shared().await;
    let node = &cluster.nodes[0];
    let endpoint = cluster.create(&document(&unique_path("two-ways"), &[])).await;
    let handshake = |first: &str, more: &str| {
        format!(
            "{first}\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n",
            node.client
        )
    };
    let get = format!("GET {} HTTP/1.1", endpoint.path);
    assert_eq!(answered(node, handshake(&get, "").as_bytes()).await, 101, "the corpus is about the rest");
    let before = metric(node, "handshakes_refused_total", &[]).await;
    let corpus = [
        (get.as_str(), "Bad Name: 1\r\n"),
        (get.as_str(), "X-Folded: 1\r\n X-Evil: 1\r\n"),
        (get.as_str(), "X-Space : 1\r\n"),
        (get.as_str(), "X-Nul: a\u{0}b\r\n"),
        (get.as_str(), "X-Bare: a\rX-Evil: 1\r\n"),
        (get.as_str(), ": no name\r\n"),
        (get.as_str(), "Content-Length: 5\r\nContent-Length: 6\r\n"),
        (get.as_str(), "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        (get.as_str(), "Content-Length: -1\r\n"),
        ("GET\thttp://x/ HTTP/1.1", ""),
        ("GET / HTTP/9.9", ""),
        ("PRI * HTTP/2.0", ""),
        ("\u{16}\u{3}\u{1} HTTP/1.1", ""),
    ];
    for (first, more) in &corpus {
        let status = answered(node, handshake(first, more).as_bytes()).await;
        assert!((400..500).contains(&status), "{first:?} {more:?} was answered {status}");
    }
    let refused = metric(node, "handshakes_refused_total", &[]).await - before;
    assert!(refused >= corpus.len() as u64, "{refused}");
    println!("handshakes that could be read in two ways: 0 of {} pass", corpus.len());
}

#[tokio::test]
async fn foreign_origins_are_refused_without_exception() {
    let cluster = shared().await;
    let node = &cluster.nodes[2];
    let filters = json!({"allowedOrigins": ["https://good.example", "https://a.shop.example"]});
    let endpoint = cluster.create(&with(document(&unique_path("foreign"), &[]), "filters", filters)).await;
    let foreign = [
        "null",
        "https://evil.example",
        "http://good.example",
        "https://good.example:444",
        "https://good.example.evil.example",
        "https://evil-good.example",
        "https://good.example@evil.example",
        "https://good.example/",
        "https://good.examplе",
        "https://xn--good-example",
        "https://shop.example",
        "https://evilshop.example",
        "https://a.shop.example.evil.example",
        "https://evil.example/a.shop.example",
        "https://evil.example#.shop.example",
        "wss://good.example",
        "file://",
        "*",
        " ",
        "https://good.example, https://evil.example",
        "https://good.example https://evil.example",
    ];
    let before = metric(node, "handshakes_refused_total", &["filtered"]).await;
    let attempt = async |origin: &str| {
        Handshake { headers: &[("Origin", origin)], ..to(node) }.at(&endpoint.path).await.answer.status
    };
    for origin in foreign {
        assert_eq!(attempt(origin).await, 403, "{origin}");
    }
    for origin in ["https://good.example", "https://a.shop.example"] {
        assert_eq!(attempt(origin).await, 101, "{origin}");
    }
    let refused = metric(node, "handshakes_refused_total", &["filtered"]).await - before;
    assert!(refused >= foreign.len() as u64, "{refused}");
    println!("foreign Origins: {0} of {0} answered 403", foreign.len());
}

#[tokio::test]
async fn guessed_tokens_are_a_few_a_minute_and_others_do_not_notice() {
    const GUESSES: usize = 60;
    let cluster = shared().await;
    let node = &cluster.nodes[1];
    let keys = json!({"mode": "apiKey", "keys": [{"id": "ann", "key": "a-key-that-is-long-enough"}]});
    let endpoint = cluster.create(&with(document(&unique_path("guesses"), &[]), "authentication", keys)).await;
    let (guesser, guest) = (own_address(), own_address());
    let before = metric(node, "authentications_total", &["apiKey", "too_many"]).await;
    let mut looked_at = 0;
    for guess in 0..GUESSES {
        let key = format!("a-key-that-is-long-{guess:05}");
        let (status, _) =
            Handshake { from: &guesser, headers: &[("X-Api-Key", &key)], ..to(node) }.outcome(&endpoint.path).await;
        assert!(matches!(status, 401 | 429), "guess {guess}: {status}");
        looked_at += usize::from(status == 401);
        let right = [("X-Api-Key", "a-key-that-is-long-enough")];
        let (status, _) = Handshake { from: &guest, headers: &right, ..to(node) }.outcome(&endpoint.path).await;
        assert_eq!(status, 101, "a valid login beside guess {guess}");
    }
    assert_eq!(looked_at, 10, "a minute and address");
    let refused = metric(node, "authentications_total", &["apiKey", "too_many"]).await - before;
    assert!(refused >= (GUESSES - 10) as u64, "{refused}");
    println!(
        "{GUESSES} guesses: {looked_at} looked at, {refused} answered 429; {GUESSES} of {GUESSES} valid logins served"
    );
}

#[tokio::test]
async fn guessed_connection_ids_find_nobody() {
    let cluster = shared().await;
    let node = &cluster.nodes[0];
    let service = Service::start().await;
    let endpoint = cluster.create(&document(&unique_path("ids"), &all_routes_to(&service))).await;
    let (mut client, visit) = Client::connect_known(&cluster.nodes[1], &endpoint.path, &service).await;
    let before = [metric(node, "pushes_total", &["gone"]).await, metric(node, "pushes_total", &["invalid"]).await];
    // Every id that differs from a live one in one character, and some that are none.
    let mut guesses: Vec<String> = Vec::new();
    for at in 0..visit.id.len() {
        let mut guess = visit.id.clone().into_bytes();
        guess[at] = if guess[at] == b'A' { b'B' } else { b'A' };
        guesses.push(String::from_utf8(guess).expect("ASCII"));
    }
    for _ in 0..100 {
        let random = (0..visit.id.len()).map(|_| {
            *b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
                .get(rand::random_range(0..64))
                .expect("64") as char
        });
        guesses.push(random.collect());
    }
    guesses.extend(["x", "..", "%00", "%2e%2e", "*", "0"].map(str::to_owned));
    let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
    for guess in guesses.iter().filter(|guess| **guess != visit.id) {
        let status = node.admin().push(guess, "\"stolen\"").await.status;
        assert!(matches!(status, 400 | 404 | 410), "{guess} was answered {status}");
        *statuses.entry(status).or_default() += 1;
    }
    let after = [metric(node, "pushes_total", &["gone"]).await, metric(node, "pushes_total", &["invalid"]).await];
    let counted: u64 = after.iter().sum::<u64>() - before.iter().sum::<u64>();
    assert!(
        counted >= statuses.iter().filter(|(status, _)| **status != 404).map(|(_, count)| *count as u64).sum(),
        "{counted}"
    );
    node.admin().push(&visit.id, "\"meant\"").await.expect(202);
    assert_eq!(client.json().await, Value::from("meant"), "and nothing before it");
    println!("{} guessed connection ids: {statuses:?}, {counted} counted, none found anybody", guesses.len());
}

/// One read brings more messages than the actor decodes in one go, and then something that is not allowed.
#[tokio::test]
async fn what_came_before_a_violation_is_served_and_then_the_connection_ends() {
    let service = Service::start().await;
    let wanted = document(&unique_path("before"), &all_routes_to(&service));
    let endpoint = shared().await.create(&wanted).await;
    for (theme, violation, code) in [
        ("too big", masked_frame(TEXT, true, b"", Some(1 << 30)), 1009),
        ("a long ping", masked_frame(9, true, &[b'x'; 126], None), 1002),
    ] {
        let before = service.received("/default").len();
        let mut socket = RawSocket::connect(&shared().await.nodes[0], &endpoint.path, None).await;
        let mut bytes = Vec::new();
        for n in 0..60 {
            bytes.extend(masked_frame(TEXT, true, format!("{{\"n\":{n}}}").as_bytes(), None));
        }
        bytes.extend(violation);
        socket.send_bytes(&bytes).await;
        assert_eq!(socket.closed(PATIENCE).await, code, "{theme}");
        let all = async || (service.received("/default").len() == before + 60).then_some(());
        eventually(&format!("60 events before {theme}"), PATIENCE, all).await;
        let served = service.received("/default");
        assert_eq!(served[before + 59].text(), "{\"n\":59}", "{theme}");
    }
}
