//! The sending side of one connection, usable from every thread: a push is written by the thread that brings it, without
//! a hop to the connection's worker. Its lock is this connection's own, and held for one write at most.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::{Bytes, BytesMut};
use prometheus_client::metrics::counter::Counter;
use serde_json::Value;
use tokio::sync::oneshot;

use super::confirmations::Confirmations;
use super::connection::{steady_millis, unix_millis, Facts};
use super::labels::Labels;
use super::ledger::Ledger;
use super::offered::{Offered, Written};
use super::outbox::{encode_frame, Opcode, Outbox, Queued};
use super::resume::Tokens;
use super::watch::Watch;
use crate::close_code;
use crate::listener::ClientSocket;
use crate::model::connection_filter::ConnectionFilter;
use crate::model::delivery::{CloseCause, PushOutcome};
use crate::model::description;
use crate::model::endpoint::{OutboxSettings, WhenFull};
use crate::model::expression::RouteScratch;
use crate::model::live_endpoint::LiveEndpoint;
use crate::model::outbound;
use crate::telemetry::tail::Tail;

/// Frames written by one system call when a backlog drains.
const VECTORED_FRAMES: usize = 16;

thread_local! {
    /// Frames are encoded here before the socket takes them.
    static SCRATCH: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Where messages for a client go.
pub struct Outlet {
    pub(super) endpoint: Arc<LiveEndpoint>,
    /// None: it is lost, and its client may come back.
    io: ArcSwapOption<ClientSocket>,
    state: Mutex<State>,
    labels: Mutex<Labels>,
    confirmations: Mutex<Confirmations>,
    /// Whether the client owes a confirmation: its texts are then looked at.
    owes: AtomicBool,
    events_out: AtomicU64,
    /// Steady milliseconds of the last message either way.
    last_active: AtomicU64,
    pub(super) counters: Arc<OutletCounters>,
    pub(super) facts: Arc<Facts>,
    pub(super) activity: Activity,
    /// The connection description as a tree, once a template has asked for it.
    described: OnceLock<Arc<Value>>,
}

/// What the connection's worker counts of its client's messages; others may look. One writer, so no atomic addition.
#[derive(Debug, Default)]
pub(super) struct Activity {
    events_in: AtomicU64,
    in_flight: AtomicU32,
}

impl Activity {
    pub fn events_in(&self) -> u64 {
        self.events_in.load(Ordering::Relaxed)
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// So many more have been read.
    pub fn read(&self, count: u32) {
        self.events_in.store(self.events_in() + u64::from(count), Ordering::Relaxed);
        self.in_flight.store(self.in_flight() + count, Ordering::Relaxed);
    }

    /// One of those in flight is answered.
    pub fn done(&self) {
        self.in_flight.store(self.in_flight().saturating_sub(1), Ordering::Relaxed);
    }
}

/// What all connections of an endpoint count together.
#[derive(Debug)]
pub struct OutletCounters {
    /// Messages taken for clients.
    pub sent: Counter,
    /// Of those, the ones that gave way to others before they left.
    pub oldest_dropped: Counter,
    pub coalesced: Counter,
    /// Messages that were refused.
    pub newest_dropped: Counter,
    /// Who watches.
    pub tail: Arc<Tail>,
}

#[derive(Default)]
pub(super) struct State {
    pub outbox: Outbox,
    /// Nothing is taken any more.
    closed: bool,
    /// A sender has found that the connection must end; the driver sees to it.
    verdict: Option<CloseCause>,
    driver: Option<Waker>,
    /// There is no socket: messages wait for the client's return.
    pub away: bool,
    /// By what its client proves itself when it comes back; None: it never may.
    pub tokens: Option<Box<Tokens>>,
}

impl Outlet {
    /// `answer`, to the handshake, is the first that goes out.
    pub(super) fn new(
        endpoint: Arc<LiveEndpoint>,
        (io, answer): (ClientSocket, Bytes),
        counters: Arc<OutletCounters>,
        facts: Arc<Facts>,
    ) -> Arc<Outlet> {
        Arc::new(Outlet {
            endpoint,
            io: ArcSwapOption::from_pointee(io),
            state: Mutex::new(State { outbox: Outbox::behind(answer), ..State::default() }),
            labels: Mutex::default(),
            confirmations: Mutex::default(),
            owes: AtomicBool::new(false),
            events_out: AtomicU64::new(0),
            last_active: AtomicU64::new(steady_millis()),
            counters,
            facts,
            activity: Activity::default(),
            described: OnceLock::new(),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its groups and tags.
    pub(super) fn labels(&self) -> MutexGuard<'_, Labels> {
        self.labels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has no socket, and may get another.
    pub(super) fn is_away(&self) -> bool {
        self.state().away
    }

    pub fn is_open(&self) -> bool {
        !self.state().closed
    }

    pub fn endpoint_id(&self) -> &str {
        self.endpoint.id()
    }

    pub fn events_out(&self) -> u64 {
        self.events_out.load(Ordering::Relaxed)
    }

    /// By a clock that nobody sets: a wall clock that goes ahead would end all that are silent.
    pub fn idle_for(&self) -> Duration {
        Duration::from_millis(steady_millis().saturating_sub(self.last_active.load(Ordering::Relaxed)))
    }

    /// By the wall clock of now.
    pub fn last_active_millis(&self) -> u64 {
        unix_millis().saturating_sub(self.idle_for().as_millis() as u64)
    }

    pub(super) fn touch(&self) {
        self.last_active.store(steady_millis(), Ordering::Relaxed);
    }

    pub fn pending_bytes(&self) -> usize {
        self.state().outbox.bytes()
    }

    /// What may wait for a client that is there.
    pub(super) fn outbox_bytes_max(&self) -> usize {
        self.endpoint.current().settings.outbox.max_bytes
    }

    /// Whether its endpoint makes something else of every message.
    pub(super) fn transforms(&self) -> bool {
        self.endpoint.current().outbound.is_some()
    }

    /// Whether the connection, as it is now, fulfils the condition.
    pub(super) fn fulfils(&self, filter: &ConnectionFilter, scratch: &mut RouteScratch) -> bool {
        // A tree that a template has made is not for groups and tags, which change; nor is one kept for a passing question.
        let mut tree = description::tree(&self.facts.description);
        self.labels().describe(&mut tree);
        filter.holds(&tree, scratch)
    }

    /// Sends a message that others get too. `shared` is its frame, for those whose endpoint leaves it as it is.
    pub(super) fn deliver_shared(&self, message: &[u8], shared: &Bytes) -> PushOutcome {
        match self.transforms() {
            true => self.deliver(message),
            false => self.offer(&Offered::Frame(shared)),
        }
    }

    /// Sends a service's message, through the endpoint's outbound template if it has one.
    pub fn deliver(&self, message: &[u8]) -> PushOutcome {
        match self.made(message) {
            Ok(made) => self.send(Opcode::Text, &made),
            Err(outcome) => outcome,
        }
    }

    /// What the endpoint's outbound template, if it has one, makes of a message.
    pub(super) fn made<'m>(&self, message: &'m [u8]) -> Result<Cow<'m, [u8]>, PushOutcome> {
        let endpoint = self.endpoint.current();
        let Some(template) = &endpoint.outbound else { return Ok(Cow::Borrowed(message)) };
        let described = || self.described.get_or_init(|| Arc::new(description::tree(&self.facts.description))).clone();
        match outbound::transformed(template, &endpoint, message, described, unix_millis()) {
            Ok(made) => Ok(Cow::Owned(made.into_bytes())),
            Err(err) => Err(PushOutcome::TransformFailed(err.to_string())),
        }
    }

    /// Sends one message, of which something is to be known later.
    pub(super) fn send_watched(&self, payload: &[u8], watch: Watch) -> PushOutcome {
        self.offer_watched(&Offered::Payload(Opcode::Text, payload), Some(watch))
    }

    /// Lets go of waiting messages whose time is over.
    pub(super) fn drop_expired(&self) {
        self.state().outbox.drop_expired(Instant::now());
    }

    fn confirmations(&self) -> MutexGuard<'_, Confirmations> {
        self.confirmations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message with this id will want the client's confirmation. None: it owes too many, or has gone.
    pub(super) fn expect_confirmation(&self, id: u64) -> Option<oneshot::Receiver<()>> {
        let mut confirmations = self.confirmations();
        let word = confirmations.expect(id)?;
        self.owes.store(true, Ordering::Release);
        Some(word)
    }

    pub(super) fn forget_confirmation(&self, id: u64) {
        self.confirmations().forget(id);
    }

    pub(super) fn end_confirmations(&self) {
        self.confirmations().end();
    }

    /// Whether a text of the client is the confirmation of a message: no event then.
    pub fn is_confirmed_by(&self, text: &[u8]) -> bool {
        if !self.owes.load(Ordering::Acquire) {
            return false;
        }
        let mut confirmations = self.confirmations();
        let taken = confirmations.take(text);
        self.owes.store(!confirmations.is_empty(), Ordering::Release);
        taken
    }

    /// Sends one message as it is: on the spot when the socket takes it, else through the outbox under its policy.
    pub fn send(&self, opcode: Opcode, payload: &[u8]) -> PushOutcome {
        self.offer(&Offered::Payload(opcode, payload))
    }

    fn offer(&self, message: &Offered<'_>) -> PushOutcome {
        self.offer_watched(message, None)
    }

    fn offer_watched(&self, message: &Offered<'_>, watch: Option<Watch>) -> PushOutcome {
        let mut state = self.state();
        if state.closed {
            return PushOutcome::Gone;
        }
        let outcome = self.send_frame(&mut state, message, watch.is_some());
        if let (PushOutcome::Queued, Some(watch)) = (&outcome, watch) {
            // Nothing waits: the socket has taken all of it. Else it is the last that does.
            match state.outbox.is_empty() {
                true => watch.written(),
                false => state.outbox.watch_last(watch),
            }
        }
        if state.outbox.ledger.is_some() {
            state.mark_if_due(&self.endpoint.current().settings.outbox);
        }
        drop(state);
        if outcome == PushOutcome::Queued {
            self.events_out.fetch_add(1, Ordering::Relaxed);
            self.counters.sent.inc();
            self.touch();
        }
        if self.counters.tail.is_watched() {
            self.tell(message, &outcome);
        }
        outcome
    }

    fn send_frame(&self, state: &mut State, message: &Offered<'_>, watched: bool) -> PushOutcome {
        let endpoint = self.endpoint.current();
        let policy = &endpoint.settings.outbox;
        if message.len_at_most() > policy.max_bytes {
            return PushOutcome::TooBig;
        }
        let written = match state.outbox.is_empty() && !state.away {
            true => self.write_now(state, message),
            false => Ok(Written::No),
        };
        let queued = match written {
            Ok(Written::Whole) => return PushOutcome::Queued,
            Ok(Written::Partly) => Queued::Yes { dropped: 0 },
            Err(_) if state.tokens.is_none() => {
                state.condemn(CloseCause::lost());
                return PushOutcome::Gone;
            }
            // A socket that fails is found by the driver too; the message waits for the next one.
            Ok(Written::No) | Err(_) => {
                let key = message.key(policy);
                let leaves_in_order = key.is_none() && !watched;
                let queued = match state.away {
                    false => state.outbox.push(message.frame(), policy, key),
                    true => state.outbox.push_while_away(message.frame(), policy.when_full, key),
                };
                // One that many get is shared already.
                if let (Queued::Yes { .. }, Offered::Payload(..), true) = (queued, message, leaves_in_order) {
                    state.outbox.share_last();
                }
                queued
            }
        };
        match queued {
            Queued::Yes { dropped } => {
                self.count_dropped(policy, dropped);
                if !state.away {
                    state.wake_driver();
                }
                PushOutcome::Queued
            }
            Queued::Refused => {
                self.counters.newest_dropped.inc();
                PushOutcome::Full
            }
            Queued::Close => {
                state.condemn(CloseCause::gateway(close_code::SLOW_CONSUMER));
                PushOutcome::Gone
            }
        }
    }

    fn count_dropped(&self, policy: &OutboxSettings, dropped: u64) {
        match policy.when_full {
            _ if dropped == 0 => {}
            WhenFull::Coalesce => {
                self.counters.coalesced.inc_by(dropped);
            }
            _ => {
                self.counters.oldest_dropped.inc_by(dropped);
            }
        }
    }

    /// Offers a frame to the socket; the rest of what it took a part of is queued.
    fn write_now(&self, state: &mut State, message: &Offered<'_>) -> io::Result<Written> {
        let (opcode, payload) = match *message {
            Offered::Payload(opcode, payload) => (opcode, payload),
            Offered::Frame(shared) => {
                let taken = self.try_write(shared)?;
                return Ok(state.taken(taken, shared));
            }
        };
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            encode_frame(opcode, payload, scratch);
            let taken = self.try_write(scratch)?;
            if taken == scratch.len() && state.outbox.ledger.is_none() {
                return Ok(Written::Whole); // no copy
            }
            Ok(if taken == 0 { Written::No } else { state.taken(taken, &Bytes::copy_from_slice(scratch)) })
        })
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let io = self.io.load();
        match io.as_ref().map_or(Ok(0), |io| io.try_write(bytes)) {
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => Ok(0),
            written => written,
        }
    }

    /// Queues a ping; `false` when not even that has room.
    pub(super) fn queue_ping(&self) -> bool {
        let endpoint = self.endpoint.current();
        let mut state = self.state();
        state.closed || state.away || state.outbox.push_ping(&endpoint.settings.outbox)
    }

    /// Queues a control frame; `false` when not even that has room.
    pub(super) fn queue_control(&self, bytes: Bytes) -> bool {
        let endpoint = self.endpoint.current();
        let mut state = self.state();
        state.closed || state.away || state.outbox.push_control(bytes, &endpoint.settings.outbox)
    }

    /// Queues the answer to a ping, which is written by the driver.
    pub(super) fn pong(&self, bytes: Bytes) {
        let mut state = self.state();
        if !state.closed && !state.away {
            state.outbox.push_pong(bytes);
        }
    }

    /// Takes nothing more; the close frame, if any, is the last. `discard`: what is queued is not worth waiting for.
    pub(super) fn close(&self, last: Option<Bytes>, discard: bool) {
        let endpoint = self.endpoint.current();
        let mut state = self.state();
        state.closed = true;
        if discard {
            state.outbox.clear_unbegun();
        }
        if let Some(last) = last {
            // Without room for it the client does not read, and would not read this either.
            let _full = state.outbox.push_control(last, &endpoint.settings.outbox);
        }
        state.wake_driver();
    }

    pub(super) fn discard(&self) {
        self.state().outbox.clear();
    }

    // ---- a socket after the other, for the connection's worker

    /// Makes it one that may be resumed; `first` is what its client is told before all else.
    pub(super) fn make_resumable(&self, tokens: Tokens, ledger: Ledger, first: Bytes) {
        let endpoint = self.endpoint.current();
        let mut state = self.state();
        state.tokens = Some(Box::new(tokens));
        state.outbox.ledger = Some(Box::new(ledger));
        // Nothing is in the outbox yet, so that it has room for it.
        let _queued = state.outbox.push_control(first, &endpoint.settings.outbox);
    }

    /// The socket is gone, or to be given up: messages wait from now on. `goodbye` is tried, no more.
    pub(super) fn detach(&self, goodbye: Option<&[u8]>) {
        let mut state = self.state();
        if let Some(goodbye) = goodbye.filter(|_| !state.outbox.is_within_frame()) {
            let _tried = self.try_write(goodbye);
        }
        state.away = true;
        state.outbox.detach();
        drop(state);
        self.shutdown(std::net::Shutdown::Both);
        self.io.store(None);
    }

    /// The next socket.
    pub(super) fn attach(&self, io: ClientSocket, received: u64, first: Bytes) {
        let endpoint = self.endpoint.current();
        let mut state = self.state();
        self.io.store(Some(Arc::new(io)));
        state.away = false;
        state.outbox.attach(received, first);
        // Its pong says that the client has its new token.
        let _queued = state.outbox.push_ping(&endpoint.settings.outbox);
        state.wake_driver();
    }

    // ---- for the driver

    /// What a sender has found, if it has not been seen to yet.
    pub(super) fn take_verdict(&self) -> Option<CloseCause> {
        self.state().verdict.take()
    }

    pub(super) fn set_driver(&self, waker: &Waker) {
        let mut state = self.state();
        if !state.driver.as_ref().is_some_and(|known| known.will_wake(waker)) {
            state.driver = Some(waker.clone());
        }
    }

    pub(super) fn wake_driver(&self) {
        self.state().wake_driver();
    }

    /// Writes what is queued. `Ready(Ok(()))` when all of it is out.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut state = self.state();
            state.outbox.drop_expired(Instant::now());
            if state.outbox.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let io = self.io.load();
            let Some(io) = io.as_ref() else { return Poll::Pending };
            let mut slices = [IoSlice::new(&[]); VECTORED_FRAMES];
            let filled = state.outbox.slices(&mut slices);
            match io.try_write_vectored(&slices[..filled]) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    state.outbox.written(count);
                    state.mark_if_due(&self.endpoint.current().settings.outbox);
                    continue;
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                Err(err) => return Poll::Ready(Err(err)),
            }
            drop(state);
            match io.poll_write_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(err)) => return Poll::Ready(Err(err)),
                Poll::Ready(Ok(())) => {}
            }
        }
    }

    /// Reads once into the spare capacity of `buffer`. `Ready(Ok(0))` is the end of the stream.
    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        let io = self.io.load();
        io.as_ref().map_or(Poll::Pending, |io| io.poll_read(cx, buffer))
    }

    pub(super) fn shutdown(&self, how: std::net::Shutdown) {
        if let Some(io) = self.io.load().as_ref() {
            io.shutdown(how);
        }
    }
}

impl State {
    /// A socket has taken so many bytes of a message's frame.
    fn taken(&mut self, taken: usize, whole: &Bytes) -> Written {
        if taken == whole.len() {
            if let Some(ledger) = &mut self.outbox.ledger {
                ledger.sent(whole.clone());
            }
            return Written::Whole;
        }
        if taken == 0 {
            return Written::No;
        }
        self.outbox.push_partly_written(whole, taken);
        Written::Partly
    }

    /// A client that is sent much is asked often how much it has got.
    fn mark_if_due(&mut self, policy: &OutboxSettings) {
        if self.outbox.ledger.as_ref().is_some_and(|ledger| ledger.wants_mark()) {
            // Without room for it there will be another.
            let _queued = self.outbox.push_ping(policy);
            self.wake_driver();
        }
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn condemn(&mut self, cause: CloseCause) {
        self.closed = true;
        self.verdict.get_or_insert(cause);
        self.wake_driver();
    }

    pub fn wake_driver(&self) {
        if let Some(driver) = &self.driver {
            driver.wake_by_ref();
        }
    }
}
