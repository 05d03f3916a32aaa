//! Does a credential hold? One [`Authenticator`] per node: it compares passwords and keys, checks signatures and certificates, asks
//! authentication servers, and remembers what it may. Called by inbound, at the handshake and later for open
//! connections; imports model, listener, settings and telemetry.
//!
//! What travels: a credential is [`Presented`], checked, and becomes [`Accepted`] with what must be kept to check it
//! again ([`Credential`]). No secret and no token is ever in an error, a log line or a metric.

mod authorizer;
mod bearer;
mod certificate;
mod claims;
mod discovery;
mod generations;
mod guesses;
mod introspection;
mod jwks;
mod jwt;
mod outbound;
mod passwords;
mod public_key;
mod tokens;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::Algorithm;
use rustls::pki_types::CertificateDer;
use serde_json::Value;

use crate::listener::ListenerTls;
use crate::model::authentication::{sha256, ApiKeys, Authentication, BasicUsers, Mode, PasswordCheck};
use crate::telemetry::metrics::{AuthenticationLabels, Metrics};

pub use outbound::Outbound;

pub use certificate::CertificateFault;
use guesses::Guesses;
use introspection::Endpoints;
use jwks::KeySets;
use jwt::{TokenFault, Verified};
use passwords::Passwords;
use tokens::TokenAnswers;

/// What a client shows.
pub enum Presented<'a> {
    /// Nothing where the endpoint looks for it.
    Nothing,
    /// Mode basic.
    Password { user: &'a str, password: &'a str },
    /// Mode apiKey.
    Key(&'a str),
    /// The modes with tokens.
    Token(&'a str),
    /// Mode clientCertificate: its own, then those of its issuers; the TLS handshake has proven that it has the key.
    Certificates(&'a [CertificateDer<'static>]),
    /// Mode authorizer: the whole handshake,
    /// as a JSON object.
    Handshake(Arc<str>),
}

/// A credential that holds.
#[derive(Debug, Clone, Default)]
pub struct Accepted {
    pub user: Option<String>,
    pub claims: Option<Value>,
    pub groups: Vec<String>,
    pub credential: Credential,
    pub holds: Holds,
}

/// For how long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holds {
    /// When the credential ends by itself.
    pub until_unix_millis: Option<u64>,
    /// How old the knowledge is on which this rests.
    pub age: Duration,
}

/// What an open connection keeps in order to be checked again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Credential {
    /// It showed none.
    #[default]
    Anonymous,
    /// The check that the password has passed.
    Password(PasswordCheck),
    /// SHA-256 of the key.
    Key([u8; 32]),
    /// The token itself: its server is asked about it.
    Token(Token),
    /// Mode jwt: the key that has signed the token, and how. What it said is in the connection's claims.
    Signed { key: [u8; 32], algorithm: Algorithm },
    /// The request to the authorizer.
    Handshake(Arc<str>),
    /// What the TLS handshake has shown.
    Certificates(Arc<[CertificateDer<'static>]>),
}

/// A token; not for logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<str>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Why a client is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("credentials are required")]
    Missing,
    #[error("the credentials are not valid")]
    Wrong,
    #[error(transparent)]
    Token(#[from] TokenFault),
    #[error("the authorizer refused the connection")]
    Forbidden,
    #[error(transparent)]
    Certificate(#[from] CertificateFault),
    #[error("too many failed attempts from this address")]
    TooMany { retry_after: Duration },
    /// Nobody can say now whether the credential holds.
    #[error("the credentials cannot be checked now")]
    Unavailable { retry_after: Duration },
}

impl Denied {
    /// A metric label.
    pub const fn outcome(&self) -> &'static str {
        match self {
            Denied::Missing => "missing",
            Denied::Wrong => "wrong",
            Denied::Token(fault) => fault.outcome(),
            Denied::Forbidden => "forbidden",
            Denied::Certificate(fault) => fault.outcome(),
            Denied::TooMany { .. } => "too_many",
            Denied::Unavailable { .. } => "unavailable",
        }
    }

    /// Whether it counts against its address.
    const fn is_guess(&self) -> bool {
        match self {
            Denied::Wrong => true,
            Denied::Token(fault) => fault.is_guess(),
            Denied::Missing
            | Denied::Forbidden
            | Denied::Certificate(_)
            | Denied::TooMany { .. }
            | Denied::Unavailable { .. } => false,
        }
    }
}

/// When a client should try again whose credential could not be checked.
const RETRY_AFTER: Duration = Duration::from_secs(2);

fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// A URL for logs: its query may hold a secret.
fn shown(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

/// The server cannot be asked, or what it says cannot be used.
fn unavailable() -> Denied {
    Denied::Unavailable { retry_after: RETRY_AFTER }
}

/// Whether an open connection's credential still holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Holds(Holds),
    Lapsed,
    /// Nobody can say now.
    Unknown,
}

/// Checks credentials for a node.
pub struct Authenticator {
    outbound: Outbound,
    client_tls: Option<Arc<ListenerTls>>,
    guesses: Guesses,
    passwords: Passwords,
    answers: TokenAnswers,
    keys: KeySets,
    verified: Verified,
    endpoints: Endpoints,
    metrics: Metrics,
}

impl Authenticator {
    /// `threads` may be kept busy by password hashes at once.
    pub fn new(
        outbound: Outbound,
        client_tls: Option<Arc<ListenerTls>>,
        threads: usize,
        metrics: Metrics,
    ) -> Arc<Authenticator> {
        Arc::new(Authenticator {
            client_tls,
            keys: KeySets::new(outbound.clone()),
            verified: Verified::default(),
            endpoints: Endpoints::default(),
            outbound,
            guesses: Guesses::default(),
            passwords: Passwords::new(threads),
            answers: TokenAnswers::default(),
            metrics,
        })
    }

    /// Checks what a handshake from `address` presents.
    pub async fn check(
        &self,
        rule: &Authentication,
        address: IpAddr,
        presented: Presented<'_>,
    ) -> Result<Accepted, Denied> {
        let checked = match self.guesses.admit(address) {
            Ok(()) => self.check_presented(rule, address, presented).await,
            Err(retry_after) => Err(Denied::TooMany { retry_after }),
        };
        let outcome = checked.as_ref().map_or_else(Denied::outcome, |_| "accepted");
        self.metrics.authentications.get_or_create(&AuthenticationLabels { mode: rule.mode_name(), outcome }).inc();
        checked
    }

    async fn check_presented(
        &self,
        rule: &Authentication,
        address: IpAddr,
        presented: Presented<'_>,
    ) -> Result<Accepted, Denied> {
        let checked = match (&rule.mode, presented) {
            (Mode::None, _) => Ok(Accepted::default()),
            (Mode::Basic(users), Presented::Password { user, password }) => {
                self.check_password(users, user, password, || self.guesses.admit(address)).await
            }
            (Mode::ApiKey(keys), Presented::Key(key)) => check_key(keys, sha256(key.as_bytes())),
            (Mode::Bearer(check), Presented::Token(token)) => self.bearer(check, token, check.cache).await,
            (Mode::Jwt(rule), Presented::Token(token)) => self.jwt(rule, token).await,
            (Mode::Oauth2(rule), Presented::Token(token)) => self.introspect(rule, token, rule.cache).await,
            (Mode::Authorizer { url }, Presented::Handshake(facts)) => self.authorizer(url, facts).await,
            (Mode::ClientCertificate(name), Presented::Certificates(chain)) => {
                self.certificate(*name, chain.into()).map_err(Denied::from)
            }
            _ => Err(Denied::Missing),
        };
        if checked.as_ref().is_err_and(Denied::is_guess) {
            self.guesses.failed(address);
        }
        checked
    }

    async fn check_password(
        &self,
        users: &BasicUsers,
        name: &str,
        password: &str,
        may_go_on: impl Fn() -> Result<(), Duration>,
    ) -> Result<Accepted, Denied> {
        let user = users.find(name);
        // An unknown name costs what a wrong password costs: the answer's time must not tell them apart.
        let stand_in = || users.0.first().map(|user| &user.password);
        let Some(check) = user.map(|user| &user.password).or_else(stand_in) else { return Err(Denied::Wrong) };
        let matches = self.passwords.matches(password, check, may_go_on).await?;
        match (matches, user) {
            (true, Some(user)) => Ok(Accepted {
                user: Some(user.name.clone()),
                credential: Credential::Password(user.password.clone()),
                ..Accepted::default()
            }),
            _ => Err(Denied::Wrong),
        }
    }

    /// Whether what an open connection has shown is still accepted, by the rule as it is now. `user` is who it is, and
    /// `claims` are what was said of it then.
    pub async fn recheck(
        &self,
        rule: &Authentication,
        held: &Credential,
        user: Option<&str>,
        claims: impl FnOnce() -> Option<Value>,
    ) -> Verdict {
        let again = match (&rule.mode, held) {
            (Mode::None, _) => return Verdict::Holds(Holds::default()),
            (Mode::Basic(users), Credential::Password(check)) => {
                let still = user.and_then(|name| users.find(name)).is_some_and(|known| known.password == *check);
                return if still { Verdict::Holds(Holds::default()) } else { Verdict::Lapsed };
            }
            (Mode::ApiKey(keys), Credential::Key(digest)) => check_key(keys, *digest),
            (Mode::Bearer(check), Credential::Token(token)) => self.bearer(check, &token.0, tokens::FRESH).await,
            (Mode::Jwt(rule), Credential::Signed { key, algorithm }) => {
                return self.jwt_again(rule, (key, *algorithm), claims().as_ref()).await;
            }
            (Mode::Oauth2(rule), Credential::Token(token)) => self.introspect(rule, &token.0, tokens::FRESH).await,
            (Mode::Authorizer { url }, Credential::Handshake(facts)) => self.authorizer(url, facts.clone()).await,
            (Mode::ClientCertificate(name), Credential::Certificates(chain)) => {
                self.certificate(*name, chain.clone()).map_err(Denied::from)
            }
            _ => return Verdict::Lapsed,
        };
        match again {
            // Someone else's yes is none.
            Ok(accepted) if accepted.user.as_deref() == user => Verdict::Holds(accepted.holds),
            Err(Denied::Unavailable { .. }) => Verdict::Unknown,
            Ok(_) | Err(_) => Verdict::Lapsed,
        }
    }
}

fn check_key(keys: &ApiKeys, digest: [u8; 32]) -> Result<Accepted, Denied> {
    let id = keys.matches(&digest).ok_or(Denied::Wrong)?;
    Ok(Accepted { user: Some(id.to_owned()), credential: Credential::Key(digest), ..Accepted::default() })
}
