//! One client's connection on its worker: the in-flight window, the counters, the heartbeat, how it ends. Shared by the
//! driver and the actor of the same worker through an `Rc`; never leaves its thread, takes no lock. What other threads
//! may use is its [`Outlet`].

use std::cell::{Cell, RefCell};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::hub::Worker;
use super::outbox::{frame, Opcode};
use super::outlet::{Outlet, OutletCounters};
use super::resume::Resumable;
use crate::close_code::{self, CloseCode};
use crate::listener::ClientSocket;
use crate::model::connection_id::ConnectionId;
use crate::model::delivery::{CloseCause, PushOutcome};
use crate::model::live_endpoint::LiveEndpoint;
use crate::model::resume::NotResumed;
use crate::model::throttle::Admission;
use bytes::Bytes;

/// Facts fixed at the upgrade.
#[derive(Debug)]
pub struct Facts {
    pub id: ConnectionId,
    pub id_text: String,
    pub path: String,
    pub user: Option<String>,
    /// Named by the authorizer.
    pub groups: Box<[String]>,
    /// The endpoint's version that accepted it.
    pub version: u64,
    pub source_ip: IpAddr,
    pub user_agent: Option<String>,
    pub connected_at_millis: u64,
    /// The connection description of docs/http-api.md as a JSON object; credentials are never among it.
    pub description: Arc<str>,
}

/// What the upgrade hands over.
pub struct Opening {
    pub facts: Facts,
    pub endpoint: Arc<LiveEndpoint>,
    pub io: ClientSocket,
    /// The answer to the handshake. It goes out once the connection can be found: who has it may be pushed to.
    pub answer: Bytes,
    /// Bytes that the client sent right behind its handshake.
    pub early: Bytes,
    /// The number of the last event already emitted for this connection (its connect event, if any).
    pub last_sequence: u64,
    pub counters: Arc<OutletCounters>,
    /// Why it is a new one, although its client wanted another back.
    pub not_resumed: Option<NotResumed>,
    /// Its place among the endpoint's connections.
    pub admission: Admission,
}

/// How long a closing connection's last bytes and the client's half of the close are waited for.
pub const CLOSE_LINGER: Duration = Duration::from_secs(3);

/// What a closing connection's client still sends is read, so that the close frame is not lost to a reset; from so many
/// bytes on it waits in the socket's buffers, and its sender with it.
pub const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// Pings, pongs and closes of one client within a second; more is a flood: 1008. A client that measures its latency sends
/// a few, and pongs come as often as the heartbeat's pings.
pub const CONTROL_FRAMES_PER_SECOND_MAX: u32 = 256;

/// One client.
pub struct Connection {
    pub facts: Arc<Facts>,
    pub endpoint: Arc<LiveEndpoint>,
    pub worker: Rc<Worker>,
    pub outlet: Arc<Outlet>,
    /// Set while the reader waits for room in the in-flight window.
    reader_paused: Cell<bool>,
    violation: Cell<Option<CloseCode>>,
    cause: RefCell<Option<CloseCause>>,
    /// Set with the cause: when the socket is dropped whatever its state.
    close_deadline: Cell<Option<Instant>>,
    opened: Instant,
    last_read: Cell<Instant>,
    /// The control frames read in the second that began then.
    control_frames: Cell<(Instant, u32)>,
    missed_pings: Cell<u32>,
    sequence: Cell<u64>,
    /// Messages that were read whole and have not come out of the codec yet.
    undecoded: Cell<u32>,
    admission: Cell<Option<Admission>>,
    /// None: it ends with its socket.
    pub(super) resumable: Option<Box<Resumable>>,
}

impl Connection {
    pub(super) fn new(opening: Opening, worker: Rc<Worker>) -> Rc<Connection> {
        let Opening { facts, endpoint, io, answer, last_sequence, counters, not_resumed, admission, .. } = opening;
        let now = Instant::now();
        let facts = Arc::new(facts);
        let rule = endpoint.current().resume;
        let connection = Rc::new(Connection {
            outlet: Outlet::new(endpoint.clone(), (io, answer), counters, facts.clone()),
            facts,
            endpoint,
            worker,
            reader_paused: Cell::new(false),
            violation: Cell::new(None),
            cause: RefCell::new(None),
            close_deadline: Cell::new(None),
            opened: now,
            last_read: Cell::new(now),
            control_frames: Cell::new((now, 0)),
            missed_pings: Cell::new(0),
            sequence: Cell::new(last_sequence),
            undecoded: Cell::new(0),
            admission: Cell::new(Some(admission)),
            resumable: rule.map(|_| Box::default()),
        });
        if let Some(rule) = rule {
            connection.make_resumable(&rule, not_resumed);
        }
        connection
    }

    /// Its socket is gone: another client may have its place, though its last events may be under way.
    pub(super) fn leave_place(&self) {
        drop(self.admission.take());
    }

    // ---- state

    pub fn is_closing(&self) -> bool {
        self.close_deadline.get().is_some()
    }

    pub fn cause(&self) -> Option<CloseCause> {
        self.cause.borrow().clone()
    }

    pub fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    pub fn events_in(&self) -> u64 {
        self.outlet.activity.events_in()
    }

    /// The next number of this connection's events to backends.
    pub fn next_sequence(&self) -> u64 {
        let next = self.sequence.get() + 1;
        self.sequence.set(next);
        next
    }

    // ---- the in-flight window

    /// How many more messages may be read.
    pub fn window_left(&self) -> u32 {
        let max = self.endpoint.current().settings.max_in_flight;
        (max as u32).saturating_sub(self.in_flight())
    }

    pub(super) fn messages_read(&self, count: u32) {
        self.outlet.activity.read(count);
        self.undecoded.set(self.undecoded.get() + count);
        if count > 0 {
            self.outlet.touch();
        }
    }

    /// One of those has come out.
    pub(super) fn message_decoded(&self) {
        self.undecoded.set(self.undecoded.get().saturating_sub(1));
    }

    pub(super) fn undecoded(&self) -> u32 {
        self.undecoded.get()
    }

    /// What is left of a socket's messages will never come out.
    pub(super) fn give_up_undecoded(&self) {
        for _ in 0..self.undecoded.take() {
            self.event_done();
        }
    }

    pub fn in_flight(&self) -> u32 {
        self.outlet.activity.in_flight()
    }

    /// One accepted message is delivered, or has failed for good.
    pub fn event_done(&self) {
        self.outlet.activity.done();
        if self.reader_paused.replace(false) {
            self.outlet.wake_driver();
        }
    }

    /// The frame guard has stopped the stream; the driver closes when what came before is decoded.
    pub(super) fn violated(&self, close: CloseCode) {
        self.violation.set(Some(close));
    }

    pub(super) fn take_violation(&self) -> Option<CloseCode> {
        self.violation.take()
    }

    pub(super) fn pause_reader(&self) {
        self.reader_paused.set(true);
    }

    // ---- sending and closing

    /// Sends one message to the client.
    pub fn send(&self, opcode: Opcode, payload: &[u8]) -> PushOutcome {
        self.outlet.send(opcode, payload)
    }

    /// Answers a ping.
    pub(super) fn pong(&self, payload: &[u8]) {
        self.outlet.pong(frame(Opcode::Pong, payload));
    }

    /// How many control frames may still come within the second.
    pub(super) fn control_frames_left(&self) -> u32 {
        CONTROL_FRAMES_PER_SECOND_MAX.saturating_sub(self.control_frames_now().1)
    }

    /// Counts control frames that were read.
    pub(super) fn control_frames_read(&self, count: u32) {
        if count > 0 {
            let (since, seen) = self.control_frames_now();
            self.control_frames.set((since, seen + count));
        }
    }

    fn control_frames_now(&self) -> (Instant, u32) {
        // Reading has just set it.
        let now = self.last_read.get();
        let (since, seen) = self.control_frames.get();
        if now.duration_since(since) >= Duration::from_secs(1) {
            (now, 0)
        } else {
            (since, seen)
        }
    }

    /// Queues bytes that the actor's context has encoded, or a ping.
    pub(super) fn queue_control(&self, bytes: Bytes) {
        if !self.outlet.queue_control(bytes) {
            self.close(CloseCause::gateway(close_code::SLOW_CONSUMER));
        }
    }

    /// Ends the connection: the first cause counts. What is queued before the close frame still goes out, unless the
    /// client is the reason that it does not; the socket is dropped after [`CLOSE_LINGER`] whatever happens.
    pub fn close(&self, cause: CloseCause) {
        if self.is_closing() {
            return;
        }
        self.no_longer_away();
        self.close_deadline.set(Some(Instant::now() + CLOSE_LINGER));
        let last = (cause.code != 1006).then(|| {
            let mut payload = Vec::with_capacity(2 + cause.reason.len());
            if cause.code != 1005 {
                payload.extend_from_slice(&cause.code.to_be_bytes());
                payload.extend_from_slice(cause.reason.as_bytes());
                payload.truncate(125);
            }
            frame(Opcode::Close, &payload)
        });
        let discard = matches!(cause.code, 1006 | 1013 | 4408);
        *self.cause.borrow_mut() = Some(cause);
        self.outlet.close(last, discard);
        self.worker.schedule(self.facts.id.random, CLOSE_LINGER);
    }

    // ---- the socket, for the driver and the reader of this worker

    /// Reads once into the worker's shared buffer. `Ready(Ok(None))` is the end of the stream.
    pub(super) fn poll_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let mut buffer = self.worker.read_buffer.borrow_mut();
        buffer.reserve(Worker::READ_BYTES);
        match self.outlet.poll_read(cx, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(err)) => Poll::Ready(Err(err)),
            Poll::Ready(Ok(0)) => Poll::Ready(Ok(None)),
            Poll::Ready(Ok(_)) => {
                self.last_read.set(Instant::now());
                self.missed_pings.set(0);
                Poll::Ready(Ok(Some(buffer.split().freeze())))
            }
        }
    }

    /// Something has come from the client, a socket at least.
    pub(super) fn heard(&self) {
        self.last_read.set(Instant::now());
        self.missed_pings.set(0);
        self.outlet.touch();
    }

    pub(super) fn past_close_deadline(&self) -> bool {
        self.close_deadline.get().is_some_and(|deadline| Instant::now() >= deadline)
    }

    // ---- time

    /// Called by the worker's wheel. Sends pings, notices what is overdue; returns when to come back.
    pub(super) fn tick(&self) -> Duration {
        if let Some(deadline) = self.close_deadline.get() {
            self.outlet.wake_driver();
            return deadline.saturating_duration_since(Instant::now());
        }
        let endpoint = self.endpoint.current();
        let settings = &endpoint.settings;
        let mut next = settings.heartbeat_interval;
        if let Some(max) = settings.max_connection_duration {
            let left = max.saturating_sub(self.opened.elapsed());
            if left.is_zero() {
                self.close(CloseCause::gateway(close_code::MAX_DURATION));
                return CLOSE_LINGER;
            }
            next = next.min(left);
        }
        if self.is_away() {
            return next; // neither silence nor pings mean anything without a socket
        }
        if let Some(idle) = settings.idle_timeout {
            let left = idle.saturating_sub(self.outlet.idle_for());
            if left.is_zero() {
                self.close(CloseCause::gateway(close_code::IDLE));
                return CLOSE_LINGER;
            }
            next = next.min(left);
        }
        let quiet = self.last_read.get().elapsed();
        // While the window is full we do not read, so a missing pong says nothing about the client.
        if quiet + Duration::from_millis(500) >= settings.heartbeat_interval && !self.reader_paused.get() {
            if self.missed_pings.get() >= settings.heartbeat_max_missing {
                let cause = CloseCause::gateway(close_code::HEARTBEAT_MISSED);
                if !self.lose(cause.clone()) {
                    self.close(cause);
                }
                return CLOSE_LINGER;
            }
            self.missed_pings.set(self.missed_pings.get() + 1);
            if !self.outlet.queue_ping() {
                self.close(CloseCause::gateway(close_code::SLOW_CONSUMER));
            }
            self.outlet.wake_driver();
        } else {
            next = next.min(settings.heartbeat_interval.saturating_sub(quiet));
        }
        next.max(Duration::from_millis(200))
    }
}

/// Of a clock that nobody sets, from some moment of this process on.
pub fn steady_millis() -> u64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGAN.elapsed().as_millis() as u64
}

pub fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
