//! Connections that outlive their sockets: how one is lost without ending, and how its client comes back to it. All of it
//! runs on the connection's worker, but for the look at a claim, which any thread may take.
//!
//! ```text
//! with a socket ──lose──► away ──resume──► with a socket
//!       └──────close──────► closed ◄─window over, close──┘
//! ```

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::Ordering;

use actix_rt::task::JoinHandle;
use bytes::Bytes;

use super::connection::Connection;
use super::hub::{Hub, Worker};
use super::ledger::Ledger;
use super::outbox::{frame, Opcode};
use super::outlet::Outlet;
use super::session::ClientEvents;
use crate::close_code;
use crate::listener::ClientSocket;
use crate::model::delivery::CloseCause;
use crate::model::resume::{resumed_frame, session_frame, Claim, NotResumed, ResumeRule, ResumeToken, TokenHash};

/// What proves a client that comes back.
#[derive(Debug)]
pub struct Tokens {
    current: TokenHash,
    /// The one before, until the client is known to have the current one: its socket may break before that.
    previous: Option<TokenHash>,
}

impl Tokens {
    pub fn new(token: &ResumeToken) -> Tokens {
        Tokens { current: token.hash(), previous: None }
    }

    fn admit(&self, token: &ResumeToken) -> bool {
        // Both, whatever the first says: how long it takes tells nothing.
        self.current.is_of(token) | self.previous.is_some_and(|previous| previous.is_of(token))
    }

    fn rotate(&mut self, shown: &ResumeToken, next: &ResumeToken) {
        *self = Tokens { current: next.hash(), previous: Some(shown.hash()) };
    }
}

/// What a connection that may be resumed has beyond others.
#[derive(Default)]
pub struct Resumable {
    away: RefCell<Option<Away>>,
    /// It has a new socket, and these are the first bytes from it.
    returned: RefCell<Option<Bytes>>,
    /// The handler, on its way from the actor of one socket to that of the next.
    parked: RefCell<Option<Box<dyn ClientEvents>>>,
    handing_over: Cell<bool>,
    /// How many sockets there have been.
    sockets: Cell<u32>,
}

/// Why there is no socket, and the end of the window.
struct Away {
    cause: CloseCause,
    timer: JoinHandle<()>,
}

impl Outlet {
    /// Whether a client with this claim can be sent all that it has missed.
    fn examine(&self, claim: &Claim) -> Result<(), NotResumed> {
        let state = self.state();
        let (Some(tokens), Some(ledger)) = (&state.tokens, &state.outbox.ledger) else {
            return Err(NotResumed::Unknown);
        };
        if state.is_closed() || !tokens.admit(&claim.token) {
            return Err(NotResumed::Unknown);
        }
        // Each return makes what waits owed, and room for as much again: a client that only comes back reads nothing.
        let bounded = state.outbox.bytes() <= ledger.max_bytes() + self.outbox_bytes_max();
        match bounded && ledger.can_go_on_from(claim.received) {
            true => Ok(()),
            false => Err(NotResumed::MissedTooMuch),
        }
    }

    fn rotate(&self, shown: &ResumeToken, next: &ResumeToken) {
        if let Some(tokens) = &mut self.state().tokens {
            tokens.rotate(shown, next);
        }
    }

    /// A pong: what was sent before its ping has arrived, the token in the session frame too.
    pub(super) fn ponged(&self, payload: &[u8]) {
        let Ok(number) = payload.try_into().map(u64::from_be_bytes) else { return };
        let mut state = self.state();
        let arrived = state.outbox.ledger.as_mut().is_some_and(|ledger| ledger.pong(number));
        if let (true, Some(tokens)) = (arrived, &mut state.tokens) {
            tokens.previous = None;
        }
    }
}

impl Connection {
    /// Called once, before anyone else knows of it.
    pub(super) fn make_resumable(&self, rule: &ResumeRule, why_new: Option<NotResumed>) {
        let token = ResumeToken::generate(self.facts.id);
        let first = session_frame(&self.facts.id_text, &token, rule, why_new);
        let ledger = Ledger::new(rule.max_bytes, self.worker.hub.resume_budget.clone());
        self.outlet.make_resumable(Tokens::new(&token), ledger, frame(Opcode::Text, &first));
    }

    pub(super) fn is_away(&self) -> bool {
        self.resumable.as_ref().is_some_and(|resumable| resumable.away.borrow().is_some())
    }

    /// The socket is gone. True: the connection waits for another; false: it is one that cannot.
    pub(super) fn lose(&self, cause: CloseCause) -> bool {
        let rule = self.endpoint.current().resume;
        let (Some(resumable), Some(rule)) = (&self.resumable, rule) else { return false };
        if self.is_closing() || self.worker.hub.is_draining() {
            return false;
        }
        if !self.is_away() {
            tracing::debug!(connection = %self.facts.id_text, "socket lost: {}", cause.reason);
            self.give_up_socket(resumable, &rule, cause, None);
        }
        true
    }

    fn give_up_socket(&self, resumable: &Resumable, rule: &ResumeRule, cause: CloseCause, goodbye: Option<&[u8]>) {
        self.outlet.detach(goodbye);
        let (worker, key, window) = (self.worker.clone(), self.facts.id.random, rule.window);
        let timer = actix_rt::spawn(async move {
            tokio::time::sleep(window).await;
            if let Some(connection) = worker.find(key) {
                connection.window_is_over();
            }
        });
        self.worker.hub.away.fetch_add(1, Ordering::Relaxed);
        resumable.away.replace(Some(Away { cause, timer }));
    }

    fn window_is_over(&self) {
        let cause = self.no_longer_away().unwrap_or_else(CloseCause::lost);
        self.close(cause);
    }

    /// Ends the state of being away; answers why it was.
    pub(super) fn no_longer_away(&self) -> Option<CloseCause> {
        let Away { cause, timer } = self.resumable.as_ref()?.away.take()?;
        timer.abort();
        self.worker.hub.away.fetch_sub(1, Ordering::Relaxed);
        Some(cause)
    }

    fn come_back(&self, resumable: &Resumable, rule: &ResumeRule, claim: &Claim, io: ClientSocket, early: Bytes) {
        if !self.is_away() {
            // Half-open, or another holder of the token.
            let close_code::CloseCode { code, reason } = close_code::SUPERSEDED;
            let payload = [&code.to_be_bytes()[..], reason.as_bytes()].concat();
            self.give_up_socket(resumable, rule, CloseCause::lost(), Some(&frame(Opcode::Close, &payload)));
        }
        self.no_longer_away();
        let next = ResumeToken::generate(self.facts.id);
        let first = resumed_frame(&self.facts.id_text, &next, rule, claim.received);
        self.outlet.rotate(&claim.token, &next);
        self.heard();
        resumable.returned.replace(Some(early));
        resumable.sockets.set(resumable.sockets.get() + 1);
        self.outlet.attach(io, claim.received, frame(Opcode::Text, &first));
    }

    // ---- from one actor to the next

    /// Tells one socket's stream from the next one's.
    pub(super) fn socket_number(&self) -> u32 {
        self.resumable.as_ref().map_or(0, |resumable| resumable.sockets.get())
    }

    /// The first bytes from a new socket, once.
    pub(super) fn take_returned(&self) -> Option<Bytes> {
        self.resumable.as_ref().and_then(|resumable| resumable.returned.take())
    }

    /// Takes the handler out of the actor that `end` ends.
    pub(super) fn handler_out_of(&self, end: impl FnOnce()) -> Option<Box<dyn ClientEvents>> {
        let resumable = self.resumable.as_ref()?;
        resumable.handing_over.set(true);
        end();
        resumable.handing_over.set(false);
        resumable.parked.take()
    }

    /// The handler comes back when its actor ends only to make place for another.
    pub(super) fn park(&self, events: Box<dyn ClientEvents>) -> Result<(), Box<dyn ClientEvents>> {
        match self.resumable.as_ref().filter(|resumable| resumable.handing_over.get()) {
            Some(resumable) => {
                resumable.parked.replace(Some(events));
                Ok(())
            }
            None => Err(events),
        }
    }
}

impl Worker {
    /// Whether a client that has proven to be `user` may have the connection back. One that was missed too much has no
    /// use for it any more: it ends.
    pub fn may_resume(&self, claim: &Claim, endpoint: &str, user: Option<&str>) -> Result<(), NotResumed> {
        let connection = self.to_resume(claim)?;
        if connection.endpoint.id() != endpoint {
            return Err(NotResumed::OtherEndpoint);
        }
        let examined = connection.outlet.examine(claim);
        if examined != Err(NotResumed::Unknown) && connection.facts.user.as_deref() != user {
            return Err(NotResumed::OtherUser);
        }
        if examined == Err(NotResumed::MissedTooMuch) {
            connection
                .close(CloseCause { reason: "connection lost, too much missed".to_owned(), ..CloseCause::lost() });
        }
        examined
    }

    /// Gives a connection its next socket. Asked again what [`Self::may_resume`] has said: time has passed. The socket
    /// comes back when nobody takes it.
    pub fn resume(&self, claim: &Claim, io: ClientSocket, early: Bytes) -> Result<(), ClientSocket> {
        let Ok(connection) = self.to_resume(claim) else { return Err(io) };
        let rule = connection.endpoint.current().resume;
        let (Some(resumable), Some(rule), Ok(())) = (&connection.resumable, rule, connection.outlet.examine(claim))
        else {
            return Err(io);
        };
        connection.come_back(resumable, &rule, claim, io, early);
        Ok(())
    }

    fn to_resume(&self, claim: &Claim) -> Result<Rc<Connection>, NotResumed> {
        let id = &claim.token.connection;
        let connection = self.find(id.random).filter(|connection| connection.facts.id == *id);
        connection.filter(|connection| !connection.is_closing()).ok_or(NotResumed::Unknown)
    }
}

impl Hub {
    /// Whether there is a connection that this claim is for, on whichever worker. From any thread; what depends on who the
    /// client is has yet to be asked.
    pub fn examine(&self, claim: &Claim) -> Result<(), NotResumed> {
        let outlet = self.outlet(claim.token.connection.random).ok_or(NotResumed::Unknown)?;
        match outlet.examine(claim) {
            Err(NotResumed::Unknown) => Err(NotResumed::Unknown),
            _ => Ok(()),
        }
    }
}
