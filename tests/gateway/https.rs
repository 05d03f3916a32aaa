//! Services and authentication servers behind https: delivered to who can prove who he is, and a failure that says what
//! is wrong with everybody else.

use serde_json::{json, Value};

use crate::document::{document, http, route, with};
use crate::sandbox::{shared, unique_path, Endpoint};
use crate::service::{Behaviour, Service};
use crate::tls::{trusted, unknown};
use crate::wait::eventually;
use crate::ws::{own_address, Client, Refused};

async fn forwards_to(theme: &str, url: &str, error_service: &Service) -> Endpoint {
    let backend = json!({"type": "http", "destination": url, "timeoutInMillis": 10_000,
        "connectTimeoutInMillis": 5_000, "reply": true});
    let routes = [route("default", &[backend]), route("error", &[http(error_service, "/error")])];
    shared().await.create(&document(&unique_path(theme), &routes)).await
}

#[tokio::test]
async fn events_are_delivered_over_https_on_a_kept_connection() {
    let service = Service::start_tls(trusted().serves(&["localhost", "127.0.0.1"])).await;
    for base in [service.url("/events"), service.url("/events").replace("127.0.0.1", "localhost")] {
        assert!(base.starts_with("https://"), "{base}");
        let endpoint = forwards_to("https", &base, &service).await;
        service.behave("/events", Behaviour::status(200).body("{\"took\": 1.0}"));
        let mut client = Client::connect(&shared().await.nodes[0], &endpoint.path).await;
        let accepted = service.accepted();
        for n in 0..10 {
            let event = format!("{{ \"n\":{n}.0 }}");
            client.send(&event).await;
            let request = service.next("/events").await;
            assert_eq!((request.text(), request.method.as_str()), (event.as_str(), "POST"));
            request.attributes().get("id");
            assert_eq!(client.text().await, "{\"took\": 1.0}");
        }
        assert_eq!(service.accepted() - accepted, 1, "ten events, one handshake");
    }
}

#[tokio::test]
async fn nothing_is_delivered_to_who_cannot_prove_who_he_is() {
    let plain = Service::start().await;
    let strangers = [
        (Service::start_tls(unknown().serves(&["127.0.0.1"])).await, "UnknownIssuer"),
        (Service::start_tls(trusted().serves(&["other.example"])).await, "not valid for name"),
        (Service::start_tls(trusted().serves_until(&["127.0.0.1"], 2020)).await, "expired"),
    ];
    let speaks_no_tls = plain.url("/events").replace("http://", "https://");
    let strange = strangers.iter().map(|(service, why)| (service.url("/events"), *why, "tls_failed"));
    // That a handshake breaks off may pass, so it counts as what may.
    for (url, why, outcome) in strange.chain([(speaks_no_tls, "tls handshake eof", "unreachable")]) {
        let endpoint = forwards_to("untrusted", &url, &plain).await;
        let node = &shared().await.nodes[1];
        let mut client = Client::connect(node, &endpoint.path).await;
        client.send("{\"secret\":1}").await;
        let frame: Value = serde_json::from_str(&client.text().await).expect("an error frame");
        assert_eq!(frame["error"]["code"], "delivery_failed", "{frame}");
        let told = plain.next("/error").await.json();
        let message = told["message"].as_str().expect("a message");
        assert!(message.to_lowercase().contains("tls") && message.contains(why), "{url}: {message}");
        assert_eq!(told["reason"], outcome, "{told}");
        let metrics = node.admin().get("/metrics").await.expect(200).text();
        let counted = format!("backend=\"default/default/0\",outcome=\"{outcome}\"");
        let of = metrics.lines().find(|line| line.contains(&endpoint.path) && line.contains(&counted));
        assert!(of.is_some(), "{url} is not counted as {outcome}");
    }
    for (service, why) in &strangers {
        assert!(service.received("/events").is_empty(), "{why} got an event");
    }
}

async fn connect(endpoint: &Endpoint, token: &str) -> Result<Client, Refused> {
    let header = [("authorization", format!("Bearer {token}"))];
    let headers: Vec<_> = header.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Client::try_connect_from(&own_address(), &shared().await.nodes[0], &endpoint.path, &headers).await
}

#[tokio::test]
async fn authentication_servers_are_trusted_by_the_same_authorities() {
    let good = Service::start_tls(trusted().serves(&["127.0.0.1"])).await;
    let stranger = Service::start_tls(unknown().serves(&["127.0.0.1"])).await;
    for (service, status) in [(&good, 200), (&stranger, 503)] {
        service.behave("/check", Behaviour::status(200).body("{\"sub\": \"ann\"}"));
        let rule = json!({"mode": "bearer", "authorizationServerUrl": service.url("/check")});
        let path = unique_path("https-bearer");
        let endpoint = shared().await.create(&with(document(&path, &[]), "authentication", rule)).await;
        let answered = connect(&endpoint, "a-token").await.map_or_else(|refused| refused.status, |_| 200);
        assert_eq!(answered, status);
    }
    assert!(stranger.received("/check").is_empty());
    assert_eq!(good.received("/check").len(), 1);

    // Keys: an unknown one in a token is the token's fault only where the keys could be had.
    for (service, status) in [(&good, 401), (&stranger, 503)] {
        service.behave("/jwks", Behaviour::status(200).body("{\"keys\": []}"));
        let rule = json!({"mode": "jwt", "jwksUrl": service.url("/jwks"), "audience": "a"});
        let path = unique_path("https-jwks");
        let endpoint = shared().await.create(&with(document(&path, &[]), "authentication", rule)).await;
        // {"alg":"ES256","kid":"k"}.{}.
        let token = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsifQ.e30.c2ln";
        let refused = connect(&endpoint, token).await.err().expect("no such key");
        assert_eq!(refused.status, status, "{refused:?}");
    }
    assert!(!good.received("/jwks").is_empty() && stranger.received("/jwks").is_empty());
    eventually("the calls are counted", crate::wait::PATIENCE, async || {
        let metrics = shared().await.nodes[0].admin().get("/metrics").await.expect(200).text();
        let counted = |purpose: &str| {
            let labels = format!("purpose=\"{purpose}\",outcome=\"tls_failed\"");
            metrics.lines().any(|line| line.contains(&labels))
        };
        (counted("bearer") && counted("jwks")).then_some(())
    })
    .await;
}
