//! One supervisor per endpoint and node: connection actors register with it, and are told by it to close, or to look at
//! their credential again, when the endpoint's live version says so. It hears of configuration level-triggered ("read
//! again"), so a lost message is harmless. Runs under `actix::Supervisor` on an arbiter of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;

use super::session::{CloseSession, Reauthenticate, Session};
use crate::close_code::{self, CloseCode};
use crate::model::endpoint::{CompiledEndpoint, OnVersionChange};
use crate::model::live_endpoint::LiveEndpoint;

/// Registrations that may wait; a connection awaits its registration, so more than this only wait longer.
const MAILBOX_MESSAGES: usize = 8192;

/// How long to wait before telling sessions again whose mailbox was full.
const RETRY_AFTER: Duration = Duration::from_millis(100);

pub struct EndpointSupervisor {
    endpoint: Arc<LiveEndpoint>,
    sessions: HashMap<u128, Addr<Session>>,
    /// The version that the registered sessions have last been told about.
    seen: Arc<CompiledEndpoint>,
}

/// What a changed endpoint means for its connections.
#[derive(Clone, Copy)]
enum Word {
    Close(CloseCode),
    Reauthenticate,
}

impl Word {
    /// False: the session's mailbox is full.
    fn tell(self, session: &Addr<Session>) -> bool {
        match self {
            Word::Close(code) => !matches!(session.try_send(CloseSession(code)), Err(SendError::Full(_))),
            Word::Reauthenticate => !matches!(session.try_send(Reauthenticate), Err(SendError::Full(_))),
        }
    }
}

/// A connection has opened.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Register {
    pub key: u128,
    /// The version that accepted it.
    pub version: u64,
    pub session: Addr<Session>,
}

/// A connection has ended.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Unregister {
    pub key: u128,
}

/// Look at the endpoint's live version again.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Reread;

impl EndpointSupervisor {
    /// What the live version demands of connections that were told about another.
    fn verdict(&self, current: &CompiledEndpoint) -> Option<Word> {
        if self.endpoint.is_deleted() {
            return Some(Word::Close(close_code::ENDPOINT_DELETED));
        }
        if current.version != self.seen.version && current.settings.on_version_change == OnVersionChange::Close {
            return Some(Word::Close(close_code::NEW_VERSION));
        }
        (current.auth != self.seen.auth).then_some(Word::Reauthenticate)
    }

    /// Tells all sessions; those whose mailbox is full are told again a little later.
    fn tell_all(&mut self, word: Word, context: &mut Context<Self>) {
        let full = self.sessions.values().filter(|session| !word.tell(session));
        if full.count() > 0 {
            context.run_later(RETRY_AFTER, move |this, context| this.tell_all(word, context));
        }
    }
}

impl Actor for EndpointSupervisor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX_MESSAGES);
    }
}

impl Supervised for EndpointSupervisor {}

impl Handler<Register> for EndpointSupervisor {
    type Result = ();

    fn handle(&mut self, message: Register, _: &mut Self::Context) {
        if self.endpoint.is_deleted() {
            // Deleted between the upgrade and now: a new actor's mailbox is empty, so this cannot be full.
            Word::Close(close_code::ENDPOINT_DELETED).tell(&message.session);
        } else if self.endpoint.current().version != message.version {
            // Accepted by a version that is gone; what the others were told, this one has not heard.
            Word::Reauthenticate.tell(&message.session);
        }
        self.sessions.insert(message.key, message.session);
    }
}

impl Handler<Unregister> for EndpointSupervisor {
    type Result = ();

    fn handle(&mut self, message: Unregister, _: &mut Self::Context) {
        self.sessions.remove(&message.key);
        if self.sessions.is_empty() {
            self.sessions.shrink_to_fit();
        }
    }
}

impl Handler<Reread> for EndpointSupervisor {
    type Result = ();

    fn handle(&mut self, _: Reread, context: &mut Self::Context) {
        let current = self.endpoint.current_owned();
        let verdict = self.verdict(&current);
        self.seen = current;
        let (endpoint, connections) = (self.endpoint.id(), self.sessions.len());
        match verdict {
            Some(Word::Close(code)) => {
                tracing::info!(%endpoint, connections, code = code.code, "closing connections: {}", code.reason);
            }
            Some(Word::Reauthenticate) => {
                tracing::info!(%endpoint, connections, "its authentication has changed: checking connections");
            }
            None => {}
        }
        if let Some(word) = verdict {
            self.tell_all(word, context);
        }
    }
}

/// The supervisors of this node's endpoints. Cheap to clone.
#[derive(Clone)]
pub struct Supervisors {
    arbiter: ArbiterHandle,
    running: Arc<Mutex<HashMap<String, Addr<EndpointSupervisor>>>>,
}

impl Supervisors {
    pub fn new(arbiter: ArbiterHandle) -> Supervisors {
        Supervisors { arbiter, running: Arc::default() }
    }

    /// The endpoint's supervisor, started when this is its first connection.
    pub fn of(&self, endpoint: &Arc<LiveEndpoint>) -> Addr<EndpointSupervisor> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(supervisor) = running.get(endpoint.id()) {
            return supervisor.clone();
        }
        let supervised = endpoint.clone();
        let supervisor = Supervisor::start_in_arbiter(&self.arbiter, move |_| EndpointSupervisor {
            seen: supervised.current_owned(),
            endpoint: supervised,
            sessions: HashMap::new(),
        });
        // A handshake may have outlived its endpoint: its connection is told so when it registers.
        if !endpoint.is_deleted() {
            running.insert(endpoint.id().to_owned(), supervisor.clone());
        }
        supervisor
    }

    /// An endpoint has changed or gone. A supervisor with a full mailbox is told again on the next change or tick.
    pub fn reread(&self, endpoint: &LiveEndpoint) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(supervisor) = running.get(endpoint.id()) else { return };
        #[allow(clippy::disallowed_methods)] // one per change of configuration, and none may be lost
        supervisor.do_send(Reread);
        if endpoint.is_deleted() {
            running.remove(endpoint.id());
        }
    }
}
