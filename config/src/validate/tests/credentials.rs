//! Tests of authentication in documents: each mode, and what is said of what is wrong with it.

use super::*;

#[test]
fn every_mode_is_accepted_with_its_fields() {
    let hash = "$argon2id$v=19$m=19456,t=2,p=1$YWFhYWFhYWFhYWFhYWFhYQ$YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI";
    for authentication in [
        json!({"mode": "none", "issuer": 1.to_string(), "users": [], "url": "nonsense"}),
        json!({"mode": "basic", "username": "ann", "password": "secret", "recheckInSeconds": 60}),
        json!({"mode": "basic", "users": [{"username": "ann", "passwordHash": hash}, {"username": "bob", "password": "p"}]}),
        json!({"mode": "apiKey", "keys": [{"id": "a", "key": "0123456789abcdef"}], "in": "query", "name": "k"}),
        json!({"mode": "bearer", "authorizationServerUrl": "https://h/check?a=1", "cacheInSeconds": 0, "tokenQuery": "t"}),
        json!({"mode": "jwt", "issuer": "https://h/", "audience": "a"}),
        json!({"mode": "jwt", "issuer": "anything", "jwksUrl": "https://h/jwks", "audience": ["a", "b"], "tokenQuery": "t",
            "algorithms": ["EdDSA", "PS512"], "requiredScopes": ["a:b", "https://h/c"], "leewayInSeconds": 0}),
        json!({"mode": "oauth2", "issuer": "https://h", "clientId": "c", "clientSecret": "s", "requiredScopes": ["a"]}),
        json!({"mode": "oauth2", "introspectionUrl": "https://h/i", "clientId": "c", "clientSecret": "${env:WSGATEWAY_SECRET_C}",
            "cacheInSeconds": 5, "tokenQuery": "t"}),
        json!({"mode": "authorizer", "url": "http://127.0.0.1:1/a", "tokenQuery": "t", "recheckInSeconds": 1}),
    ] {
        let document = with("/authentication", authentication);
        assert_eq!(faults(&document), Vec::<String>::new(), "{document}");
        let warnings = validate(&document.to_string(), &node()).unwrap().warnings;
        assert_eq!(warnings, vec![], "{document}");
    }
}

#[test]
fn authentication_faults() {
    let at = |rest: &str| format!("authentication{rest}");
    let user = |name: &str| json!({"username": name, "password": "p"});
    let jwt = |field: &str, value: Value| {
        let mut rule = json!({"mode": "jwt", "issuer": "https://h", "audience": "a"});
        rule[field] = value;
        rule
    };
    for (authentication, path, part) in [
        (json!({"mode": "basic"}), at(""), "needs a \"username\""),
        (json!({"mode": "basic", "username": "a"}), at(""), "needs a \"password\""),
        (json!({"mode": "basic", "password": "p"}), at(""), "needs its \"username\""),
        (json!({"mode": "basic", "users": []}), at(""), "needs a \"username\""),
        (json!({"mode": "basic", "users": [user("a:b")]}), at(".users[0].username"), "without ':'"),
        (json!({"mode": "basic", "users": [user("")]}), at(".users[0].username"), "1–255"),
        (json!({"mode": "basic", "users": [user("a"), user("a")]}), at(".users[1].username"), "earlier user"),
        (
            json!({"mode": "basic", "username": "a", "password": "p", "users": [user("a")]}),
            at(".users[0].username"),
            "earlier",
        ),
        (json!({"mode": "basic", "username": "a", "passwordHash": "x"}), at(".passwordHash"), "argon2id"),
        (
            json!({"mode": "basic", "users": [user("a")], "tokenQuery": "t"}),
            at(".tokenQuery"),
            "does not belong to mode \"basic\"",
        ),
        (json!({"mode": "bearer"}), at(""), "needs \"authorizationServerUrl\""),
        (json!({"mode": "bearer", "authorizationServerUrl": "h/check"}), at(".authorizationServerUrl"), "https://"),
        (
            json!({"mode": "bearer", "authorizationServerUrl": "https://h/{room}"}),
            at(".authorizationServerUrl"),
            "placeholders",
        ),
        (
            json!({"mode": "bearer", "authorizationServerUrl": "https://u:p@h/"}),
            at(".authorizationServerUrl"),
            "user name",
        ),
        (
            json!({"mode": "bearer", "authorizationServerUrl": "https://h", "issuer": "https://h"}),
            at(".issuer"),
            "does not belong",
        ),
        (
            json!({"mode": "bearer", "authorizationServerUrl": "https://h", "cacheInSeconds": 86401}),
            at(".cacheInSeconds"),
            "86400",
        ),
        (
            json!({"mode": "bearer", "authorizationServerUrl": "https://h", "tokenQuery": ""}),
            at(".tokenQuery"),
            "1–255",
        ),
        (
            json!({"mode": "bearer", "authorizationServerUrl": "https://h", "recheckInSeconds": 0}),
            at(".recheckInSeconds"),
            "1–86400",
        ),
        (json!({"mode": "jwt"}), at(""), "needs \"issuer\""),
        (json!({"mode": "jwt", "issuer": "login"}), at(".issuer"), "https://"),
        (jwt("jwksUrl", json!("ftp://h")), at(".jwksUrl"), "https://"),
        (jwt("algorithms", json!([])), at(".algorithms"), "at least one"),
        (jwt("algorithms", json!(["ES256", "HS256"])), at(".algorithms[1]"), "shared secret"),
        (jwt("algorithms", json!(["none"])), at(".algorithms[0]"), "must be one of"),
        (jwt("requiredScopes", json!(["a b"])), at(".requiredScopes[0]"), "one word"),
        (jwt("leewayInSeconds", json!(601)), at(".leewayInSeconds"), "600"),
        (jwt("keys", json!([])), at(".keys"), "does not belong to mode \"jwt\""),
        (jwt("clientId", json!("c")), at(".clientId"), "does not belong"),
        (json!({"mode": "oauth2", "clientId": "c", "clientSecret": "s"}), at(""), "needs \"issuer\""),
        (json!({"mode": "oauth2", "issuer": "https://h", "clientSecret": "s"}), at(""), "needs a \"clientId\""),
        (json!({"mode": "oauth2", "issuer": "https://h", "clientId": "c"}), at(""), "needs a \"clientSecret\""),
        (
            json!({"mode": "oauth2", "introspectionUrl": "h", "clientId": "c", "clientSecret": "s"}),
            at(".introspectionUrl"),
            "https://",
        ),
        (
            json!({"mode": "oauth2", "issuer": "https://h", "clientId": "c", "clientSecret": "s", "audience": "a"}),
            at(".audience"),
            "does not belong",
        ),
        (json!({"mode": "authorizer"}), at(""), "needs \"url\""),
        (
            json!({"mode": "authorizer", "url": "https://h", "cacheInSeconds": 1}),
            at(".cacheInSeconds"),
            "does not belong",
        ),
        (json!({"mode": "kerberos"}), at(".mode"), "must be one of"),
    ] {
        refused(&with("/authentication", authentication), &path, part);
    }
}

#[test]
fn authentication_that_is_weak_is_a_warning() {
    let warned = |authentication: Value| -> Vec<String> {
        let validated = validate(&with("/authentication", authentication).to_string(), &node()).unwrap();
        validated.warnings.into_iter().map(|warning| warning.path).collect()
    };
    assert_eq!(
        warned(json!({"mode": "jwt", "jwksUrl": "http://h/jwks"})),
        ["authentication.audience", "authentication.issuer", "authentication.jwksUrl"]
    );
    assert_eq!(warned(json!({"mode": "authorizer", "url": "http://10.0.0.1/a"})), ["authentication.url"]);
    for loopback in ["http://127.0.0.1:8/a", "http://localhost/a", "http://[::1]:8"] {
        assert_eq!(warned(json!({"mode": "authorizer", "url": loopback})), Vec::<String>::new(), "{loopback}");
    }
}
