//! Signed tokens where a real provider behaves too well: an issuer played by the test, whose keys are late, too many,
//! someone else's or gone, and tokens that nobody in their right mind would sign.

use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair, ECDSA_P256_SHA256_FIXED_SIGNING};
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use serde_json::{json, Value};

use crate::document::{all_routes_to, document, with};
use crate::sandbox::{shared, unique_path, Endpoint};
use crate::service::{Behaviour, Service};
use crate::ws::{own_address, Client, Refused};

/// An issuer with one key; its keys are at `/jwks` of the service.
struct Issuer {
    pair: EcdsaKeyPair,
    service: Service,
}

impl Issuer {
    async fn start() -> Issuer {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let issuer = Issuer { pair, service: Service::start().await };
        issuer.publish(&[issuer.jwk("k1")]);
        issuer
    }

    fn jwk(&self, id: &str) -> Value {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": id,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
    }

    fn publish(&self, keys: &[Value]) {
        self.service.behave("/jwks", Behaviour::status(200).body(&json!({"keys": keys}).to_string()));
    }

    fn fetches(&self) -> usize {
        self.service.received("/jwks").len()
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).expect("a signature");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn token(&self, key_id: &str) -> String {
        self.sign(&json!({"alg": "ES256", "kid": key_id}), &claims())
    }

    fn rule(&self) -> Value {
        json!({"mode": "jwt", "issuer": "https://issuer.example", "audience": "gateway", "tokenQuery": "t",
            "jwksUrl": self.service.url("/jwks")})
    }

    async fn endpoint(&self, theme: &str) -> Endpoint {
        self.endpoint_with(theme, self.rule()).await
    }

    async fn endpoint_with(&self, theme: &str, rule: Value) -> Endpoint {
        let document = with(document(&unique_path(theme), &all_routes_to(&self.service)), "authentication", rule);
        shared().await.create(&with(document, "settings", json!({"subprotocols": ["chat"]}))).await
    }
}

fn message(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

fn claims() -> Value {
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    json!({"iss": "https://issuer.example", "aud": ["gateway"], "sub": "ann", "exp": now + 600, "tier": 3})
}

async fn connect_with(target: &str, header: (&str, &str)) -> Result<Client, Refused> {
    Client::try_connect_from(&own_address(), &shared().await.nodes[0], target, &[header]).await
}

async fn connect(endpoint: &Endpoint, token: &str) -> Result<Client, Refused> {
    connect_with(&endpoint.path, ("authorization", &format!("Bearer {token}"))).await
}

#[tokio::test]
async fn a_signed_token_is_found_in_each_place_and_tells_who_it_is() {
    let issuer = Issuer::start().await;
    let endpoint = issuer.endpoint("jwt").await;
    let token = issuer.token("k1");
    let by_query = format!("{}?t={token}", endpoint.path);
    for (target, header) in [
        (&endpoint.path, ("authorization", format!("Bearer {token}"))),
        (&by_query, ("x-none", "1".to_owned())),
        (&endpoint.path, ("sec-websocket-protocol", format!("chat, bearer.{token}"))),
    ] {
        connect_with(target, (header.0, &header.1)).await.expect("a good token");
        let call = issuer.service.next("/connect").await;
        assert_eq!(call.attributes().get("userid"), "ann");
        assert_eq!(call.json()["claims"]["tier"], 3);
        assert!(!call.text().contains(&token), "{}", call.text());
    }
    assert!(!shared().await.nodes[0].log().contains(&token));
}

/// The next frame's type, or the message of an error frame.
async fn answer(client: &mut Client, message: Value) -> String {
    client.send(&message.to_string()).await;
    let frame = client.json().await;
    assert_eq!(frame["clientEventId"], message["id"], "{frame}");
    let text = if frame["type"] == "error" { &frame["error"]["message"] } else { &frame["type"] };
    text.as_str().unwrap_or_else(|| panic!("{frame}")).to_owned()
}

#[tokio::test]
async fn a_new_token_takes_the_place_of_the_one_before_and_a_bad_one_does_not() {
    let (issuer, stranger) = (Issuer::start().await, Issuer::start().await);
    let mut rule = issuer.rule();
    rule["refresh"] = json!(true);
    rule["leewayInSeconds"] = json!(0);
    let endpoint = issuer.endpoint_with("refresh", rule).await;
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let token = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        issuer.sign(&json!({"alg": "ES256", "kid": "k1"}), &claims)
    };
    let ends = |after: u64| token("exp", json!(now + after));
    let mut client = connect(&endpoint, &ends(5)).await.expect("a good token");
    issuer.service.next("/connect").await;
    for (refused, why) in [
        (token("sub", json!("bob")), "another user"),
        (ends(0), "expired"),
        (token("aud", json!("other")), "audience"),
        (stranger.token("k1"), "signature"),
        ("gibberish".to_owned(), "not a signed JWT"),
        (String::new(), "required"),
    ] {
        let told = answer(&mut client, json!({"type": "refresh", "token": refused, "id": why})).await;
        assert!(told.contains(why), "{why}: {told}");
    }
    let good = ends(600);
    assert_eq!(answer(&mut client, json!({"id": 7, "token": good, "type": "refresh"})).await, "refreshed");
    tokio::time::sleep(Duration::from_secs(6)).await;
    client.send(r#"{"type":"refreshing","still":"here"}"#).await;
    let event = issuer.service.next("/default").await;
    assert_eq!(event.json()["still"], "here", "the token of the handshake has ended, the connection has not");
    assert_eq!(event.attributes().get("userid"), "ann");

    // One that ends sooner than the one before ends the connection sooner.
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    let soon = token("exp", json!(now + 2));
    assert_eq!(answer(&mut client, json!({"type": "refresh", "token": soon, "id": 8})).await, "refreshed");
    assert_eq!(client.closed().await, 4401);
    assert!(issuer.service.received("/error").is_empty() && issuer.service.received("/default").len() == 1);
    let said = issuer.service.next("/disconnect").await.text().to_owned() + &shared().await.nodes[0].log();
    assert!(!said.contains(&good) && !said.contains(&soon));
    // Where it is not allowed it is an event like any other.
    let plain = issuer.endpoint("no-refresh").await;
    let mut client = connect(&plain, &issuer.token("k1")).await.expect("a good token");
    client.send(r#"{"type":"refresh","token":"t"}"#).await;
    assert_eq!(issuer.service.next("/default").await.json()["type"], "refresh");
}

#[tokio::test]
async fn a_resumed_connection_is_checked_by_the_token_it_came_back_with() {
    let issuer = Issuer::start().await;
    let mut rule = issuer.rule();
    rule["leewayInSeconds"] = json!(0);
    rule["recheckInSeconds"] = json!(1);
    let wanted = with(document(&unique_path("resume-jwt"), &all_routes_to(&issuer.service)), "authentication", rule);
    let endpoint = shared().await.create(&with(wanted, "resume", json!({"windowInSeconds": 30}))).await;
    let ends = |after: u64| {
        let mut claims = claims();
        claims["exp"] = json!(std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs() + after);
        issuer.sign(&json!({"alg": "ES256", "kid": "k1"}), &claims)
    };
    let mut client = connect(&endpoint, &ends(4)).await.expect("a good token");
    let session = client.json().await;
    drop(client);
    let token = session["resumeToken"].as_str().expect("a token");
    let target = format!("{}?resume={token}&received=0", endpoint.path);
    let later = format!("Bearer {}", ends(600));
    let mut client = connect_with(&target, ("authorization", &later)).await.expect("a good token");
    let session = client.json().await;
    assert_eq!(session["resumed"], true);
    // Several checks after the end of the first token.
    tokio::time::sleep(Duration::from_secs(6)).await;
    client.send(r#"{"still":"here"}"#).await;
    assert_eq!(issuer.service.next("/default").await.json()["still"], "here");
    assert!(issuer.service.received("/disconnect").is_empty());

    // And it ends with the token that it came back with.
    let token = session["resumeToken"].as_str().expect("a token");
    let target = format!("{}?resume={token}&received=0", endpoint.path);
    let soon = format!("Bearer {}", ends(3));
    let mut again = connect_with(&target, ("authorization", &soon)).await.expect("a good token");
    assert_eq!(again.json().await["resumed"], true);
    assert_eq!(client.closed().await, 4409, "another socket has its place");
    assert_eq!(again.closed().await, 4401);
}

#[tokio::test]
async fn nobody_gets_in_without_the_issuers_key() {
    let (issuer, stranger) = (Issuer::start().await, Issuer::start().await);
    let endpoint = issuer.endpoint("corpus").await;
    let header = json!({"alg": "ES256", "kid": "k1"});
    let good = issuer.token("k1");
    connect(&endpoint, &good).await.expect("the good one");
    let unsigned = |algorithm: &str| format!("{}.", message(&json!({"alg": algorithm, "kid": "k1"}), &claims()));
    let with_secret = |secret: &[u8]| {
        let message = message(&json!({"alg": "HS256", "kid": "k1"}), &claims());
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let mut expired = claims();
    expired["exp"] = json!(1_000_000_000);
    let other = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        issuer.sign(&header, &claims)
    };
    let embedded =
        json!({"alg": "ES256", "kid": "k1", "jwk": stranger.jwk("k1"), "jku": stranger.service.url("/jwks")});
    let altered = format!("{}.{}", message(&header, &json!({"sub": "root"})), good.rsplit_once('.').expect("parts").1);
    for (about, token) in [
        ("none", unsigned("none")),
        ("None", unsigned("None")),
        ("an empty signature", unsigned("ES256")),
        ("the public key as a secret", with_secret(issuer.pair.public_key().as_ref())),
        ("its JWK as a secret", with_secret(issuer.jwk("k1").to_string().as_bytes())),
        ("an empty secret", with_secret(b"")),
        ("another key of this id", stranger.sign(&header, &claims())),
        ("a key in the header", stranger.sign(&embedded, &claims())),
        ("altered claims", altered),
        ("expired", issuer.sign(&header, &expired)),
        ("no end", other("exp", Value::Null)),
        ("not yet", other("nbf", json!(4_000_000_000_u64))),
        ("another issuer", other("iss", json!("https://issuer.example.evil"))),
        ("another audience", other("aud", json!("gateway.evil"))),
        ("critical", issuer.sign(&json!({"alg": "ES256", "kid": "k1", "crit": ["x"], "x": 1}), &claims())),
        ("no token", "gibberish".into()),
    ] {
        let refused = connect(&endpoint, &token).await.err().unwrap_or_else(|| panic!("{about}: accepted"));
        assert_eq!(refused.why(), (401, "unauthenticated".into()), "{about}");
    }
    assert!(stranger.service.received("/jwks").is_empty(), "nothing in a token is followed");
}

#[tokio::test]
async fn keys_are_fetched_once_for_all_and_not_for_every_made_up_one() {
    let issuer = Issuer::start().await;
    let body = json!({"keys": [issuer.jwk("k1")]}).to_string();
    issuer.service.behave("/jwks", Behaviour::status(200).body(&body).after(Duration::from_millis(300)));
    let endpoint = issuer.endpoint("fetches").await;
    let token = issuer.token("k1");
    let storm = futures::future::join_all((0..20).map(|_| connect(&endpoint, &token))).await;
    assert!(storm.iter().all(Result::is_ok));
    assert_eq!(issuer.fetches(), 1);
    for n in 0..30 {
        let made_up = issuer.token(&format!("made-up-{n}"));
        assert_eq!(connect(&endpoint, &made_up).await.err().expect("an unknown key").status, 401);
    }
    assert!(issuer.fetches() <= 3, "{} fetches", issuer.fetches());
}

#[tokio::test]
async fn a_dead_key_server_admits_nobody_new_but_those_whose_keys_are_known() {
    let issuer = Issuer::start().await;
    issuer.service.behave("/jwks", Behaviour::status(500));
    let endpoint = issuer.endpoint("dead").await;
    let token = issuer.token("k1");
    let refused = connect(&endpoint, &token).await.err().expect("no keys are known");
    assert_eq!(refused.why(), (503, "authentication_unavailable".into()));
    assert!(refused.header("retry-after").is_some());
    issuer.publish(&[issuer.jwk("k1")]);
    let recovered =
        crate::wait::eventually("the keys", Duration::from_secs(8), async || connect(&endpoint, &token).await.ok());
    let mut client = recovered.await;
    issuer.service.behave("/jwks", Behaviour::hang_up());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let unknown = connect(&endpoint, &issuer.token("new")).await.err().expect("who can say");
    assert_eq!(unknown.status, 503);
    connect(&endpoint, &token).await.expect("a key that is known");
    client.send("{}").await;
    issuer.service.next("/default").await;
}

#[tokio::test]
async fn key_sets_and_metadata_that_cannot_be_believed_are_not() {
    let issuer = Issuer::start().await;
    let token = issuer.token("k1");
    let big = json!({"keys": [issuer.jwk("k1")], "padding": "x".repeat(300_000)}).to_string();
    for (about, answer) in [
        ("no JSON", Behaviour::status(200).body("<html>")),
        ("no keys", Behaviour::status(200).body("{}")),
        ("too large", Behaviour::status(200).body(&big)),
        ("elsewhere", Behaviour::status(302).header("location", &issuer.service.url("/elsewhere"))),
    ] {
        issuer.service.behave("/jwks", answer);
        // A source of its own: a failure is remembered for a moment.
        let mut rule = issuer.rule();
        rule["jwksUrl"] = json!(format!("{}?{}", issuer.service.url("/jwks"), about.replace(' ', "-")));
        let endpoint = issuer.endpoint_with("keyset", rule).await;
        let refused = connect(&endpoint, &token).await.err().unwrap_or_else(|| panic!("{about}: accepted"));
        assert_eq!(refused.why(), (503, "authentication_unavailable".into()), "{about}");
    }
    assert!(issuer.service.received("/elsewhere").is_empty());

    // Metadata that is someone else's, then its own: keys are where that says.
    issuer.publish(&[issuer.jwk("k1")]);
    let own = issuer.service.url("");
    let mut claims = claims();
    claims["iss"] = json!(own);
    let token = issuer.sign(&json!({"alg": "ES256", "kid": "k1"}), &claims);
    let metadata = |issuer_name: &str| {
        Behaviour::status(200)
            .body(&json!({"issuer": issuer_name, "jwks_uri": issuer.service.url("/jwks")}).to_string())
    };
    issuer.service.behave("/.well-known/openid-configuration", metadata("https://someone.else"));
    let rule = json!({"mode": "jwt", "issuer": own, "audience": "gateway"});
    let endpoint = issuer.endpoint_with("metadata", rule).await;
    assert_eq!(connect(&endpoint, &token).await.err().expect("another issuer's").status, 503);
    issuer.service.behave("/.well-known/openid-configuration", metadata(&own));
    let believed = async || connect(&endpoint, &token).await.ok();
    crate::wait::eventually("its own metadata to be believed", Duration::from_secs(8), believed).await;
}

#[tokio::test]
async fn a_rule_that_asks_for_more_closes_whose_token_has_less() {
    let issuer = Issuer::start().await;
    let endpoint = issuer.endpoint("stricter").await;
    let (mut plain, mut scoped) = {
        let mut with_scope = claims();
        with_scope["scope"] = json!("events");
        let scoped = issuer.sign(&json!({"alg": "ES256", "kid": "k1"}), &with_scope);
        (connect(&endpoint, &issuer.token("k1")).await.expect("good"), connect(&endpoint, &scoped).await.expect("good"))
    };
    let mut rule = issuer.rule();
    rule["requiredScopes"] = json!(["events"]);
    let stricter = with(document(&endpoint.path, &[]), "authentication", rule);
    let uri = format!("/api/v1/endpoints/{}", endpoint.id);
    shared().await.nodes[2].admin().put(&uri, &stricter).await.expect(200);
    assert_eq!(plain.closed().await, 4401);
    scoped.hears_nothing_for(Duration::from_millis(300)).await;
}
