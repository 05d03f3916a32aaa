//! Watches over the credential of an open connection: closes it with 4401 when the credential ends, when a check says
//! that it is no longer accepted, or when the endpoint's document has dropped it. Keeps no more of it than a check needs.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::task::JoinHandle;
use serde::Deserialize;
use serde_json::Value;

use crate::authentication::{Accepted, Authenticator, Credential, Holds, Verdict};
use crate::close_code::{self, CloseCode};
use crate::connections::connection::unix_millis;
use crate::connections::Connection;
use crate::model::delivery::CloseCause;

/// While the authentication server cannot be asked, connections stay open for so long; a restart of it must not close
/// them all. What is known to have ended is closed all the same.
const SILENCE_MAX: Duration = Duration::from_secs(300);

/// Between two tries to ask a server that did not answer.
const SILENCE_RETRY: Duration = Duration::from_secs(10);

/// The clock is looked at so often at least: it may be set.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What the handshake has shown, and until when it holds.
#[derive(Debug, Default)]
pub struct Held {
    credential: Credential,
    holds: Holds,
    /// What it says, where that is not the connection's description.
    claims: Option<Value>,
}

impl Held {
    /// Nothing was shown, so nothing can end.
    pub fn is_nothing(&self) -> bool {
        self.credential == Credential::Anonymous && self.holds.until_unix_millis.is_none()
    }

    pub fn new(accepted: &mut Accepted) -> Held {
        Held { credential: std::mem::take(&mut accepted.credential), holds: accepted.holds, claims: None }
    }

    /// What a client shows that comes back to a connection which another credential has opened.
    pub fn returning(accepted: &mut Accepted) -> Held {
        Held { claims: accepted.claims.take(), ..Held::new(accepted) }
    }
}

/// One connection's watch; ends with the value.
pub struct CredentialWatch(Rc<State>);

struct State {
    authenticator: Arc<Authenticator>,
    connection: Rc<Connection>,
    credential: RefCell<Credential>,
    /// What a token says that took the place of the handshake's; None: what the connection's description says.
    claims: RefCell<Option<Value>>,
    until_unix_millis: Cell<Option<u64>>,
    /// When the last answer was given, as Unix milliseconds.
    known_at: Cell<u64>,
    /// How often the credential was exchanged: an answer about an earlier one is of no interest.
    exchanged: Cell<u64>,
    exchanging: Cell<bool>,
    /// Another watch has taken its place, or the connection is gone.
    ended: Cell<bool>,
    timer: RefCell<Option<JoinHandle<()>>>,
}

impl CredentialWatch {
    pub fn start(authenticator: Arc<Authenticator>, connection: Rc<Connection>, held: Held) -> CredentialWatch {
        let Held { credential, holds, claims } = held;
        let state = Rc::new(State {
            authenticator,
            connection,
            credential: RefCell::new(credential),
            claims: RefCell::new(claims),
            until_unix_millis: Cell::new(holds.until_unix_millis),
            known_at: Cell::new(unix_millis().saturating_sub(holds.age.as_millis() as u64)),
            exchanged: Cell::default(),
            exchanging: Cell::default(),
            ended: Cell::default(),
            timer: RefCell::default(),
        });
        state.restart_timer();
        CredentialWatch(state)
    }

    /// The endpoint's rule is another one now.
    pub fn rule_changed(&mut self) {
        let state = self.0.clone();
        actix_rt::spawn(async move { state.check().await });
        self.0.restart_timer();
    }

    /// Whoever has it may exchange the credential; None: somebody has it.
    pub fn exchange(&self) -> Option<Exchange> {
        (!self.0.exchanging.replace(true)).then(|| Exchange(self.0.clone()))
    }
}

/// A credential's exchange, under way while the value lives.
pub struct Exchange(Rc<State>);

impl Exchange {
    /// Takes a new credential in the place of the one before. False: the client has come back with another meanwhile.
    pub fn take(&self, accepted: Accepted) -> bool {
        let state = &self.0;
        if state.ended.get() {
            return false;
        }
        state.credential.replace(accepted.credential);
        state.claims.replace(accepted.claims);
        state.until_unix_millis.set(accepted.holds.until_unix_millis);
        state.known_at.set(unix_millis().saturating_sub(accepted.holds.age.as_millis() as u64));
        state.exchanged.set(state.exchanged.get() + 1);
        state.restart_timer();
        true
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.exchanging.set(false);
    }
}

impl Drop for CredentialWatch {
    fn drop(&mut self) {
        self.0.ended.set(true);
        if let Some(timer) = self.0.timer.take() {
            timer.abort();
        }
    }
}

impl State {
    /// A connection that neither ends by itself nor is checked again costs no timer.
    fn restart_timer(self: &Rc<Self>) {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
        if self.next_look(unix_millis()).is_some() {
            self.timer.replace(Some(actix_rt::spawn(self.clone().keep_watch())));
        }
    }

    /// When the credential is to be checked again.
    fn due_unix_millis(&self) -> Option<u64> {
        let every = self.connection.endpoint.current().auth.recheck_every()?;
        Some(self.known_at.get() + every.as_millis() as u64)
    }

    /// How long nothing needs to be done; None: for ever.
    fn next_look(&self, now: u64) -> Option<Duration> {
        let next = [self.until_unix_millis.get(), self.due_unix_millis()].into_iter().flatten().min()?;
        Some(Duration::from_millis(next.saturating_sub(now)).min(LOOK_EVERY))
    }

    async fn keep_watch(self: Rc<Self>) {
        while let Some(pause) = self.next_look(unix_millis()) {
            // A millisecond more than nothing, so that the clock has moved.
            tokio::time::sleep(pause + Duration::from_millis(1)).await;
            if self.connection.is_closing() {
                return;
            }
            let now = unix_millis();
            if self.until_unix_millis.get().is_some_and(|until| until <= now) {
                return self.close(close_code::CREDENTIAL_EXPIRED);
            }
            if self.due_unix_millis().is_some_and(|due| due <= now) && !self.check().await {
                tokio::time::sleep(SILENCE_RETRY).await;
            }
        }
    }

    /// Asks whether the credential still holds. False: nobody can say now.
    async fn check(&self) -> bool {
        let endpoint = self.connection.endpoint.current_owned();
        let asked_at = unix_millis();
        let facts = &self.connection.facts;
        let exchanged = self.exchanged.get();
        let credential = self.credential.borrow().clone();
        let claims = || self.claims.borrow().clone().or_else(|| claims_of(&facts.description));
        let verdict = self.authenticator.recheck(&endpoint.auth, &credential, facts.user.as_deref(), claims).await;
        if exchanged != self.exchanged.get() || self.ended.get() {
            return true;
        }
        match verdict {
            Verdict::Holds(holds) => {
                self.until_unix_millis.set(holds.until_unix_millis);
                self.known_at.set(asked_at.saturating_sub(holds.age.as_millis() as u64));
                true
            }
            Verdict::Lapsed => {
                self.close(close_code::CREDENTIAL_REVOKED);
                true
            }
            Verdict::Unknown => {
                if unix_millis().saturating_sub(self.known_at.get()) > SILENCE_MAX.as_millis() as u64 {
                    self.close(close_code::CREDENTIAL_REVOKED);
                }
                false
            }
        }
    }

    fn close(&self, code: CloseCode) {
        let connection = &self.connection.facts.id_text;
        tracing::debug!(%connection, endpoint = %self.connection.endpoint.id(), "{}", code.reason);
        self.connection.close(CloseCause::gateway(code));
    }
}

/// The claims in a connection's description.
fn claims_of(description: &str) -> Option<Value> {
    #[derive(Deserialize)]
    struct Claims {
        claims: Option<Value>,
    }
    serde_json::from_str::<Claims>(description).ok()?.claims
}
