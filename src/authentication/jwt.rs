//! Mode jwt: a signed token (RFC 7519) against its issuer's keys and the endpoint's rule. The rule says which algorithms
//! there are, a key says which family it is of, and the token's header can only agree with both: it cannot talk the
//! gateway into `none`, or into taking a public key for a shared secret. Nothing in the header is followed (`jku`, `jwk`,
//! `x5u`). Pure, but for fetching keys.

use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::claims;
use super::generations::Generations;
use super::jwks::{Key, Keys, Use};
use super::{unavailable, Accepted, Authenticator, Credential, Denied, Holds, Verdict};
use crate::model::authentication::{sha256, JwtRule};

/// A token without a key id is tried with so many keys; each try costs a signature's check.
const KEYS_TRIED_MAX: usize = 4;

/// Signatures remembered; twice so many at most.
const VERIFIED_MAX: usize = 16_384;

/// Whose signature a token was found to bear: a client that comes back shows the same one, and what it says is looked at
/// each time. By the SHA-256 of the token as it came, header and signature included.
pub struct Verified(Mutex<Generations<[u8; 32]>>);

impl Default for Verified {
    fn default() -> Verified {
        Verified(Mutex::new(Generations::new(VERIFIED_MAX)))
    }
}

/// What is wrong with a token. May be told to its bearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    #[error("the token is not a signed JWT")]
    Malformed,
    #[error("the token is signed with an algorithm that is not accepted here")]
    Algorithm,
    #[error("the token is signed with a key that is not known")]
    Key,
    #[error("the token's signature is not valid")]
    Signature,
    #[error("the token has expired, or does not say when it does")]
    Expired,
    #[error("the token is not valid yet")]
    TooEarly,
    #[error("the token is of another issuer")]
    Issuer,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token lacks a required scope")]
    Scope,
    #[error("the token's claims are too large, or no claims")]
    Claims,
}

impl TokenFault {
    /// A metric label.
    pub const fn outcome(self) -> &'static str {
        match self {
            TokenFault::Malformed => "malformed",
            TokenFault::Algorithm => "algorithm",
            TokenFault::Key => "unknown_key",
            TokenFault::Signature => "signature",
            TokenFault::Expired => "expired",
            TokenFault::TooEarly => "too_early",
            TokenFault::Issuer => "issuer",
            TokenFault::Audience => "audience",
            TokenFault::Scope => "scope",
            TokenFault::Claims => "claims",
        }
    }

    /// A token that nobody has signed is a guess; one that was signed and does not fit is a mistake.
    pub const fn is_guess(self) -> bool {
        matches!(self, TokenFault::Malformed | TokenFault::Algorithm | TokenFault::Key | TokenFault::Signature)
    }
}

/// A header's members that matter (RFC 7515 §4.1); one that comes twice is an error.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// A token taken apart.
struct Parts<'a> {
    algorithm: Algorithm,
    key_id: Option<String>,
    message: &'a str,
    payload: &'a str,
    signature: &'a str,
}

fn parts<'a>(token: &'a str, rule: &JwtRule) -> Result<Parts<'a>, TokenFault> {
    let (message, signature) = token.rsplit_once('.').ok_or(TokenFault::Malformed)?;
    let (header, payload) = message.split_once('.').ok_or(TokenFault::Malformed)?;
    if payload.contains('.') {
        return Err(TokenFault::Malformed); // five parts: encrypted
    }
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| TokenFault::Malformed)?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| TokenFault::Malformed)?;
    if header.crit.is_some() {
        return Err(TokenFault::Malformed); // RFC 7515 §4.1.11: what must be understood, and is not
    }
    let algorithm = Algorithm::from_str(&header.alg).map_err(|_| TokenFault::Algorithm)?;
    if !rule.algorithms.contains(&algorithm) {
        return Err(TokenFault::Algorithm);
    }
    Ok(Parts { algorithm, key_id: header.kid, message, payload, signature })
}

impl Parts<'_> {
    /// The keys that the token may be signed with.
    fn candidates<'k>(&self, keys: &'k Keys) -> impl Iterator<Item = &'k Key> + use<'k, '_> {
        keys.list
            .iter()
            .filter(|key| match &self.key_id {
                Some(id) => key.id.as_ref() == Some(id),
                None => true,
            })
            .filter(|key| key.algorithm.is_none_or(|only| only == self.algorithm))
            .filter(|key| key.public.is_for(self.algorithm))
            .take(KEYS_TRIED_MAX)
    }

    /// The key that has signed it: checked, or known from before and still among the candidates.
    fn verify<'k>(&self, token: &str, keys: &'k Keys, verified: &Verified) -> Result<&'k Key, TokenFault> {
        let digest = sha256(token.as_bytes());
        let known = verified.0.lock().unwrap_or_else(PoisonError::into_inner).get(&digest);
        if let Some(key) = known.and_then(|known| self.candidates(keys).find(|key| key.digest == known)) {
            return Ok(key);
        }
        let key = self.check_signature(keys)?;
        verified.0.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, key.digest);
        Ok(key)
    }

    fn check_signature<'k>(&self, keys: &'k Keys) -> Result<&'k Key, TokenFault> {
        let signature = URL_SAFE_NO_PAD.decode(self.signature).map_err(|_| TokenFault::Signature)?;
        let mut fault = TokenFault::Key;
        for key in self.candidates(keys) {
            if key.public.verifies(self.algorithm, self.message.as_bytes(), &signature) {
                return Ok(key);
            }
            fault = TokenFault::Signature;
        }
        Err(fault)
    }

    fn claims(&self) -> Result<Map<String, Value>, TokenFault> {
        let payload = URL_SAFE_NO_PAD.decode(self.payload).map_err(|_| TokenFault::Malformed)?;
        serde_json::from_slice(&payload).map_err(|_| TokenFault::Claims)
    }
}

/// Checks what a token says; answers when it ends, leeway included.
fn check_claims(rule: &JwtRule, claims: &Map<String, Value>, now: u64) -> Result<u64, TokenFault> {
    let leeway = rule.leeway.as_millis() as u64;
    let until = claims::until(claims).ok().flatten().ok_or(TokenFault::Expired)?.saturating_add(leeway);
    if until <= now {
        return Err(TokenFault::Expired);
    }
    if let Some(start) = claims.get("nbf").filter(|start| !start.is_null()) {
        let start = claims::numeric_date(start).ok_or(TokenFault::TooEarly)?;
        if start > now.saturating_add(leeway) {
            return Err(TokenFault::TooEarly);
        }
    }
    if let Some(issuer) = &rule.issuer {
        if claims.get("iss").and_then(Value::as_str) != Some(issuer) {
            return Err(TokenFault::Issuer);
        }
    }
    if !rule.audience.is_empty() {
        let wanted = |value: &Value| value.as_str().is_some_and(|name| rule.audience.iter().any(|one| one == name));
        let meant = match claims.get("aud") {
            Some(Value::Array(all)) => all.iter().any(wanted),
            Some(one) => wanted(one),
            None => false,
        };
        if !meant {
            return Err(TokenFault::Audience);
        }
    }
    match claims::has_scopes(claims, &rule.required_scopes) {
        true => Ok(until),
        false => Err(TokenFault::Scope),
    }
}

impl Authenticator {
    pub(super) async fn jwt(&self, rule: &JwtRule, token: &str) -> Result<Accepted, Denied> {
        let parts = parts(token, rule)?;
        let keys = self.keys.get(&rule.keys, Use::Handshake).await.ok_or_else(unavailable)?;
        let mut signed = parts.verify(token, &keys, &self.verified).map(|key| key.digest);
        if signed == Err(TokenFault::Key) {
            match self.keys.get_newer(&rule.keys, &keys).await {
                Ok(Some(newer)) => signed = parts.verify(token, &newer, &self.verified).map(|key| key.digest),
                Ok(None) => {}
                Err(()) => return Err(unavailable()),
            }
        }
        let key = signed?;
        let claims = parts.claims()?;
        let until = check_claims(rule, &claims, super::unix_millis())?;
        let identity = claims::identity(claims, &["sub"]).map_err(|_| TokenFault::Claims)?;
        Ok(Accepted {
            user: identity.user,
            claims: identity.claims,
            groups: Vec::new(),
            credential: Credential::Signed { key, algorithm: parts.algorithm },
            holds: Holds { until_unix_millis: Some(until), age: Duration::ZERO },
        })
    }

    /// A token that has been verified needs not be kept: what it said is in the connection's claims. Its key may have
    /// been withdrawn, and the rule may be another one.
    pub(super) async fn jwt_again(
        &self,
        rule: &JwtRule,
        (key, algorithm): (&[u8; 32], Algorithm),
        claims: Option<&Value>,
    ) -> Verdict {
        let Some(Value::Object(claims)) = claims else { return Verdict::Lapsed };
        let Ok(until) = check_claims(rule, claims, super::unix_millis()) else { return Verdict::Lapsed };
        if !rule.algorithms.contains(&algorithm) {
            return Verdict::Lapsed;
        }
        match self.keys.get(&rule.keys, Use::Recheck).await {
            None => Verdict::Unknown,
            Some(keys) if keys.list.iter().any(|known| known.digest == *key) => {
                Verdict::Holds(Holds { until_unix_millis: Some(until), age: Duration::ZERO })
            }
            Some(_) => Verdict::Lapsed,
        }
    }
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
