//! Mode oauth2: an OAuth 2 server is asked about a token (RFC 7662). Only `"active": true` is yes; a server that does not
//! know this gateway has said nothing about the token.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_http::header::{HeaderValue, ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use actix_http::Method;
use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use serde_json::{Map, Value};

use super::bearer::{accepted, ANSWER_BYTES_MAX};
use super::claims::{self, Identity};
use super::discovery::{discover, usable};
use super::generations::{Digest, Generations};
use super::outbound::Call;
use super::{shown, tokens, unavailable, Accepted, Authenticator, Denied};
use crate::model::authentication::{sha256, Introspection, IntrospectionAt};

/// Who the user is: the first of these that the answer has. A client that acts for itself may have only its id.
const USER_FIELDS: [&str; 3] = ["sub", "username", "client_id"];

/// Where an issuer answers questions is asked again after so long.
const DISCOVERED_FOR: Duration = Duration::from_secs(3600);
/// Issuers remembered.
const ISSUERS_MAX: usize = 1024;

/// Where issuers answer questions about tokens.
pub struct Endpoints(Mutex<Generations<(Arc<str>, Instant)>>);

impl Default for Endpoints {
    fn default() -> Endpoints {
        Endpoints(Mutex::new(Generations::new(ISSUERS_MAX)))
    }
}

impl Endpoints {
    fn get(&self, issuer: &Digest) -> Option<Arc<str>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(issuer);
        known.filter(|(_, at)| at.elapsed() < DISCOVERED_FOR).map(|(url, _)| url)
    }

    fn insert(&self, issuer: Digest, url: Arc<str>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(issuer, (url, Instant::now()));
    }
}

impl Authenticator {
    /// An answer that is younger than `max_age` need not be asked for.
    pub(super) async fn introspect(
        &self,
        rule: &Introspection,
        token: &str,
        max_age: Duration,
    ) -> Result<Accepted, Denied> {
        let (IntrospectionAt::Url(server) | IntrospectionAt::Issuer(server)) = &rule.at;
        // Another client may be told something else about the same token, and one with a wrong secret nothing.
        let asker = format!("{server}\0{}\0{}", rule.client_id, rule.client_secret.expose());
        let key = tokens::key(&asker, token);
        let known = self.answers.get_or_ask(key, max_age, || self.ask_about(rule, token)).await?;
        // Not remembered with the answer: rules that share it may require other scopes.
        let claims = known.identity.as_ref().and_then(|identity| identity.claims.as_ref()).and_then(Value::as_object);
        if claims.is_some_and(|claims| !claims::has_scopes(claims, &rule.required_scopes)) {
            return Err(super::jwt::TokenFault::Scope.into());
        }
        accepted(&known, token)
    }

    async fn ask_about(&self, rule: &Introspection, token: &str) -> Result<Option<Identity>, Denied> {
        let url = self.introspection_url(&rule.at).await?;
        let answer = self.outbound.call(question(rule, &url, token)).await.map_err(|err| {
            tracing::warn!(url = shown(&url), "the OAuth 2 server cannot be asked: {err}");
            unavailable()
        })?;
        if answer.status != 200 {
            // 401 is about this gateway's own credentials, not about the token.
            tracing::warn!(url = shown(&url), status = answer.status, "the OAuth 2 server did not answer the question");
            return Err(unavailable());
        }
        let unusable = |what: &dyn std::fmt::Display| {
            tracing::warn!(url = shown(&url), "the OAuth 2 server's answer cannot be used: {what}");
            unavailable()
        };
        let claims: Map<String, Value> =
            serde_json::from_slice(&answer.body).map_err(|_| unusable(&"it is not a JSON object"))?;
        if claims.get("active") != Some(&Value::Bool(true)) {
            return Ok(None);
        }
        let identity = claims::identity(claims, &USER_FIELDS).map_err(|fault| unusable(&fault))?;
        let ended = identity.until_unix_millis.is_some_and(|until| until <= super::unix_millis());
        Ok((!ended).then_some(identity))
    }

    async fn introspection_url(&self, at: &IntrospectionAt) -> Result<Arc<str>, Denied> {
        let issuer = match at {
            IntrospectionAt::Url(url) => return Ok(url.clone()),
            IntrospectionAt::Issuer(issuer) => issuer,
        };
        let key = sha256(issuer.as_bytes());
        if let Some(known) = self.endpoints.get(&key) {
            return Ok(known);
        }
        let found = match discover(&self.outbound, issuer).await {
            Ok(metadata) => usable(issuer, metadata.introspection_endpoint, "introspection_endpoint"),
            Err(err) => Err(err),
        };
        let url = found.map_err(|err| {
            tracing::warn!(issuer = shown(issuer), "where to ask about tokens is not known: {err}");
            unavailable()
        })?;
        self.endpoints.insert(key, url.clone());
        Ok(url)
    }
}

/// RFC 7662 §2.1; the gateway shows who it is as RFC 6749 §2.3.1 says.
fn question(rule: &Introspection, url: &Arc<str>, token: &str) -> Call {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let credentials = format!("{}:{}", encode(&rule.client_id), encode(rule.client_secret.expose()));
    let authorization = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(credentials)));
    let mut headers = vec![
        (CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")),
        (ACCEPT, HeaderValue::from_static("application/json")),
    ];
    // Base64 is always a legal value.
    headers.extend(authorization.ok().map(|value| (AUTHORIZATION, value)));
    let body = form_urlencoded::Serializer::new(String::new())
        .append_pair("token", token)
        .append_pair("token_type_hint", "access_token")
        .finish();
    let (method, url, body) = (Method::POST, url.clone(), body.into());
    Call { purpose: "introspection", method, url, headers, body, answer_bytes_max: ANSWER_BYTES_MAX }
}
