//! The dialling end of one connection to one peer: opens it on demand, matches answers to calls, reopens it with
//! backoff. Called by [`super::TcpTransport`] from any runtime; its task runs on the transport's own.
//!
//! ```text
//! Idle ─call─► Opening ─► Up ─broken─► Down ─backoff─► Reopening ─► Up
//!   ▲             └─────failed─────────►└─◄──failed───────┘
//!   └──────────── nobody called for a while ──┘            any ─forgotten─► Closed
//! ```
//! Calls wait in Opening and Up and fail at once in Down and Reopening. One mutex guards phase, queue and pending calls, so
//! that no call can slip into a queue that is being given up.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::dial::dial;
use super::frame::{decode, queue, read_frames, write_frames, Frame, NotQueued, Queue};
use super::options::{payload_bytes_max, CALLS_PENDING_MAX, REOPEN_WHILE_WANTED};
use super::Shared;
use crate::identity::NodeId;
use crate::stream::PeerStream;
use crate::transport::{Channel, PeerAddress, PeerError};

/// An answer with the id of the node that gave it.
pub(super) type Answer = Result<(NodeId, Bytes), PeerError>;

/// A link that was up for this long starts its backoff anew when it breaks.
const STEADY_LINK: Duration = Duration::from_secs(1);
/// 2^10 times the shortest backoff is past any sensible longest one.
const BACKOFF_DOUBLINGS_MAX: u32 = 10;

pub(super) struct Link {
    peer: PeerAddress,
    channel: Channel,
    shared: Arc<Shared>,
    closing: CancellationToken,
    inner: Mutex<Inner>,
}

struct Inner {
    phase: Phase,
    /// Present while calls are taken: in Opening and Up.
    queue: Option<Queue>,
    pending: HashMap<u64, Pending>,
    next_id: u64,
    last_wanted: Instant,
}

enum Phase {
    Idle,
    Opening,
    Up,
    Down(PeerError),
    Reopening(PeerError),
    Closed,
}

struct Pending {
    /// Set right before the frame is written: from then on the peer may have executed it.
    sent: bool,
    answer: oneshot::Sender<Answer>,
}

/// A call under way. Dropping it forgets the call.
pub(super) struct Waiting<'a> {
    link: &'a Link,
    id: u64,
    pub answer: oneshot::Receiver<Answer>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.link.lock().pending.remove(&self.id);
    }
}

impl Link {
    pub fn new(peer: PeerAddress, channel: Channel, shared: Arc<Shared>) -> Arc<Self> {
        let inner =
            Inner { phase: Phase::Idle, queue: None, pending: HashMap::new(), next_id: 1, last_wanted: Instant::now() };
        let closing = shared.closing.child_token();
        Arc::new(Self { peer, channel, shared, closing, inner: Mutex::new(inner) })
    }

    /// Queues a request, opening the link when nobody did so far. Does not wait.
    pub fn submit(self: &Arc<Self>, kind: u16, payload: Bytes) -> Result<Waiting<'_>, PeerError> {
        if payload.len() > payload_bytes_max(self.channel) {
            let most = payload_bytes_max(self.channel);
            return Err(self.refused(format!("a payload of {} bytes is over the limit of {most}", payload.len())));
        }
        if self.closing.is_cancelled() {
            return Err(self.unreachable("the link is closed here", false));
        }
        let mut inner = self.lock();
        inner.last_wanted = Instant::now();
        match &inner.phase {
            Phase::Opening | Phase::Up => {}
            Phase::Down(error) | Phase::Reopening(error) => return Err(error.clone()),
            Phase::Closed => return Err(self.unreachable("the link is closed here", false)),
            Phase::Idle => {
                let frames = inner.open(self);
                inner.phase = Phase::Opening;
                self.shared.tasks.spawn_on(self.clone().run(frames), &self.shared.runtime);
            }
        }
        if inner.pending.len() >= CALLS_PENDING_MAX {
            return Err(PeerError::QueueFull { addr: self.peer.addr.clone() });
        }
        let id = inner.next_id;
        let queued = inner.queue.as_ref().map_or(Err(NotQueued::Closed), |q| q.push(Frame::request(id, kind, payload)));
        queued.map_err(|not| match not {
            NotQueued::Full => PeerError::QueueFull { addr: self.peer.addr.clone() },
            NotQueued::Closed => self.unreachable("the link is just breaking", false),
        })?;
        inner.next_id += 1;
        let (answer, receiver) = oneshot::channel();
        inner.pending.insert(id, Pending { sent: false, answer });
        Ok(Waiting { link: self, id, answer: receiver })
    }

    /// Ends the link for good; calls under way fail.
    pub fn close(&self) {
        self.closing.cancel();
    }

    async fn run(self: Arc<Self>, mut frames: mpsc::Receiver<Frame>) {
        // Whoever starts this holds the lock until its request is queued: it is to hear how opening went, however fast.
        drop(self.lock());
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let error = tokio::select! {
                biased;
                () = self.closing.cancelled() => self.unreachable("the link was closed here", false),
                error = self.session(frames) => error,
            };
            let closed = self.closing.is_cancelled();
            let was_up = self.give_up(&error, closed);
            if closed {
                return;
            }
            tracing::debug!(peer = %self.peer.addr, channel = ?self.channel, %error, "link down");
            failures = if was_up && began.elapsed() >= STEADY_LINK { 0 } else { failures };
            tokio::select! {
                () = self.closing.cancelled() => {}
                () = tokio::time::sleep(self.backoff(failures)) => {}
            }
            failures += 1;
            match self.reopen() {
                Some(again) => frames = again,
                None => return,
            }
        }
    }

    /// From connecting to the break; returns why it ended.
    async fn session(&self, frames: mpsc::Receiver<Frame>) -> PeerError {
        let open = self.shared.timeouts.open;
        let (io, proven) = match tokio::time::timeout(open, dial(&self.peer, self.channel, &self.shared)).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return error,
            Err(_) => return self.unreachable(&format!("no connection within {} ms", open.as_millis()), false),
        };
        self.lock().phase = Phase::Up;
        let (peer, tls) = (&self.peer.addr, io.is_tls());
        tracing::debug!(%peer, node = proven.node_id, channel = ?self.channel, tls, "link up");
        let broken = match io {
            PeerStream::Plain(io) => {
                let (read, write) = io.into_split();
                self.carry(read, write, frames, proven.node_id).await
            }
            // Both halves are polled by this task, so their lock is never waited for.
            PeerStream::Tls(io) => {
                let (read, write) = tokio::io::split(*io);
                self.carry(read, write, frames, proven.node_id).await
            }
        };
        let reason = broken.err().map_or_else(|| "the peer closed the link".to_owned(), |error| error.to_string());
        self.unreachable(&reason, true)
    }

    /// Until one of the two directions ends.
    async fn carry<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &self,
        read: R,
        write: W,
        frames: mpsc::Receiver<Frame>,
        from: NodeId,
    ) -> io::Result<()> {
        tokio::select! {
            broken = self.read_answers(read, from) => broken,
            broken = write_frames(write, frames, |id| self.mark_sent(id)) => broken,
        }
    }

    /// Hands answers to their callers. `Ok` means that the peer closed the link.
    async fn read_answers<R: AsyncRead + Unpin>(&self, read: R, from: NodeId) -> io::Result<()> {
        let mut frames = read_frames(read, self.channel);
        while let Some(frame) = frames.next().await {
            let ((id, ok), payload) = decode::<(u64, bool)>(frame?)?;
            // An unknown id is an answer to a call that was given up.
            let Some(pending) = self.lock().pending.remove(&id) else { continue };
            let answer = if ok {
                Ok((from, payload))
            } else {
                Err(PeerError::Remote(String::from_utf8_lossy(&payload).into_owned()))
            };
            // The caller may have gone in this moment; then nobody misses the answer.
            let _ = pending.answer.send(answer);
        }
        Ok(())
    }

    fn mark_sent(&self, id: u64) -> bool {
        self.lock().pending.get_mut(&id).map(|pending| pending.sent = true).is_some()
    }

    /// Fails all calls under way. Tells whether the link was up.
    fn give_up(&self, error: &PeerError, closed: bool) -> bool {
        // Those who call from now on have sent nothing.
        let mut remembered = error.clone();
        set_sent(&mut remembered, false);
        let (calls, was_up) = {
            let mut inner = self.lock();
            inner.queue = None;
            let next = if closed { Phase::Closed } else { Phase::Down(remembered) };
            let before = std::mem::replace(&mut inner.phase, next);
            (std::mem::take(&mut inner.pending), matches!(before, Phase::Up))
        };
        for pending in calls.into_values() {
            let mut error = error.clone();
            set_sent(&mut error, pending.sent);
            let _ = pending.answer.send(Err(error));
        }
        was_up
    }

    /// After the backoff: a queue for the next session, or `None` when the link's task is to end.
    fn reopen(self: &Arc<Self>) -> Option<mpsc::Receiver<Frame>> {
        let mut inner = self.lock();
        if self.closing.is_cancelled() {
            inner.phase = Phase::Closed;
            return None;
        }
        if inner.last_wanted.elapsed() > REOPEN_WHILE_WANTED {
            inner.phase = Phase::Idle;
            return None;
        }
        if let Phase::Down(error) = std::mem::replace(&mut inner.phase, Phase::Opening) {
            inner.phase = Phase::Reopening(error);
        }
        Some(inner.open(self))
    }

    /// Doubling, with up to half taken off at random, so that peers of a restarted node do not come in step.
    fn backoff(&self, failures: u32) -> Duration {
        let timeouts = &self.shared.timeouts;
        let full = timeouts.backoff_min * 2_u32.pow(failures.min(BACKOFF_DOUBLINGS_MAX));
        full.min(timeouts.backoff_max).mul_f64(rand::random_range(0.5..=1.0))
    }

    fn unreachable(&self, reason: &str, sent: bool) -> PeerError {
        PeerError::Unreachable { addr: self.peer.addr.clone(), reason: reason.into(), sent }
    }

    fn refused(&self, reason: String) -> PeerError {
        PeerError::Refused { addr: self.peer.addr.clone(), reason }
    }

    /// Nothing panics while it is held, and if it did, the data would still be whole.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn open(&mut self, link: &Link) -> mpsc::Receiver<Frame> {
        let (queue, frames) = queue(link.shared.queue(link.channel));
        self.queue = Some(queue);
        frames
    }
}

fn set_sent(error: &mut PeerError, now: bool) {
    if let PeerError::Unreachable { sent, .. } = error {
        *sent = now;
    }
}
