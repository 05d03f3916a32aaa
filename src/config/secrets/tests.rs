//! Tests of what becomes of the secrets of documents.

use super::*;

const SAMPLE: &str = include_str!("../testdata/endpoint-config-sample.json");

#[test]
fn the_sample_loses_its_password_and_keeps_every_other_byte() {
    let stored = hash_secrets(SAMPLE, None).unwrap();
    assert!(!stored.contains("strongPassword"), "{stored}");
    let start = stored.find("\"passwordHash\": \"").unwrap();
    let hash = stored[start..].split('"').nth(3).unwrap();
    assert!(Kept::Argon2id.matches("strongPassword", hash) && !Kept::Argon2id.matches("strongPasswor", hash));
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
        (Some("${env:X}"), None),
        (Some("${file:/run/x}"), None),
        (None, Some(&"é".repeat(32))),
    ] {
        assert!(key_digest(&key(literal, hash)).is_err(), "{literal:?} {hash:?}");
    }
}
