//! What a load counts: windows, completions, latencies. Shared by the threads that send and the threads that
//! receive; completion is signalled through here, in memory, never over the network.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};

use crate::event::{Stamp, HELLO_RUN};
use crate::stats::{Histogram, Latencies};

/// Nanoseconds since this was first called, on the monotonic clock: one clock for senders and receivers.
pub fn now_nanos() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// A panic elsewhere ends the program anyway; until then the figures behind the lock are whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When an event is done with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ends {
    /// When the other side has received it.
    Received,
    /// When its sender has got its ack.
    Acknowledged,
    /// When so many have received it. A slot has one outstanding at a time.
    ReceivedBy(usize),
}

/// One bounded load: at most `limit` events, at most `window` of them outstanding per slot.
pub struct Run {
    id: u64,
    window: usize,
    limit: u64,
    ends: Ends,
    windows: Vec<Semaphore>,
    /// Who has received the slot's event so far, where it is for several.
    receivers: Vec<AtomicUsize>,
    issued: AtomicU64,
    settled: AtomicU64,
    failed: AtomicU64,
    /// When the latest event was settled, in `now_nanos`.
    last_nanos: AtomicU64,
    stopped: AtomicBool,
    /// Until an event was done with.
    latencies: Mutex<Histogram>,
    /// Until each of an event's receivers had it, where it is for several.
    receipts: Mutex<Histogram>,
    finished: Notify,
}

impl Run {
    /// Waits for room in the slot's window and takes all there is, up to what is left of the limit: the sequence
    /// of events to send now. `None`: the load is over.
    pub async fn claim(&self, slot: usize) -> Option<u64> {
        let window = &self.windows[slot];
        window.acquire().await.ok()?.forget();
        let mut wanted = 1;
        while wanted < self.window as u64 && window.try_acquire().map(|permit| permit.forget()).is_ok() {
            wanted += 1;
        }
        if self.stopped.load(Ordering::Relaxed) {
            return None;
        }
        let before = self.issued.fetch_add(wanted, Ordering::Relaxed);
        let granted = self.limit.saturating_sub(before).min(wanted);
        (granted > 0).then_some(granted)
    }

    /// The stamp of an event that is sent now.
    pub fn stamp(&self, slot: usize) -> Stamp {
        Stamp { run: self.id, slot: slot as u64, sent_nanos: now_nanos() }
    }

    /// An event that will never arrive, and whose sender knows it.
    pub fn fail(&self, slot: usize) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.settle(slot);
    }

    /// Whether events are done with when their senders have got an ack.
    pub fn wants_acks(&self) -> bool {
        self.ends == Ends::Acknowledged
    }

    /// One receiver has it.
    fn received(&self, stamp: Stamp) {
        match self.ends {
            Ends::Received => self.complete(stamp),
            Ends::Acknowledged => {}
            Ends::ReceivedBy(all) => {
                let Some(receivers) = self.receivers.get(stamp.slot as usize) else { return };
                lock(&self.receipts).record(now_nanos().saturating_sub(stamp.sent_nanos));
                if receivers.fetch_add(1, Ordering::AcqRel) + 1 == all {
                    receivers.store(0, Ordering::Release);
                    self.complete(stamp);
                }
            }
        }
    }

    fn complete(&self, stamp: Stamp) {
        let now = now_nanos();
        self.last_nanos.store(now, Ordering::Relaxed);
        lock(&self.latencies).record(now.saturating_sub(stamp.sent_nanos));
        self.settle(stamp.slot as usize);
    }

    fn settle(&self, slot: usize) {
        if let Some(window) = self.windows.get(slot) {
            window.add_permits(1);
        }
        if self.settled.fetch_add(1, Ordering::AcqRel) + 1 >= self.limit {
            self.finished.notify_one();
        }
    }

    /// Ends a run before its limit: nothing more is granted.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.windows.iter().for_each(Semaphore::close);
        self.finished.notify_one();
    }

    /// Waits for the end: all events settled, or `longest` over (or the run stopped) and the outstanding ones given a
    /// moment.
    async fn wait(&self, longest: Duration) {
        let in_time = tokio::time::timeout(longest, self.finished.notified()).await.is_ok();
        if in_time && !self.stopped.load(Ordering::Relaxed) {
            return;
        }
        self.stop();
        const GRACE: Duration = Duration::from_secs(1);
        tokio::time::sleep(GRACE).await;
    }
}

/// What one run came to.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    pub completed: u64,
    /// Refused by the server, as their sender was told.
    pub failed: u64,
    /// Sent, neither received nor refused when the time was up.
    pub missing: u64,
    /// From the start to the last completion.
    pub seconds: f64,
    /// Until an event was done with.
    pub latencies: Latencies,
    /// Until each of its receivers had it, where an event is for several.
    pub receipts: Latencies,
}

/// The place where receivers report, and where the current run is found.
#[derive(Default)]
pub struct Board {
    current: RwLock<Option<Arc<Run>>>,
    runs: AtomicU64,
    connection_ids: Mutex<Vec<Option<String>>>,
    /// Requests with events in them that the backend has got.
    requests: AtomicU64,
    complaints: Mutex<Vec<String>>,
}

/// Kept complaints; more say nothing new.
const COMPLAINTS_MAX: usize = 5;

impl Board {
    #[cfg(test)]
    pub fn start(&self, slots: usize, window: usize, limit: u64) -> Arc<Run> {
        self.start_until(Ends::Received, slots, window, limit)
    }

    pub fn start_until(&self, ends: Ends, slots: usize, window: usize, limit: u64) -> Arc<Run> {
        let run = Arc::new(Run {
            id: HELLO_RUN + 1 + self.runs.fetch_add(1, Ordering::Relaxed),
            window,
            limit,
            ends,
            receivers: (0..slots).map(|_| AtomicUsize::new(0)).collect(),
            windows: (0..slots).map(|_| Semaphore::new(window)).collect(),
            issued: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_nanos: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            latencies: Mutex::new(Histogram::new()),
            receipts: Mutex::new(Histogram::new()),
            finished: Notify::new(),
        });
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(run.clone());
        run
    }

    /// Waits until the run is over, and sums it up. `started_nanos` is in `now_nanos`.
    pub async fn finish(&self, run: &Run, started_nanos: u64, longest: Duration) -> Outcome {
        run.wait(longest).await;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = None;
        let settled = run.settled.load(Ordering::Acquire);
        let failed = run.failed.load(Ordering::Relaxed);
        Outcome {
            completed: settled - failed,
            failed,
            missing: run.issued.load(Ordering::Relaxed).min(run.limit).saturating_sub(settled),
            seconds: run.last_nanos.load(Ordering::Relaxed).saturating_sub(started_nanos) as f64 / 1e9,
            latencies: lock(&run.latencies).latencies(),
            receipts: lock(&run.receipts).latencies(),
        }
    }

    /// An event arrived; `connection_id` is what the gateway says of the connection it came from, if it says anything.
    pub fn received(&self, stamp: Stamp, connection_id: Option<&[u8]>) {
        if stamp.run == HELLO_RUN {
            let id = connection_id.map(|id| String::from_utf8_lossy(id).into_owned());
            if let Some(entry) = lock(&self.connection_ids).get_mut(stamp.slot as usize) {
                *entry = id;
            }
            return;
        }
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        // Late events of an earlier run count for nothing.
        if let Some(run) = current.as_ref().filter(|run| run.id == stamp.run) {
            run.received(stamp);
        }
    }

    /// The sender of slot `slot` has got the ack of what it has sent at `sent_nanos`.
    pub fn acknowledged(&self, slot: usize, sent_nanos: u64) {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = current.as_ref().filter(|run| run.wants_acks()) {
            run.complete(Stamp { run: run.id, slot: slot as u64, sent_nanos });
        }
    }

    /// The backend has got a request with events.
    pub fn requested(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Forgets the connections of an earlier server.
    pub fn expect_connections(&self, count: usize) {
        *lock(&self.connection_ids) = vec![None; count];
    }

    /// How many of the expected connections are known.
    pub fn known_connections(&self) -> usize {
        lock(&self.connection_ids).iter().flatten().count()
    }

    /// The server's ids of all expected connections, by client, once all are known.
    pub fn connection_ids(&self) -> Option<Vec<String>> {
        lock(&self.connection_ids).iter().cloned().collect()
    }

    /// Something that a good run doesn't have: kept for the report, never fatal.
    pub fn complain(&self, what: String) {
        let mut complaints = lock(&self.complaints);
        if complaints.len() < COMPLAINTS_MAX && !complaints.contains(&what) {
            complaints.push(what);
        }
    }

    pub fn take_complaints(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.complaints))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_window_bounds_what_is_outstanding_and_the_limit_ends_the_run() {
        let board = Board::default();
        let run = board.start(1, 2, 3);
        let started = now_nanos();
        assert_eq!(run.claim(0).await, Some(2));
        assert!(tokio::time::timeout(Duration::from_millis(10), run.claim(0)).await.is_err());
        let stamp = run.stamp(0);
        board.received(stamp, None);
        assert_eq!(run.claim(0).await, Some(1));
        board.received(Stamp { run: stamp.run + 1, ..stamp }, None);
        board.received(stamp, None);
        run.fail(0);
        assert_eq!(run.claim(0).await, None);
        let outcome = board.finish(&run, started, Duration::from_secs(5)).await;
        assert_eq!((outcome.completed, outcome.failed, outcome.missing), (2, 1, 0));
    }

    #[tokio::test]
    async fn what_is_acknowledged_or_received_by_several_is_done_with_then() {
        let board = Board::default();
        let run = board.start_until(Ends::Acknowledged, 1, 1, 1);
        assert_eq!(run.claim(0).await, Some(1));
        let stamp = run.stamp(0);
        board.received(stamp, None);
        assert_eq!(run.settled.load(Ordering::Relaxed), 0);
        board.acknowledged(0, stamp.sent_nanos);
        assert_eq!(run.settled.load(Ordering::Relaxed), 1);

        let run = board.start_until(Ends::ReceivedBy(2), 1, 1, 2);
        for settled in 1..=2 {
            assert_eq!(run.claim(0).await, Some(1));
            let stamp = run.stamp(0);
            board.received(stamp, None);
            assert_eq!(run.settled.load(Ordering::Relaxed), settled - 1);
            board.received(stamp, None);
            assert_eq!(run.settled.load(Ordering::Relaxed), settled);
        }
        let outcome = board.finish(&run, 0, Duration::from_secs(5)).await;
        assert!(outcome.receipts.p50_nanos <= outcome.latencies.max_nanos, "the last of them is the latest");
    }

    #[tokio::test]
    async fn time_is_bounded_too() {
        let board = Board::default();
        let run = board.start(1, 1, 10);
        assert_eq!(run.claim(0).await, Some(1));
        let outcome = board.finish(&run, now_nanos(), Duration::from_millis(1)).await;
        assert_eq!((outcome.completed, outcome.missing), (0, 1));
        assert_eq!(run.claim(0).await, None);
    }

    #[tokio::test]
    async fn a_run_that_is_stopped_ends_before_its_limit() {
        let board = Board::default();
        let run = board.start(1, 1, u64::MAX);
        assert_eq!(run.claim(0).await, Some(1));
        board.received(run.stamp(0), None);
        run.stop();
        let outcome = board.finish(&run, now_nanos(), Duration::from_secs(60)).await;
        assert_eq!((outcome.completed, outcome.missing), (1, 0));
        assert_eq!(run.claim(0).await, None);
    }

    #[test]
    fn hellos_tell_connection_ids() {
        let board = Board::default();
        board.expect_connections(1);
        assert_eq!(board.connection_ids(), None);
        board.received(Stamp { run: HELLO_RUN, slot: 0, sent_nanos: 1 }, Some(b"c1"));
        assert_eq!(board.connection_ids(), Some(vec!["c1".to_owned()]));
    }
}
