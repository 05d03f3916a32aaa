//! Mode bearer: a server is asked whether a token is good. 2xx is yes, and a JSON object in the answer holds the claims;
//! 4xx is no; anything else, or silence, is neither.

use std::time::Duration;

use actix_http::header::{HeaderValue, ACCEPT, CONTENT_TYPE};
use actix_http::Method;
use serde_json::{json, Value};

use super::claims::{self, Identity};
use super::outbound::{Answer, Call};
use super::{shown, tokens, unavailable, Accepted, Authenticator, Credential, Denied, Holds, Token};
use crate::model::authentication::BearerCheck;

/// Claims are at most a quarter of it.
pub(super) const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Who the user is: the first of these that the answer has.
const USER_FIELDS: [&str; 3] = ["sub", "username", "userId"];

impl Authenticator {
    /// An answer that is younger than `max_age` need not be asked for.
    pub(super) async fn bearer(&self, check: &BearerCheck, token: &str, max_age: Duration) -> Result<Accepted, Denied> {
        let key = tokens::key(&check.url, token);
        let known = self.answers.get_or_ask(key, max_age, || self.ask_bearer(check, token)).await?;
        accepted(&known, token)
    }

    async fn ask_bearer(&self, check: &BearerCheck, token: &str) -> Result<Option<Identity>, Denied> {
        let body = json!({"access_token": token}).to_string();
        let answer = self.post_json("bearer", &check.url, body).await?;
        match answer.status {
            200..=299 => {}
            // Not about this token: try again later, too many.
            408 | 425 | 429 => return Err(unavailable()),
            400..=499 => return Ok(None),
            status => {
                tracing::warn!(url = shown(&check.url), status, "the authentication server did not say yes or no");
                return Err(unavailable());
            }
        }
        let claims = match serde_json::from_slice::<Value>(&answer.body) {
            Ok(Value::Object(claims)) => claims,
            _ => return Ok(Some(Identity { user: None, claims: None, until_unix_millis: None })),
        };
        let identity = claims::identity(claims, &USER_FIELDS).map_err(|unusable| {
            tracing::warn!(url = shown(&check.url), "the authentication server's answer cannot be used: {unusable}");
            unavailable()
        })?;
        // A yes about a token that has ended is none.
        let ended = identity.until_unix_millis.is_some_and(|until| until <= super::unix_millis());
        Ok((!ended).then_some(identity))
    }

    pub(super) async fn post_json(&self, purpose: &'static str, url: &str, body: String) -> Result<Answer, Denied> {
        let json = HeaderValue::from_static("application/json");
        let call = Call {
            purpose,
            method: Method::POST,
            url: url.into(),
            headers: vec![(CONTENT_TYPE, json.clone()), (ACCEPT, json)],
            body: body.into(),
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        self.outbound.call(call).await.map_err(|err| {
            tracing::warn!(url = shown(url), purpose, "the authentication server cannot be asked: {err}");
            unavailable()
        })
    }
}

/// A server's answer about a token, as the handshake's.
pub(super) fn accepted(known: &tokens::Known, token: &str) -> Result<Accepted, Denied> {
    let identity = known.identity.as_deref().ok_or(Denied::Wrong)?;
    Ok(Accepted {
        user: identity.user.clone(),
        claims: identity.claims.clone(),
        groups: Vec::new(),
        credential: Credential::Token(Token(token.into())),
        holds: Holds { until_unix_millis: identity.until_unix_millis, age: known.at.elapsed() },
    })
}
