//! Rules of `authentication`: which fields belong to which mode, which names repeat, what credentials can travel where.
//! Called by validate's rules; imports model's limits, document and findings.

use std::collections::HashSet;

use crate::compile::text;
use crate::document::{ApiKeyPlace, Authentication, AuthenticationMode as Mode};
use crate::findings::Findings;
use crate::secrets;
use wsgateway_model::limits;

use super::rules::report_foreign;
use super::NodeFacts;

/// Each field, whether it is given, and the modes that it belongs to. Mode "none" ignores them all.
fn fields(from: &Authentication) -> [(&'static str, bool, &'static [Mode]); 23] {
    use Mode::{ApiKey, Authorizer, Basic, Bearer, ClientCertificate, Jwt, Oauth2};
    [
        ("username", from.username.is_some(), &[Basic]),
        ("password", from.password.is_some(), &[Basic]),
        ("passwordHash", from.password_hash.is_some(), &[Basic]),
        ("users", from.users.is_some(), &[Basic]),
        ("keys", from.keys.is_some(), &[ApiKey]),
        ("in", from.place.is_some(), &[ApiKey]),
        ("name", from.name.is_some(), &[ApiKey]),
        ("authorizationServerUrl", from.authorization_server_url.is_some(), &[Bearer]),
        ("cacheInSeconds", from.cache_in_seconds.is_some(), &[Bearer, Oauth2]),
        ("issuer", from.issuer.is_some(), &[Jwt, Oauth2]),
        ("audience", from.audience.is_some(), &[Jwt]),
        ("jwksUrl", from.jwks_url.is_some(), &[Jwt]),
        ("algorithms", from.algorithms.is_some(), &[Jwt]),
        ("requiredScopes", from.required_scopes.is_some(), &[Jwt, Oauth2]),
        ("leewayInSeconds", from.leeway_in_seconds.is_some(), &[Jwt]),
        ("introspectionUrl", from.introspection_url.is_some(), &[Oauth2]),
        ("clientId", from.client_id.is_some(), &[Oauth2]),
        ("clientSecret", from.client_secret.is_some(), &[Oauth2]),
        ("url", from.url.is_some(), &[Authorizer]),
        ("userFrom", from.user_from.is_some(), &[ClientCertificate]),
        ("tokenQuery", from.token_query.is_some(), &[Bearer, Jwt, Oauth2, Authorizer]),
        ("refresh", from.refresh.is_some(), &[Bearer, Jwt, Oauth2]),
        (
            "recheckInSeconds",
            from.recheck_in_seconds.is_some(),
            &[Basic, ApiKey, Bearer, Jwt, Oauth2, Authorizer, ClientCertificate],
        ),
    ]
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::None => "none",
        Mode::Basic => "basic",
        Mode::ApiKey => "apiKey",
        Mode::Bearer => "bearer",
        Mode::Jwt => "jwt",
        Mode::Oauth2 => "oauth2",
        Mode::Authorizer => "authorizer",
        Mode::ClientCertificate => "clientCertificate",
    }
}

/// Reports every broken rule that needs no compiling.
pub fn check(from: &Authentication, findings: &mut Findings) {
    if from.mode == Mode::None {
        return;
    }
    let foreign: Vec<_> =
        fields(from).iter().map(|(name, given, modes)| (*name, *given && !modes.contains(&from.mode))).collect();
    report_foreign(&foreign, "authentication", &format!("mode {:?}", mode_name(from.mode)), findings);
    if let Some(name) = &from.token_query {
        if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
            findings.add("authentication.tokenQuery", "must have 1–255 characters, none of them a control character");
        }
    }
    match from.mode {
        Mode::Basic => users(from, findings),
        Mode::ApiKey => api_key(from, findings),
        _ => {}
    }
    for (index, scope) in from.required_scopes.iter().flatten().enumerate() {
        // RFC 6749 §3.3.
        if scope.is_empty() || !scope.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\') {
            findings.add(format!("authentication.requiredScopes[{index}]"), "is no scope: one word of visible ASCII");
        }
    }
}

fn users(from: &Authentication, findings: &mut Findings) {
    if from.username.is_none() && (from.password.is_some() || from.password_hash.is_some()) {
        findings.add("authentication", "a password needs its \"username\"");
    }
    let mut seen = HashSet::new();
    let single = from.username.iter().map(|name| ("authentication.username".to_owned(), name));
    let listed = from.users.iter().flatten().enumerate();
    let listed = listed.map(|(index, user)| (format!("authentication.users[{index}].username"), &user.username));
    for (path, name) in single.chain(listed) {
        // RFC 7617 §2: the first colon ends the name.
        if name.is_empty() || name.len() > 255 || name.contains(':') || name.chars().any(char::is_control) {
            findings.add(path, "must have 1–255 bytes, without ':' and control characters");
        } else if !seen.insert(name) {
            findings.add(path, "is the name of an earlier user");
        }
    }
}

fn api_key(from: &Authentication, findings: &mut Findings) {
    let place = from.place.unwrap_or(ApiKeyPlace::Header);
    let name = from.name.as_deref().unwrap_or(limits::API_KEY_NAME_DEFAULT);
    if place == ApiKeyPlace::Header && (!text::is_token(name) || is_handshake_header(name)) {
        findings.add("authentication.name", format!("{name:?} is no header that can carry a key"));
    }
    if name.chars().any(char::is_control) {
        findings.add("authentication.name", "must not contain control characters");
    }
    let (mut ids, mut digests) = (HashSet::new(), HashSet::new());
    for (index, key) in from.keys.iter().flatten().enumerate() {
        let path = format!("authentication.keys[{index}]");
        if !ids.insert(key.id.as_str()) {
            findings.add(format!("{path}.id"), format!("{:?} is the id of an earlier key", key.id));
        }
        if secrets::key_digest(key).is_ok_and(|digest| !digests.insert(digest)) {
            findings.add(path.as_str(), "is the same key as an earlier one");
        }
        let carried = |text: &str| match place {
            ApiKeyPlace::Header => text.bytes().all(|b| b.is_ascii_graphic()),
            ApiKeyPlace::Query => !text.chars().any(char::is_control),
            ApiKeyPlace::Subprotocol => text::is_token(text),
        };
        // A reference still stands there where no node follows it.
        let literal = key.key.as_deref().filter(|text| !secrets::is_reference(text));
        if literal.is_some_and(|text| !text.is_empty() && !carried(text)) {
            findings.add(format!("{path}.key"), "has characters that its place (\"in\") cannot carry");
        }
    }
}

fn is_handshake_header(name: &str) -> bool {
    text::is_reserved_header(name) || name.to_ascii_lowercase().starts_with("sec-websocket-")
}

/// What is legal, but may not be meant.
pub fn warnings(from: &Authentication, node: &NodeFacts, warnings: &mut Findings) {
    if from.mode == Mode::ClientCertificate && node.asks_for_certificates == Some(false) {
        let message = "the node's client listener asks for no certificates (setting client.tls.client_ca_file): \
            every handshake will be refused";
        warnings.add("authentication.mode", message);
    }
    let advised = limits::API_KEY_BYTES_ADVISED;
    for (index, key) in from.keys.iter().flatten().enumerate().filter(|_| from.mode == Mode::ApiKey) {
        if key.key.as_ref().is_some_and(|key| key.len() < advised) {
            let message = format!("is shorter than {advised} characters: choose a long random one");
            warnings.add(format!("authentication.keys[{index}].key"), message);
        }
    }
    if from.mode == Mode::Jwt && from.audience.is_none() {
        warnings.add("authentication.audience", "is missing: tokens that were issued for other services are accepted");
    }
    if from.mode == Mode::Jwt && from.issuer.is_none() {
        warnings
            .add("authentication.issuer", "is missing: tokens of every issuer that signs with these keys are accepted");
    }
    for (name, url) in called_urls(from) {
        if travels_in_the_clear(url) {
            let message = "is not https: who can listen or write in between can impersonate every client";
            warnings.add(format!("authentication.{name}"), message);
        }
    }
}

/// The URLs that the mode has called, by field. An issuer whose metadata is not asked for is only a name.
pub(super) fn called_urls(from: &Authentication) -> impl Iterator<Item = (&'static str, &str)> {
    let asked = from.jwks_url.is_none() && from.introspection_url.is_none();
    let urls = [
        ("authorizationServerUrl", &from.authorization_server_url),
        ("issuer", if asked { &from.issuer } else { &None }),
        ("jwksUrl", &from.jwks_url),
        ("introspectionUrl", &from.introspection_url),
        ("url", &from.url),
    ];
    let called = from.mode != Mode::None;
    urls.into_iter().filter(move |_| called).filter_map(|(name, url)| Some((name, url.as_deref()?)))
}

/// Plain HTTP to another machine.
fn travels_in_the_clear(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let loopback = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    !loopback && !host.eq_ignore_ascii_case("localhost")
}
