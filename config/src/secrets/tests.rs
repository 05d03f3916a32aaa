//! Tests of what becomes of the secrets of documents.

use super::hashes::{check_password_hash, to_hex};
use super::*;
use crate::document::ApiKey;
use crate::findings::Finding;
use wsgateway_model::authentication::sha256;
use wsgateway_model::secret::SecretsSettings;

fn node(cluster_secrets: &[&str]) -> NodeSecrets {
    let secrets: Vec<_> = cluster_secrets.iter().map(|secret| (*secret).to_owned()).collect();
    // cargo sets variables of this prefix for every test.
    let settings = SecretsSettings { env_prefix: "CARGO_PKG_".to_owned(), file_dirs: Vec::new() };
    NodeSecrets::new(&secrets, &settings).unwrap()
}

fn hash_secrets(document: &str, previous: Option<&str>) -> Result<String, serde_json::Error> {
    node(&["the secret of the cluster"]).kept(document, previous)
}

const SAMPLE: &str = include_str!("../testdata/endpoint-config-sample.json");

#[test]
fn the_sample_loses_its_password_and_keeps_every_other_byte() {
    let stored = hash_secrets(SAMPLE, None).unwrap();
    assert!(!stored.contains("strongPassword"), "{stored}");
    let start = stored.find("\"passwordHash\": \"").unwrap();
    let hash = stored[start..].split('"').nth(3).unwrap();
    assert!(Hashing::Argon2id.matches("strongPassword", hash) && !Hashing::Argon2id.matches("strongPasswor", hash));
    let back = stored.replace(hash, "strongPassword").replace("passwordHash", "password");
    assert_eq!(back, SAMPLE);

    let shown = redacted_for_reading(&stored).unwrap();
    assert_eq!(shown, stored.replace(hash, PASSWORD_REDACTED));
    assert!(!redacted_for_reading(SAMPLE).unwrap().contains("strongPassword"));
    assert_eq!(restore_redacted(&shown, &stored).unwrap(), stored);
    assert_eq!(hash_secrets(SAMPLE, Some(&stored)).unwrap(), stored, "the same password is no change");
}

#[test]
fn keys_and_users_become_hashes_and_then_nothing() {
    let text = r#"{ "path":"/a",  "authentication": {"mode":"apiKey", "keys":[ {"id" : "a", "key":"s\u0065cret-number-one"},
        {"keyHash": null, "key": "secret-number-two", "id": "b"}, {"id":"e","key":"${env:KEY}"} ] , "in": "query",
        "users": [{"username": "u", "p\u0061ssword": "secret-number-three"}, {"passwordHash": null, "username": "v"}]}, "z": 1.50 }"#;
    let stored = hash_secrets(text, None).unwrap();
    assert!(!stored.contains("cret-number"), "{stored}");
    assert!(stored.contains(&format!("{{\"id\" : \"a\", \"keyHash\": \"{}\"}}", to_hex(sha256(b"secret-number-one")))));
    assert!(stored.contains(&format!("{{\"keyHash\": \"{}\", \"key\": null", to_hex(sha256(b"secret-number-two")))));
    assert!(stored.contains("{\"username\": \"u\", \"passwordHash\": \"$argon2id$v=19$"), "{stored}");
    assert!(stored.contains("{\"id\":\"e\",\"key\":\"${env:KEY}\"}") && stored.ends_with("\"z\": 1.50 }"));
    assert_eq!(hash_secrets(&stored, None).unwrap(), stored, "a second time changes nothing");
    assert_eq!(hash_secrets(text, Some(&stored)).unwrap(), stored);

    let shown = redacted_for_reading(&stored).unwrap();
    assert_eq!((shown.matches(KEY_REDACTED).count(), shown.matches(PASSWORD_REDACTED).count()), (2, 1));
    assert!(!shown.contains(&to_hex(sha256(b"secret-number-one"))));
    assert_eq!(restore_redacted(&shown, &stored).unwrap(), stored);
    assert!(restore_redacted(&shown, "{\"authentication\": {\"mode\": \"none\"}}").unwrap().contains(KEY_REDACTED));
}

#[test]
fn other_shapes_have_no_secrets() {
    for text in ["[]", "{\"authentication\": []}", "{\"authentication\": {\"keys\": {}, \"users\": [1, null]}}"] {
        assert_eq!(hash_secrets(text, Some(text)).unwrap(), text);
        assert_eq!(redacted_for_reading(text).unwrap(), text);
    }
    assert!(hash_secrets("{", None).is_err());
}

#[test]
fn password_hashes_are_bounded() {
    let hash =
        |params: &str| format!("$argon2id$v=19${params}$c2FsdHNhbHRzYWx0$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI");
    assert!(check_password_hash(&hash("m=19456,t=2,p=1")).is_ok());
    for wrong in [
        "",
        "strongPassword",
        PASSWORD_REDACTED,
        "$argon2id$v=19$m=19456,t=2,p=1",
        "$2b$12$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234",
        &hash("m=4194304,t=2,p=1"),
        &hash("m=19456,t=1000,p=1"),
        &hash("m=19456,t=2,p=64"),
        &hash("m=19456,t=2,p=1").replace("argon2id", "argon2i"),
    ] {
        assert!(check_password_hash(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn secret_fields_are_not_quoted() {
    for path in [
        "authentication",
        "authentication.password",
        "authentication.clientSecret",
        "authentication.keys[12].key",
        "authentication.users[0]",
        "routes[3].backends[1].signingSecret",
        "routes[0].backends[0].additionalHeaders.Authorization",
    ] {
        assert!(is_secret(path), "{path}");
    }
    for path in ["", "path", "authentication.mode", "routes[0].key", "routes[0].backends[0].destination"] {
        assert!(!is_secret(path), "{path}");
    }
}

const BACKENDS: &str = r#"{"path": "/a", "authentication": {"mode": "none", "clientSecret": "canary-one", "issuer": "http://i/x"},
    "routes": [{"type": "default", "name": "d", "backends": [
        {"type": "http", "destination": "http://h/1", "additionalHeaders": {"Authorization": "canary-two", "X-A": "1"}},
        {"type": "kafka", "topic": "t", "headers": {"x-api-key" : "canary-three", "X-Token": "${env:CARGO_PKG_NAME}"}}]}]}"#;

#[test]
fn secrets_that_must_be_readable_are_encrypted() {
    let stored = hash_secrets(BACKENDS, None).unwrap();
    assert!(!stored.contains("canary") && stored.matches("enc:v1:").count() == 3, "{stored}");
    assert!(stored.contains("\"X-A\": \"1\"") && stored.contains("\"${env:CARGO_PKG_NAME}\""));
    assert_eq!(hash_secrets(&stored, None).unwrap(), stored, "a second time changes nothing");
    assert_eq!(hash_secrets(BACKENDS, Some(&stored)).unwrap(), stored, "the same secrets are no change");
    assert_ne!(hash_secrets(BACKENDS, None).unwrap(), stored, "nonces are random");

    let shown = redacted_for_reading(&stored).unwrap();
    assert_eq!(shown.matches("\"enc:redacted\"").count(), 3, "{shown}");
    assert_eq!(redacted_for_reading(BACKENDS).unwrap(), shown, "so are literals of earlier builds");
    assert_eq!(restore_redacted(&shown, &stored).unwrap(), stored);

    let mut findings = Findings::default();
    let plain = node(&["the secret of the cluster"]).revealed(&stored, &mut findings).unwrap();
    assert!(findings.0.is_empty(), "{findings:?}");
    assert_eq!(plain, BACKENDS.replace("${env:CARGO_PKG_NAME}", env!("CARGO_PKG_NAME")));
    let read = node(&["the secret of the cluster"]).read(&stored).unwrap();
    assert_eq!(read.authentication.unwrap().client_secret.unwrap().expose(), "canary-one");

    let hidden = NodeSecrets::default().revealed(&stored, &mut findings).unwrap();
    assert!(hidden.matches("\"(hidden)\"").count() == 3 && hidden.contains("${env:CARGO_PKG_NAME}"), "{hidden}");
}

#[test]
fn a_redacted_secret_goes_to_no_other_service() {
    let stored = hash_secrets(BACKENDS, None).unwrap();
    let shown = redacted_for_reading(&stored).unwrap();
    for (from, to, left) in [
        ("http://h/1", "http://h/2", 0),
        ("\"name\": \"d\"", "\"name\": \"d\", \"continue\": false", 0),
        ("http://h/1", "http://evil/1", 1),
        ("http://h/1", "http://h:81/1", 1),
        ("\"topic\": \"t\"", "\"topic\": \"t2\"", 1),
        ("\"topic\": \"t\"", "\"topic\": \"t\", \"bootstrapServers\": \"evil:1\"", 1),
        ("\"issuer\": \"http://i/x\"", "\"issuer\": \"http://i/y\"", 0),
        ("\"issuer\": \"http://i/x\"", "\"issuer\": \"http://evil/x\"", 1),
        ("\"issuer\"", "\"introspectionUrl\": \"http://evil/x\", \"issuer\"", 1),
        ("\"name\": \"d\"", "\"name\": \"other\"", 2),
    ] {
        let edited = shown.replace(from, to);
        assert_ne!(edited, shown, "{from}");
        let restored = restore_redacted(&edited, &stored).unwrap();
        assert_eq!(restored.matches(ENCRYPTED_REDACTED).count(), left, "{to}: {restored}");
        let mut findings = Findings::default();
        node(&["the secret of the cluster"]).check(&restored, &mut findings).unwrap();
        assert_eq!(findings.0.len(), left, "{findings:?}");
    }
    // Two of the same service are told apart by their places, as long as there are two.
    let backend =
        |secret: &str| format!(r#"{{"destination": "http://h/", "additionalHeaders": {{"Cookie": "{secret}"}}}}"#);
    let list = |backends: &[String]| format!(r#"{{"routes": [{{"backends": [{}]}}]}}"#, backends.join(", "));
    let stored = hash_secrets(&list(&[backend("one"), backend("two")]), None).unwrap();
    let shown = redacted_for_reading(&stored).unwrap();
    assert_eq!(restore_redacted(&shown, &stored).unwrap(), stored);
    let fewer = list(&[backend(ENCRYPTED_REDACTED)]);
    assert_eq!(restore_redacted(&fewer, &stored).unwrap(), fewer);
}

#[test]
fn keys_are_rotated() {
    let (old, new) = (node(&["the old secret of all"]), node(&["the new secret of all", "the old secret of all"]));
    let stored = old.kept(BACKENDS, None).unwrap();
    assert!(new.read(&stored).is_ok(), "an old key opens");
    assert_eq!(new.kept_to_compare(BACKENDS, &stored).unwrap(), stored, "that is no difference");
    // The next write encrypts anew, whether the literal is sent or what was read.
    for sent in [BACKENDS, &stored] {
        let renewed = new.kept(sent, Some(&stored)).unwrap();
        assert_ne!(renewed, stored);
        assert_eq!(new.comparable(&renewed, &stored).unwrap(), stored, "nor is that a difference");
        assert!(node(&["the new secret of all"]).read(&renewed).is_ok());
        let reasons = old.read(&renewed).unwrap_err();
        assert_eq!(reasons.len(), 3, "{reasons:?}");
        let Finding { path, message } = &reasons[0];
        assert!(path == "authentication.clientSecret" && message.contains("none of this node's cluster.secrets"));
        assert_eq!(new.kept(&renewed, Some(&renewed)).unwrap(), renewed);
    }
    let other = BACKENDS.replace("canary-one", "canary-four");
    assert_ne!(new.comparable(&new.kept(&other, Some(&stored)).unwrap(), &stored).unwrap(), stored);
}

#[test]
fn an_encrypted_text_opens_in_its_field_only() {
    let stored = hash_secrets(BACKENDS, None).unwrap();
    let texts: Vec<_> = stored.split('"').filter(|text| text.starts_with("enc:v1:")).collect();
    let swapped = stored.replace(texts[0], "?").replace(texts[1], texts[0]).replace('?', texts[1]);
    let reasons = node(&["the secret of the cluster"]).read(&swapped).unwrap_err();
    assert!(
        reasons.len() == 2 && reasons[0].message.contains("altered, or that belongs to another field"),
        "{reasons:?}"
    );
    let paths: Vec<_> = check_sent(&stored).unwrap().into_iter().map(|finding| finding.path).collect();
    assert_eq!(
        paths,
        [
            "authentication.clientSecret",
            "routes[0].backends[0].additionalHeaders.Authorization",
            "routes[0].backends[1].headers.x-api-key"
        ]
    );
    assert!(check_sent(&redacted_for_reading(&stored).unwrap()).unwrap().is_empty());
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let told = |secrets: &NodeSecrets, document: &str| {
        let mut findings = Findings::default();
        secrets.check(document, &mut findings).unwrap();
        findings.0.into_iter().map(|finding| format!("{}: {}", finding.path, finding.message)).collect::<Vec<_>>()
    };
    let no_key = told(&node(&[]), BACKENDS);
    assert!(no_key.len() == 3 && no_key.iter().all(|line| line.contains("set cluster.secrets")), "{no_key:?}");
    assert!(told(&NodeSecrets::default(), BACKENDS).is_empty(), "a file is checked without a cluster");
    for (document, part) in [
        (r#"{"authentication": {"clientSecret": ""}}"#, "authentication.clientSecret: must not be empty"),
        (r#"{"authentication": {"clientSecret": "enc:redacted"}}"#, "authentication.clientSecret: is redacted"),
        (r#"{"authentication": {"clientSecret": "x${env:A}"}}"#, "clientSecret: must be one reference"),
        (r#"{"authentication": {"keys": [{"id": "a", "key": "${env:A"}]}}"#, "keys[0].key: has a ${env:…} without"),
        (r#"{"authentication": {"password": "${env:A B}"}}"#, "password: refers to an environment variable whose name"),
        (r#"{"routes": [{"backends": [{"headers": {"a": "1", "a": "2"}}]}]}"#, "backends[0].headers.a: is there twice"),
        (r#"{"routes": [{"backends": [{"headers": {"a": "x ${file:b}"}}]}]}"#, "headers.a: refers to a file by a path"),
    ] {
        let lines = told(&node(&["the secret of the cluster"]), document);
        assert!(lines.iter().any(|line| line.contains(part)), "{document}: {lines:?}");
    }
    let unset = r#"{"path": "/a", "routes": [{"type": "default", "name": "d", "backends": [
        {"type": "http", "destination": "http://h", "additionalHeaders": {"Authorization": "Bearer ${env:CARGO_PKG_NONE}"}}]}]}"#;
    let reasons = node(&[]).read(unset).unwrap_err();
    assert_eq!(reasons[0].path, "routes[0].backends[0].additionalHeaders.Authorization");
    assert!(reasons[0].message.contains("CARGO_PKG_NONE, which is not set on this node"), "{reasons:?}");
}

#[test]
fn differences_do_not_show_them() {
    let told = |path: &str, value: serde_json::Value| {
        let mut value = value;
        hide(path, &mut value);
        value.to_string()
    };
    for path in [
        "authentication.clientSecret",
        "authentication.keys[0].key",
        "authentication.users[1].passwordHash",
        "routes[0].backends[0].additionalHeaders.Authorization",
        "routes[0].deadLetter.additionalHeaders.Authorization",
        "deadLetter.headers.x-api-key",
        "deadLetter.security.password",
        "routes[0].backends[0].signingSecret",
        "routes[0].deadLetter.signingSecret",
        "deadLetter.signingSecret",
        "routes[0].backends[12].headers[\"my.token [x.y]\"]",
    ] {
        assert_eq!(told(path, "canary".into()), "\"(hidden)\"", "{path}");
        assert_eq!(told(path, "${env:X}".into()), "\"${env:X}\"", "{path}");
    }
    for path in ["path", "authentication.username", "routes[0].key", "routes[0].backends[0].additionalHeaders.X-A"] {
        assert_eq!(told(path, "text".into()), "\"text\"", "{path}");
    }
    let document: serde_json::Value = serde_json::from_str(BACKENDS).unwrap();
    for (path, value) in [("", &document), ("routes", &document["routes"]), ("routes[0]", &document["routes"][0])] {
        let text = told(path, value.clone());
        assert!(
            !text.contains("canary-two") && !text.contains("canary-three") && text.contains("\"X-A\":\"1\""),
            "{text}"
        );
    }
    assert!(!told("authentication", document["authentication"].clone()).contains("canary"));
}

#[test]
fn digests() {
    let key = |key: Option<&str>, hash: Option<&str>| ApiKey {
        id: "a".into(),
        key: key.map(str::to_owned),
        key_hash: hash.map(str::to_owned),
    };
    let digest = sha256(b"k");
    assert_eq!(key_digest(&key(Some("k"), None)), Ok(digest));
    assert_eq!(key_digest(&key(None, Some(&to_hex(digest)))), Ok(digest));
    for (literal, hash) in [
        (None, None),
        (Some(""), None),
        (Some("k"), Some("sha256:00")),
        (None, Some("sha256:00")),
        (None, Some(KEY_REDACTED)),
        (None, Some(&"é".repeat(32))),
    ] {
        assert!(key_digest(&key(literal, hash)).is_err(), "{literal:?} {hash:?}");
    }
    let unknown = key_digest(&key(Some("${env:X}"), None)).unwrap();
    assert_ne!(unknown, sha256(b"${env:X}"), "a reference is no key");
}

#[test]
fn what_brokers_are_shown_is_a_secret_and_what_is_checked_of_them_is_none() {
    let document = r#"{"path": "/a", "routes": [{"type": "default", "name": "d", "backends": [{"type": "kafka", "topic": "t",
        "security": {"protocol": "SASL_SSL", "saslMechanism": "PLAIN", "username": "u", "password": "canary-one",
                     "ca": "-----BEGIN CERTIFICATE-----", "certificate": "${env:CARGO_PKG_NAME}", "privateKey": "canary-two"}}]}]}"#;
    let stored = hash_secrets(document, None).unwrap();
    assert!(!stored.contains("canary") && stored.matches("enc:v1:").count() == 2, "{stored}");
    let shown = redacted_for_reading(&stored).unwrap();
    assert_eq!(shown.matches("enc:redacted").count(), 2, "{shown}");
    assert!(shown.contains("BEGIN CERTIFICATE") && shown.contains("${env:CARGO_PKG_NAME}"), "{shown}");
    assert_eq!(restore_redacted(&shown, &stored).unwrap(), stored);
    let downgraded = shown.replace("SASL_SSL", "SASL_PLAINTEXT");
    assert!(restore_redacted(&downgraded, &stored).unwrap().contains("enc:redacted"), "it follows no other protocol");
    let mut findings = Findings::default();
    let plain = node(&["the secret of the cluster"]).revealed(&stored, &mut findings).unwrap();
    assert_eq!(plain, document.replace("${env:CARGO_PKG_NAME}", env!("CARGO_PKG_NAME")), "{findings:?}");

    let mut security = serde_json::json!({"protocol": "SSL", "password": "p", "privateKey": "${env:A}", "ca": "c"});
    hide("routes[0].backends[0].security", &mut security);
    let expected = serde_json::json!({"protocol": "SSL", "password": "(hidden)", "privateKey": "${env:A}", "ca": "c"});
    assert_eq!(security, expected);
    let mut password = serde_json::json!("p");
    hide("routes[0].backends[0].security.password", &mut password);
    assert_eq!(password, "(hidden)");
    assert!(is_secret("routes[0].backends[0].security.privateKey"));
    assert!(!is_secret("routes[0].backends[0].security.protocol"));
}
