//! How clients of an endpoint prove who they are, compiled. Made by `config::compile`; read by inbound (where the
//! credential is), by the authentication room (whether it holds) and by connections (whether the rule has changed).
//! Imports limits only.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::limits;
use super::secret::Secret;

/// The rule of one endpoint version. Two that are equal accept the same credentials.
#[derive(Debug, Default, PartialEq)]
pub struct Authentication {
    pub mode: Mode,
    /// Query parameter that may carry the token.
    pub token_query: Option<String>,
    /// `recheckInSeconds`, where the document has it.
    pub recheck: Option<Duration>,
    /// `refresh`: a client may show a new token while it is connected.
    pub refresh: bool,
}

/// The ways to prove who one is.
#[derive(Debug, Default, PartialEq)]
pub enum Mode {
    /// Not at all.
    #[default]
    None,
    /// With a name and a password.
    Basic(BasicUsers),
    /// With one of a list of keys.
    ApiKey(ApiKeys),
    /// With a token that a server says yes to.
    Bearer(BearerCheck),
    /// With a token that an issuer has signed.
    Jwt(JwtRule),
    /// With a token that an OAuth 2 server knows (RFC 7662).
    Oauth2(Introspection),
    /// With whatever a service makes of the handshake.
    Authorizer {
        /// `http` or `https`.
        url: Arc<str>,
    },
    /// With a certificate at the TLS handshake, of which this part is the user.
    ClientCertificate(CertificateName),
}

/// A part of a certificate that names whom it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateName {
    /// The subject's.
    CommonName,
    /// The first alternative name that is one of DNS.
    DnsName,
    /// The first that is an e-mail address.
    Email,
    /// The first that is a URI, such as a SPIFFE id.
    Uri,
    /// The whole subject (RFC 4514).
    Subject,
}

impl Authentication {
    /// As the document's `mode` writes it; a metric label.
    pub const fn mode_name(&self) -> &'static str {
        match self.mode {
            Mode::None => "none",
            Mode::Basic(_) => "basic",
            Mode::ApiKey(_) => "apiKey",
            Mode::Bearer(_) => "bearer",
            Mode::Jwt(_) => "jwt",
            Mode::Oauth2(_) => "oauth2",
            Mode::Authorizer { .. } => "authorizer",
            Mode::ClientCertificate(_) => "clientCertificate",
        }
    }

    /// The header that carries a credential, beside those that always may; lower case.
    pub fn secret_header(&self) -> Option<&str> {
        match &self.mode {
            Mode::ApiKey(ApiKeys { place: ApiKeyPlace::Header(name), .. }) => Some(name),
            _ => None,
        }
    }

    /// The query parameter that may carry a credential.
    pub fn secret_query(&self) -> Option<&str> {
        match &self.mode {
            Mode::ApiKey(ApiKeys { place: ApiKeyPlace::Query(name), .. }) => Some(name),
            _ => self.token_query.as_deref(),
        }
    }

    /// How often an open connection's credential is checked again. Credentials that the document itself holds need it
    /// only when the document changes, so it is up to the document.
    pub fn recheck_every(&self) -> Option<Duration> {
        let accepted_for = match &self.mode {
            Mode::None | Mode::Basic(_) | Mode::ApiKey(_) => return self.recheck,
            Mode::Bearer(check) => check.cache,
            Mode::Oauth2(rule) => rule.cache,
            Mode::Jwt(_) | Mode::Authorizer { .. } | Mode::ClientCertificate(_) => Duration::ZERO,
        };
        // Whoever says that an answer is good for an hour does not want to be asked every minute.
        let default = Duration::from_secs(limits::RECHECK_SECONDS_DEFAULT).max(accepted_for);
        Some(self.recheck.unwrap_or(default))
    }
}

/// The users of mode basic.
#[derive(Debug, PartialEq)]
pub struct BasicUsers(pub Vec<BasicUser>);

/// A user and what is known of the password.
#[derive(Debug, PartialEq)]
pub struct BasicUser {
    pub name: String,
    pub password: PasswordCheck,
}

/// What a password is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordCheck {
    /// An argon2id hash, PHC string format: tens of milliseconds a check.
    Argon2id(Arc<str>),
    /// SHA-256 of a password that this node itself knows: it is not stored.
    Digest([u8; 32]),
}

impl BasicUsers {
    pub fn find(&self, name: &str) -> Option<&BasicUser> {
        self.0.iter().find(|user| user.name == name)
    }
}

/// Where the client puts its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiKeyPlace {
    /// In the header of this name (lower case).
    Header(String),
    /// In the query parameter of this name.
    Query(String),
    /// As the subprotocol `bearer.<key>`.
    Subprotocol,
}

/// The accepted API keys, as digests.
#[derive(Debug, PartialEq)]
pub struct ApiKeys {
    /// Where to look for the key.
    pub place: ApiKeyPlace,
    /// Identity and SHA-256 of each key.
    pub keys: Vec<(String, [u8; 32])>,
}

impl ApiKeys {
    /// The identity of a key by its digest. Always compares with all keys, in constant time each.
    pub fn matches(&self, digest: &[u8; 32]) -> Option<&str> {
        let mut found = None;
        for (id, key) in &self.keys {
            if bool::from(key.ct_eq(digest)) {
                found = Some(id.as_str());
            }
        }
        found
    }
}

/// A server that says yes or no to a token.
#[derive(Debug, PartialEq)]
pub struct BearerCheck {
    pub url: Arc<str>,
    /// How long its yes is good for; zero: not at all.
    pub cache: Duration,
}

/// What a signed token must be.
#[derive(Debug, PartialEq)]
pub struct JwtRule {
    /// The `iss` that it must have.
    pub issuer: Option<String>,
    /// One of these must be among its `aud`; empty: any.
    pub audience: Vec<String>,
    pub keys: KeysFrom,
    /// How it may be signed: asymmetric algorithms only.
    pub algorithms: Vec<Algorithm>,
    /// All of these must be in its `scope` or `scp`.
    pub required_scopes: Vec<String>,
    /// Tolerance for clocks that differ.
    pub leeway: Duration,
}

/// Where the issuer's public keys are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeysFrom {
    /// A JSON Web Key Set (RFC 7517).
    Url(Arc<str>),
    /// At the `jwks_uri` of this issuer's metadata.
    Issuer(Arc<str>),
}

/// An OAuth 2 server that is asked about tokens.
#[derive(Debug, PartialEq)]
pub struct Introspection {
    pub at: IntrospectionAt,
    pub client_id: String,
    pub client_secret: Secret,
    /// All of these must be in the answer's `scope`.
    pub required_scopes: Vec<String>,
    /// How long its yes is good for, within the token's own life; zero: not at all.
    pub cache: Duration,
}

/// Where tokens are asked about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum IntrospectionAt {
    Url(Arc<str>),
    /// At the `introspection_endpoint` of this issuer's metadata.
    Issuer(Arc<str>),
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_keys_match_by_digest() {
        let keys = ApiKeys {
            place: ApiKeyPlace::Subprotocol,
            keys: vec![("a".into(), sha256(b"first")), ("b".into(), sha256(b"second"))],
        };
        assert_eq!(keys.matches(&sha256(b"first")), Some("a"));
        assert_eq!(keys.matches(&sha256(b"second")), Some("b"));
        for wrong in ["", "firs", "first ", "FIRST"] {
            assert_eq!(keys.matches(&sha256(wrong.as_bytes())), None);
        }
    }

    #[test]
    fn what_others_can_revoke_is_checked_again_within_a_minute() {
        let rule = |mode, recheck| Authentication { mode, token_query: None, recheck, refresh: false };
        let bearer = |cache| Mode::Bearer(BearerCheck { url: "http://h".into(), cache: Duration::from_secs(cache) });
        let seconds = |rule: Authentication| rule.recheck_every().map(|every| every.as_secs());
        assert_eq!(seconds(rule(Mode::Authorizer { url: "http://h".into() }, None)), Some(45));
        assert_eq!(seconds(rule(bearer(30), None)), Some(45));
        assert_eq!(seconds(rule(bearer(3600), None)), Some(3600), "as long as a yes is good for");
        assert_eq!(seconds(rule(bearer(3600), Some(Duration::from_secs(5)))), Some(5), "the document's own word");
        assert_eq!(seconds(rule(Mode::Basic(BasicUsers(Vec::new())), None)), None, "only the document can revoke it");
    }
}
