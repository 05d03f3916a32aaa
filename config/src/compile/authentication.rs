//! Authentication: what each mode needs, and what those fields must look like. Called by compile; imports model,
//! document and secrets.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Algorithm, AlgorithmFamily};

use crate::document::{self, AuthenticationMode, EndpointDocument, OneOrMany};
use crate::findings::Findings;
use crate::secrets;
use wsgateway_model::authentication::{
    ApiKeyPlace, ApiKeys, Authentication, BasicUser, BasicUsers, BearerCheck, CertificateName, Introspection,
    IntrospectionAt, JwtRule, KeysFrom, Mode,
};
use wsgateway_model::limits;

use super::text::check_url;

/// A mode that cannot be compiled is a fault: an endpoint must never open up because its rule is not understood.
pub fn compile(document: &EndpointDocument, findings: &mut Findings) -> Authentication {
    let Some(from) = &document.authentication else { return Authentication::default() };
    let mode = match from.mode {
        AuthenticationMode::None => return Authentication::default(),
        AuthenticationMode::Basic => Mode::Basic(basic(from, findings)),
        AuthenticationMode::ApiKey => Mode::ApiKey(api_keys(from, findings)),
        AuthenticationMode::Bearer => bearer(from, findings),
        AuthenticationMode::Jwt => jwt(from, findings),
        AuthenticationMode::Authorizer => authorizer(from, findings),
        AuthenticationMode::Oauth2 => oauth2(from, findings),
        AuthenticationMode::ClientCertificate => Mode::ClientCertificate(certificate_name(from)),
    };
    Authentication {
        mode,
        token_query: from.token_query.clone(),
        recheck: from.recheck_in_seconds.map(Duration::from_secs),
        refresh: from.refresh.unwrap_or(false),
    }
}

fn basic(from: &document::Authentication, findings: &mut Findings) -> BasicUsers {
    let mut users = Vec::new();
    let mut add = |path: String, name: &str, password: Option<&str>, hash: Option<&str>| {
        if let Some(password) = findings.take(path, secrets::password_check(password, hash)) {
            users.push(BasicUser { name: name.to_owned(), password });
        }
    };
    if let Some(name) = &from.username {
        add("authentication".to_owned(), name, from.password.as_deref(), from.password_hash.as_deref());
    }
    for (index, user) in from.users.iter().flatten().enumerate() {
        let path = format!("authentication.users[{index}]");
        add(path, &user.username, user.password.as_deref(), user.password_hash.as_deref());
    }
    if from.username.is_none() && from.users.as_ref().is_none_or(Vec::is_empty) {
        findings.add("authentication", "mode \"basic\" needs a \"username\" and \"password\", or \"users\"");
    }
    BasicUsers(users)
}

fn api_keys(from: &document::Authentication, findings: &mut Findings) -> ApiKeys {
    let name = from.name.as_deref().unwrap_or(limits::API_KEY_NAME_DEFAULT);
    let place = match from.place {
        None | Some(document::ApiKeyPlace::Header) => ApiKeyPlace::Header(name.to_ascii_lowercase()),
        Some(document::ApiKeyPlace::Query) => ApiKeyPlace::Query(name.to_owned()),
        Some(document::ApiKeyPlace::Subprotocol) => ApiKeyPlace::Subprotocol,
    };
    let mut keys = Vec::new();
    let listed = from.keys.as_deref().unwrap_or_default();
    if listed.is_empty() {
        findings.add("authentication.keys", "mode \"apiKey\" needs at least one key");
    }
    for (index, key) in listed.iter().enumerate() {
        let path = format!("authentication.keys[{index}]");
        if let Some(digest) = findings.take(path, secrets::key_digest(key)) {
            keys.push((key.id.clone(), digest));
        }
    }
    ApiKeys { place, keys }
}

fn bearer(from: &document::Authentication, findings: &mut Findings) -> Mode {
    let url = needed_url(from.authorization_server_url.as_deref(), "authorizationServerUrl", "bearer", findings);
    Mode::Bearer(BearerCheck { url, cache: cache(from) })
}

fn authorizer(from: &document::Authentication, findings: &mut Findings) -> Mode {
    Mode::Authorizer { url: needed_url(from.url.as_deref(), "url", "authorizer", findings) }
}

fn certificate_name(from: &document::Authentication) -> CertificateName {
    match from.user_from {
        None | Some(document::CertificateName::CommonName) => CertificateName::CommonName,
        Some(document::CertificateName::DnsName) => CertificateName::DnsName,
        Some(document::CertificateName::Email) => CertificateName::Email,
        Some(document::CertificateName::Uri) => CertificateName::Uri,
        Some(document::CertificateName::Subject) => CertificateName::Subject,
    }
}

fn cache(from: &document::Authentication) -> Duration {
    Duration::from_secs(from.cache_in_seconds.unwrap_or(limits::TOKEN_CACHE_SECONDS_DEFAULT))
}

fn needed_url(given: Option<&str>, field: &str, mode: &str, findings: &mut Findings) -> Arc<str> {
    match given {
        None => findings.add("authentication", format!("mode {mode:?} needs {field:?}")),
        Some(url) => drop(findings.take(format!("authentication.{field}"), check_url(url))),
    }
    given.unwrap_or_default().into()
}

fn oauth2(from: &document::Authentication, findings: &mut Findings) -> Mode {
    let at = match (&from.introspection_url, &from.issuer) {
        (Some(url), _) => {
            findings.take("authentication.introspectionUrl", check_url(url));
            IntrospectionAt::Url(url.as_str().into())
        }
        (None, issuer) => IntrospectionAt::Issuer(needed_url(issuer.as_deref(), "issuer", "oauth2", findings)),
    };
    if from.client_id.as_deref().is_none_or(str::is_empty) {
        findings.add("authentication", "mode \"oauth2\" needs a \"clientId\"");
    }
    if from.client_secret.as_ref().is_none_or(|secret| secret.expose().is_empty()) {
        findings.add("authentication", "mode \"oauth2\" needs a \"clientSecret\"");
    }
    Mode::Oauth2(Introspection {
        at,
        client_id: from.client_id.clone().unwrap_or_default(),
        client_secret: from.client_secret.clone().unwrap_or_default(),
        required_scopes: from.required_scopes.clone().unwrap_or_default(),
        cache: cache(from),
    })
}

fn jwt(from: &document::Authentication, findings: &mut Findings) -> Mode {
    let keys = match (&from.jwks_url, &from.issuer) {
        (Some(url), _) => {
            findings.take("authentication.jwksUrl", check_url(url));
            KeysFrom::Url(url.as_str().into())
        }
        (None, issuer) => KeysFrom::Issuer(needed_url(issuer.as_deref(), "issuer", "jwt", findings)),
    };
    let audience = match &from.audience {
        None => Vec::new(),
        Some(OneOrMany::One(one)) => vec![one.clone()],
        Some(OneOrMany::Many(many)) => many.clone(),
    };
    Mode::Jwt(JwtRule {
        issuer: from.issuer.clone(),
        audience,
        keys,
        algorithms: algorithms(from, findings),
        required_scopes: from.required_scopes.clone().unwrap_or_default(),
        leeway: Duration::from_secs(from.leeway_in_seconds.unwrap_or(limits::LEEWAY_SECONDS_DEFAULT)),
    })
}

/// What nearly every issuer signs with; whatever else must be asked for.
const ALGORITHMS_DEFAULT: [Algorithm; 2] = [Algorithm::RS256, Algorithm::ES256];

fn algorithms(from: &document::Authentication, findings: &mut Findings) -> Vec<Algorithm> {
    let Some(listed) = &from.algorithms else { return ALGORITHMS_DEFAULT.to_vec() };
    if listed.is_empty() {
        findings.add("authentication.algorithms", "must name at least one algorithm");
    }
    let mut algorithms = Vec::new();
    for (index, name) in listed.iter().enumerate() {
        let path = format!("authentication.algorithms[{index}]");
        match Algorithm::from_str(name) {
            Ok(algorithm) if algorithm.family() == AlgorithmFamily::Hmac => {
                findings.add(
                    path,
                    format!("{name:?} is signed with a shared secret: the gateway only checks with public keys"),
                );
            }
            Ok(algorithm) => algorithms.push(algorithm),
            Err(_) => findings.add(
                path,
                format!("must be one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA, is {name:?}"),
            ),
        }
    }
    algorithms
}
