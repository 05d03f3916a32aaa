//! Tests of signed tokens: what is accepted, and a corpus of attempts to be accepted without the issuer's key.

use super::*;
use crate::model::authentication::KeysFrom;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair, ECDSA_P256_SHA256_FIXED_SIGNING};
use serde_json::json;

const NOW: u64 = 1_700_000_000_000;

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

struct Signer {
    pair: EcdsaKeyPair,
    id: &'static str,
}

impl Signer {
    fn new(id: &'static str) -> Signer {
        Signer { pair: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(), id }
    }

    /// An uncompressed point: 4, x, y.
    fn point(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn jwk(&self) -> Value {
        let (x, y) = self.point()[1..].split_at(32);
        json!({"kty": "EC", "crv": "P-256", "kid": self.id, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn keys(of: &[&Signer]) -> Keys {
    let set = json!({"keys": of.iter().map(|signer| signer.jwk()).collect::<Vec<_>>()});
    Keys::read(set.to_string().as_bytes()).unwrap()
}

fn rule() -> JwtRule {
    JwtRule {
        issuer: Some("https://issuer".into()),
        audience: vec!["gateway".into(), "other".into()],
        keys: KeysFrom::Issuer("https://issuer".into()),
        algorithms: vec![Algorithm::RS256, Algorithm::ES256],
        required_scopes: vec!["events".into()],
        leeway: Duration::from_secs(5),
    }
}

fn claims() -> Value {
    json!({"iss": "https://issuer", "aud": "gateway", "sub": "ann", "exp": NOW / 1000 + 60, "scope": "events more"})
}

fn check(token: &str, keys: &Keys, rule: &JwtRule) -> Result<u64, TokenFault> {
    let parts = parts(token, rule)?;
    parts.check_signature(keys)?;
    check_claims(rule, &parts.claims()?, NOW)
}

#[test]
fn accepts_what_the_issuer_has_signed() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let all = keys(&[&old, &new]);
    for (signer, header) in [
        (&new, json!({"alg": "ES256", "kid": "new"})),
        (&old, json!({"alg": "ES256", "kid": "old", "typ": "at+jwt", "jku": "https://evil", "x5u": "https://evil"})),
        (&new, json!({"alg": "ES256"})),
    ] {
        assert_eq!(check(&signer.sign(&header, &claims()), &all, &rule()), Ok(NOW + 65_000), "{header}");
    }
}

#[test]
fn nothing_else_is_accepted() {
    let (issuer, stranger) = (Signer::new("k"), Signer::new("k"));
    let all = keys(&[&issuer]);
    let header = json!({"alg": "ES256", "kid": "k"});
    let good = issuer.sign(&header, &claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let unsigned = |header: Value| format!("{}.{}.", encode(&header), encode(&claims()));
    // The classic: the public key as the secret of an HMAC, in each form in which a library may hold it.
    let with_secret = |algorithm: &str, secret: &[u8], kid: bool| {
        let header = if kid { json!({"alg": algorithm, "kid": "k"}) } else { json!({"alg": algorithm}) };
        let message = format!("{}.{}", encode(&header), encode(&claims()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let (jwk_text, x) = (issuer.jwk().to_string(), issuer.jwk()["x"].as_str().unwrap().to_owned());
    let swapped = format!("{}.{}.{signature}", encode(&header), encode(&json!({"sub": "root"})));
    let embedded = stranger.sign(&json!({"alg": "ES256", "jwk": stranger.jwk()}), &claims());
    for (token, fault) in [
        (String::new(), TokenFault::Malformed),
        ("..".into(), TokenFault::Malformed),
        ("a.b.c.d.e".into(), TokenFault::Malformed),
        (format!("{good}.x"), TokenFault::Malformed),
        (format!("{good}="), TokenFault::Signature),
        (message.to_owned(), TokenFault::Malformed),
        (format!("{message}."), TokenFault::Signature),
        (unsigned(json!({"alg": "none"})), TokenFault::Algorithm),
        (unsigned(json!({"alg": "None", "kid": "k"})), TokenFault::Algorithm),
        (unsigned(json!({"alg": ""})), TokenFault::Algorithm),
        (unsigned(json!({})), TokenFault::Malformed),
        (unsigned(json!({"alg": ["ES256"]})), TokenFault::Malformed),
        (unsigned(json!({"alg": "ES256"})), TokenFault::Signature),
        (unsigned(json!({"alg": "ES384", "kid": "k"})), TokenFault::Algorithm),
        (unsigned(json!({"alg": "EdDSA", "kid": "k"})), TokenFault::Algorithm),
        // Accepted by the rule, but not what this key is.
        (unsigned(json!({"alg": "RS256", "kid": "k"})), TokenFault::Key),
        (with_secret("HS256", issuer.point(), true), TokenFault::Algorithm),
        (with_secret("HS256", jwk_text.as_bytes(), false), TokenFault::Algorithm),
        (with_secret("ES256", x.as_bytes(), true), TokenFault::Signature),
        (with_secret("ES256", b"", true), TokenFault::Signature),
        (swapped, TokenFault::Signature),
        (stranger.sign(&header, &claims()), TokenFault::Signature),
        (stranger.sign(&json!({"alg": "ES256"}), &claims()), TokenFault::Signature),
        (embedded, TokenFault::Signature),
        (issuer.sign(&json!({"alg": "ES256", "kid": "other"}), &claims()), TokenFault::Key),
        (issuer.sign(&json!({"alg": "ES256", "kid": ""}), &claims()), TokenFault::Key),
        (
            issuer.sign(&json!({"alg": "ES256", "kid": "k", "crit": ["b64"], "b64": false}), &claims()),
            TokenFault::Malformed,
        ),
        (issuer.sign(&header, &json!([1])), TokenFault::Claims),
    ] {
        assert_eq!(check(&token, &all, &rule()), Err(fault), "{token}");
    }
    let twice = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","alg":"none","kid":"k"}"#);
    assert_eq!(check(&format!("{twice}.{}.", encode(&claims())), &all, &rule()), Err(TokenFault::Malformed));
    assert_eq!(check(&good, &keys(&[]), &rule()), Err(TokenFault::Key));
    // Not even a rule that names it lets a public key be a secret.
    let confused = JwtRule { algorithms: vec![Algorithm::HS256], ..rule() };
    assert_eq!(check(&with_secret("HS256", issuer.point(), true), &all, &confused), Err(TokenFault::Key));
}

#[test]
fn a_key_for_one_algorithm_is_for_no_other() {
    let issuer = Signer::new("k");
    let mut jwk = issuer.jwk();
    jwk["alg"] = json!("ES384");
    let all = Keys::read(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap();
    let token = issuer.sign(&json!({"alg": "ES256", "kid": "k"}), &claims());
    assert_eq!(check(&token, &all, &rule()), Err(TokenFault::Key));
}

#[test]
fn what_a_token_must_say() {
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        claims
    };
    let seconds = NOW / 1000;
    for (claims, result) in [
        (with("exp", json!(seconds - 4)), Ok(NOW + 1000)),
        (with("exp", json!(seconds - 5)), Err(TokenFault::Expired)),
        (with("exp", json!(seconds as f64 + 0.5)), Ok(NOW + 5500)),
        (with("exp", json!(null)), Err(TokenFault::Expired)),
        (with("exp", json!("2099-01-01")), Err(TokenFault::Expired)),
        (with("exp", json!(1e300)), Err(TokenFault::Expired)),
        (with("nbf", json!(seconds + 5)), Ok(NOW + 65_000)),
        (with("nbf", json!(seconds + 6)), Err(TokenFault::TooEarly)),
        (with("nbf", json!("now")), Err(TokenFault::TooEarly)),
        (with("iss", json!("https://issuer/")), Err(TokenFault::Issuer)),
        (with("iss", json!(["https://issuer"])), Err(TokenFault::Issuer)),
        (with("iss", json!(null)), Err(TokenFault::Issuer)),
        (with("aud", json!(["a", "other"])), Ok(NOW + 65_000)),
        (with("aud", json!(["a"])), Err(TokenFault::Audience)),
        (with("aud", json!(null)), Err(TokenFault::Audience)),
        (with("aud", json!("gateway2")), Err(TokenFault::Audience)),
        (with("scope", json!("eventsmore")), Err(TokenFault::Scope)),
        (with("scope", json!(null)), Err(TokenFault::Scope)),
    ] {
        let Value::Object(map) = &claims else { unreachable!() };
        assert_eq!(check_claims(&rule(), map, NOW), result, "{claims}");
    }
    let open = JwtRule { issuer: None, audience: Vec::new(), required_scopes: Vec::new(), ..rule() };
    let Value::Object(bare) = json!({"exp": seconds + 1}) else { unreachable!() };
    assert_eq!(check_claims(&open, &bare, NOW), Ok(NOW + 6000));
}

#[test]
fn a_signature_is_checked_once_and_only_for_the_very_same_token_and_key() {
    let (signer, other) = (Signer::new("k"), Signer::new("k"));
    let header = json!({"alg": "ES256", "kid": "k"});
    let token = signer.sign(&header, &claims());
    let verified = Verified::default();
    let verify = |token: &str, keys: &Keys, rule: &JwtRule| {
        parts(token, rule)?.verify(token, keys, &verified).map(|key| key.digest)
    };
    let known = |token: &str| verified.0.lock().unwrap().get(&sha256(token.as_bytes()));
    let all = keys(&[&signer]);
    let key = all.list[0].digest;
    assert_eq!(verify(&token, &all, &rule()), Ok(key));
    assert_eq!(known(&token), Some(key));
    assert_eq!(verify(&token, &all, &rule()), Ok(key));
    // The answer is remembered, not the signature's check: a mark on another token shows that it is asked for.
    let forged = format!("{}.{}", token.rsplit_once('.').unwrap().0, URL_SAFE_NO_PAD.encode([1; 64]));
    assert_eq!(verify(&forged, &all, &rule()), Err(TokenFault::Signature));
    assert_eq!(known(&forged), None, "a no is not remembered");
    verified.0.lock().unwrap().insert(sha256(forged.as_bytes()), key);
    assert_eq!(verify(&forged, &all, &rule()), Ok(key), "what is remembered is not computed again");
    // The key is gone, another one has its id, or the rule has changed: what is remembered is worth nothing.
    assert_eq!(verify(&token, &keys(&[&other]), &rule()), Err(TokenFault::Signature));
    assert_eq!(verify(&token, &keys(&[]), &rule()), Err(TokenFault::Key));
    let rs_only = JwtRule { algorithms: vec![Algorithm::RS256], ..rule() };
    assert_eq!(verify(&token, &all, &rs_only), Err(TokenFault::Algorithm));
}
