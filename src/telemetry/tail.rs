//! The live tail: events and messages as they pass, for whoever watches just now. Nobody watching costs one load of an
//! atomic per event. A watcher has a budget that it refills by asking for more; what is above it is counted and not looked
//! at. Payloads are told redacted (`model::redaction`), headers and credentials never.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Notify;

use crate::model::endpoint::CompiledEndpoint;
use crate::model::json_path::JsonPath;

/// A watcher that has not asked for so long is gone.
const LEASE: Duration = Duration::from_secs(5);
/// At once on one node, those of other nodes' operators included.
pub const WATCHES_MAX: usize = 256;
/// What one watcher may want in a second.
pub const PER_SECOND_MAX: u32 = 500;
/// So many events are looked into for each that is wanted, when a watcher's condition is about what is in them.
const LOOKS: u32 = 4;
/// Larger payloads are told by their size alone.
const LOOKED_INTO_BYTES_MAX: usize = 16 * 1024;
/// Redacted payloads may be longer than payloads; longer ones than this are told by their size, too.
const DATA_BYTES_MAX: usize = 4 * 1024;
/// What may wait for one watcher: its records share the links between nodes with other things.
const WAITING_BYTES_MAX: usize = 512 * 1024;
/// A record without its payload.
const RECORD_BYTES: usize = 512;
/// Records that come together are told together.
const GATHERED_OVER: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// From a client.
    In,
    /// To a client.
    Out,
}

impl Direction {
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::In => "in",
            Direction::Out => "out",
        }
    }
}

/// What is wanted. Of the wire between nodes, which knows no defaults: another shape needs another kind of request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its id or its path.
    pub endpoint: Option<String>,
    pub connection: Option<String>,
    pub user: Option<String>,
    pub route: Option<String>,
    pub direction: Option<Direction>,
    pub outcome: Option<String>,
    /// A JSONPath that must find something in what is shown of the payload.
    pub matches: Option<String>,
    pub per_second: u32,
}

/// One event or message on its way, as who handles it knows it.
#[derive(Debug)]
pub struct Passing<'a> {
    pub endpoint: &'a CompiledEndpoint,
    pub connection: &'a str,
    pub user: Option<&'a str>,
    pub direction: Direction,
    pub kind: &'static str,
    pub route: Option<&'a str>,
    pub outcome: &'static str,
    /// What else is to be said of the outcome.
    pub detail: Option<String>,
    pub event_id: Option<&'a str>,
    pub sequence: Option<u64>,
    /// None: it has no payload that could be shown.
    pub payload: Option<&'a [u8]>,
    pub took_millis: Option<u64>,
}

/// What is told of it. Of the wire between nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub at_millis: u64,
    pub endpoint_id: String,
    pub path: String,
    pub connection: String,
    pub user: Option<String>,
    pub direction: Direction,
    pub kind: String,
    pub route: Option<String>,
    pub outcome: String,
    pub detail: Option<String>,
    pub event_id: Option<String>,
    pub sequence: Option<u64>,
    pub bytes: u64,
    pub took_millis: Option<u64>,
    /// JSON, redacted.
    pub data: Option<String>,
}

/// What has come since a watcher last asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    pub records: Vec<Record>,
    /// Matched, or could not be looked at, and was left out.
    pub skipped: u64,
}

struct Watch {
    owner: (u64, u64),
    wanted: Wanted,
    path: Option<JsonPath>,
    /// Records that may still be made; refilled when the watcher asks.
    left: AtomicU32,
    /// Payloads that may still be looked into for the path.
    looks_left: AtomicU32,
    skipped: AtomicU64,
    waiting: Mutex<Waiting>,
    came: Notify,
    asked_at: Mutex<Instant>,
}

/// What has been made and not been fetched.
#[derive(Default)]
struct Waiting {
    records: VecDeque<Record>,
    bytes: usize,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take_one(of: &AtomicU32) -> bool {
    of.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

impl Watch {
    /// What can be told without looking into the payload.
    fn wants(&self, passing: &Passing<'_>) -> bool {
        let Wanted { endpoint, connection, user, route, direction, outcome, .. } = &self.wanted;
        let is = |wanted: &Option<String>, found: Option<&str>| wanted.is_none() || wanted.as_deref() == found;
        direction.is_none_or(|wanted| wanted == passing.direction)
            && is(connection, Some(passing.connection))
            && is(user, passing.user)
            && is(route, passing.route)
            && is(outcome, Some(passing.outcome))
            && (is(endpoint, Some(&passing.endpoint.id)) || is(endpoint, Some(&passing.endpoint.path)))
    }

    fn offer(&self, passing: &Passing<'_>) {
        if !self.wants(passing) {
            return;
        }
        let mut data = None;
        if let Some(path) = &self.path {
            if !take_one(&self.looks_left) {
                self.skipped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            data = redacted(passing);
            if data.as_ref().is_none_or(|data| path.first(data).is_none()) {
                return;
            }
        }
        if !take_one(&self.left) {
            self.skipped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let data = data.or_else(|| redacted(passing));
        let record = record(passing, data);
        let bytes = RECORD_BYTES + record.data.as_ref().map_or(0, String::len);
        let mut waiting = lock(&self.waiting);
        if waiting.bytes + bytes > WAITING_BYTES_MAX {
            self.skipped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.bytes += bytes;
        waiting.records.push_back(record);
        drop(waiting);
        self.came.notify_one();
    }

    /// Gives it as much more as the time since it last asked is worth.
    fn refill(&self) {
        let mut asked_at = lock(&self.asked_at);
        let per_second = self.wanted.per_second.clamp(1, PER_SECOND_MAX);
        let worth = (asked_at.elapsed().as_secs_f64() * f64::from(per_second)) as u32;
        if worth > 0 {
            *asked_at = Instant::now();
            let more = |of: &AtomicU32, times: u32| {
                let full = per_second * times;
                let _always_some = of.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    Some(left.saturating_add(worth.saturating_mul(times)).min(full))
                });
            };
            more(&self.left, 1);
            more(&self.looks_left, LOOKS);
        }
    }

    fn take(&self) -> Batch {
        let Waiting { records, .. } = std::mem::take(&mut *lock(&self.waiting));
        Batch { records: records.into(), skipped: self.skipped.swap(0, Ordering::Relaxed) }
    }
}

/// What may be shown of a payload that is JSON.
fn redacted(passing: &Passing<'_>) -> Option<Value> {
    let payload = passing.payload.filter(|payload| payload.len() <= LOOKED_INTO_BYTES_MAX)?;
    let tree = serde_json::from_slice(payload).ok()?;
    Some(passing.endpoint.routed_by().redacted(&tree))
}

fn record(passing: &Passing<'_>, data: Option<Value>) -> Record {
    let text = |text: Option<&str>| text.map(str::to_owned);
    // A clock before 1970 tells nothing that could be told.
    let at_millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    Record {
        at_millis,
        endpoint_id: passing.endpoint.id.to_string(),
        path: passing.endpoint.path.to_string(),
        connection: passing.connection.to_owned(),
        user: text(passing.user),
        direction: passing.direction,
        kind: passing.kind.to_owned(),
        route: text(passing.route),
        outcome: passing.outcome.to_owned(),
        detail: passing.detail.clone(),
        event_id: text(passing.event_id),
        sequence: passing.sequence,
        bytes: passing.payload.map_or(0, |payload| payload.len() as u64),
        took_millis: passing.took_millis,
        data: data.map(|data| data.to_string()).filter(|data| data.len() <= DATA_BYTES_MAX),
    }
}

/// The watchers of one node.
#[derive(Default)]
pub struct Tail {
    watched: AtomicBool,
    watches: ArcSwap<Vec<Arc<Watch>>>,
    /// Held while the list is changed.
    changing: Mutex<()>,
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tail({} watches)", self.watches.load().len())
    }
}

impl Tail {
    /// Whether it is worth saying what passes.
    pub fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    pub fn watches(&self) -> usize {
        self.watches.load().len()
    }

    pub fn offer(&self, passing: &Passing<'_>) {
        for watch in self.watches.load().iter() {
            watch.offer(passing);
        }
    }

    /// What has passed since this watcher last asked; waits a while for the first record. The first call is when the
    /// watch begins, and it ends a few seconds after the last one.
    pub async fn watch(&self, owner: (u64, u64), wanted: &Wanted, wait: Duration) -> Result<Batch, String> {
        let watch = self.find_or_begin(owner, wanted)?;
        watch.refill();
        if lock(&watch.waiting).records.is_empty() {
            // An error: nothing has come.
            let _came = tokio::time::timeout(wait, watch.came.notified()).await;
            watch.refill();
        }
        if !lock(&watch.waiting).records.is_empty() {
            tokio::time::sleep(GATHERED_OVER).await;
        }
        Ok(watch.take())
    }

    fn find_or_begin(&self, owner: (u64, u64), wanted: &Wanted) -> Result<Arc<Watch>, String> {
        let find = |watches: &[Arc<Watch>]| {
            watches.iter().find(|watch| watch.owner == owner && watch.wanted == *wanted).cloned()
        };
        if let Some(watch) = find(&self.watches.load()) {
            return Ok(watch);
        }
        let path = wanted.matches.as_deref().map(JsonPath::parse).transpose();
        let path = path.map_err(|err| format!("its JSONPath is not understood here: {err}"))?;
        let per_second = wanted.per_second.clamp(1, PER_SECOND_MAX);
        let _changing = lock(&self.changing);
        let mut watches = Vec::clone(&self.watches.load());
        if watches.len() >= WATCHES_MAX {
            return Err(format!("{WATCHES_MAX} watch this node already"));
        }
        let watch = Arc::new(Watch {
            owner,
            wanted: wanted.clone(),
            path,
            left: AtomicU32::new(per_second),
            looks_left: AtomicU32::new(per_second * LOOKS),
            skipped: AtomicU64::new(0),
            waiting: Mutex::default(),
            came: Notify::new(),
            asked_at: Mutex::new(Instant::now()),
        });
        watches.push(watch.clone());
        self.watches.store(Arc::new(watches));
        self.watched.store(true, Ordering::Relaxed);
        Ok(watch)
    }

    /// Ends this watch.
    pub fn end(&self, owner: (u64, u64)) {
        self.retain(|watch| watch.owner != owner);
    }

    /// Ends the watches of those that do not ask any more.
    pub fn sweep(&self) {
        if self.is_watched() {
            self.retain(|watch| lock(&watch.asked_at).elapsed() < LEASE);
        }
    }

    fn retain(&self, keep: impl Fn(&Watch) -> bool) {
        let _changing = lock(&self.changing);
        let mut watches = Vec::clone(&self.watches.load());
        watches.retain(|watch| keep(watch));
        self.watched.store(!watches.is_empty(), Ordering::Relaxed);
        self.watches.store(Arc::new(watches));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn endpoint() -> CompiledEndpoint {
        let document = json!({"path": "/a", "routeSelector": "$.type", "routes": [
            {"type": "custom", "name": "orders", "key": "order", "backends": [{"type": "echo"}]},
            {"type": "default", "name": "rest", "backends": [{"type": "echo"}]}]});
        wsgateway_config::compile::compile("e1", 1, &serde_json::from_value(document).unwrap()).unwrap()
    }

    fn passing<'a>(endpoint: &'a CompiledEndpoint, connection: &'a str, payload: &'a [u8]) -> Passing<'a> {
        Passing {
            endpoint,
            connection,
            user: Some("alice"),
            direction: Direction::In,
            kind: "message",
            route: Some("orders"),
            outcome: "delivered",
            detail: None,
            event_id: Some("e-1"),
            sequence: Some(1),
            payload: Some(payload),
            took_millis: Some(3),
        }
    }

    fn wanted(per_second: u32) -> Wanted {
        Wanted { per_second, ..Wanted::default() }
    }

    #[tokio::test]
    async fn tells_what_is_wanted_redacted_and_nothing_before_it_is_asked() {
        let (tail, endpoint) = (Tail::default(), endpoint());
        let payload = br#"{"type": "order", "card": "4111"}"#;
        assert!(!tail.is_watched());
        let of_c1 = Wanted { connection: Some("c1".into()), endpoint: Some("/a".into()), ..wanted(10) };
        let nothing = Duration::from_millis(1);
        assert_eq!(tail.watch((1, 1), &of_c1, nothing).await, Ok(Batch::default()));
        assert!(tail.is_watched());
        tail.offer(&passing(&endpoint, "c2", payload));
        tail.offer(&passing(&endpoint, "c1", payload));
        tail.offer(&Passing {
            direction: Direction::Out,
            payload: Some(b"no JSON"),
            ..passing(&endpoint, "c1", payload)
        });
        let batch = tail.watch((1, 1), &of_c1, nothing).await.unwrap();
        assert_eq!((batch.records.len(), batch.skipped), (2, 0));
        let data: Value = serde_json::from_str(batch.records[0].data.as_ref().unwrap()).unwrap();
        assert_eq!(data, json!({"type": "order", "card": "‹4 chars›"}));
        assert_eq!((batch.records[1].data.as_ref(), batch.records[1].bytes), (None, 7));
        tail.end((1, 1));
        assert!(!tail.is_watched());
    }

    #[tokio::test]
    async fn a_path_is_asked_of_what_is_shown() {
        let (tail, endpoint) = (Tail::default(), endpoint());
        let by = |path: &str| Wanted { matches: Some(path.to_owned()), ..wanted(10) };
        let nothing = Duration::from_millis(1);
        // Who may not see a value may not find out by asking either.
        let (shown, hidden, there) = (by("$[?@ == 'order']"), by("$[?@ == '4111']"), by("$.card"));
        for (id, wanted) in [(1, &shown), (2, &hidden), (3, &there)] {
            tail.watch((1, id), wanted, nothing).await.unwrap();
        }
        tail.offer(&passing(&endpoint, "c1", br#"{"type": "order", "card": "4111"}"#));
        tail.offer(&passing(&endpoint, "c1", br#"{"type": "other"}"#));
        for (id, wanted, found) in [(1, &shown, 1), (2, &hidden, 0), (3, &there, 1)] {
            let batch = tail.watch((1, id), wanted, nothing).await.unwrap();
            assert_eq!(batch.records.len(), found, "{wanted:?}");
        }
        assert!(tail.watch((1, 4), &by("$["), nothing).await.is_err());
    }

    #[tokio::test]
    async fn what_is_above_the_budget_is_counted() {
        let (tail, endpoint) = (Tail::default(), endpoint());
        let nothing = Duration::from_millis(1);
        tail.watch((1, 1), &wanted(5), nothing).await.unwrap();
        for _ in 0..100 {
            tail.offer(&passing(&endpoint, "c1", b"{}"));
        }
        let batch = tail.watch((1, 1), &wanted(5), nothing).await.unwrap();
        assert_eq!((batch.records.len(), batch.skipped), (5, 95));
        let looking = Wanted { matches: Some("$.none".into()), ..wanted(5) };
        tail.watch((1, 2), &looking, nothing).await.unwrap();
        for _ in 0..100 {
            tail.offer(&passing(&endpoint, "c1", b"{}"));
        }
        let batch = tail.watch((1, 2), &looking, nothing).await.unwrap();
        assert_eq!((batch.records.len(), batch.skipped), (0, 100 - u64::from(5 * LOOKS)));
    }

    #[tokio::test]
    async fn what_waits_has_a_bound_in_bytes() {
        let (tail, endpoint) = (Tail::default(), endpoint());
        let nothing = Duration::from_millis(1);
        tail.watch((1, 1), &wanted(500), nothing).await.unwrap();
        // Grows when it is redacted.
        let small = format!("{{\"a\":[{}1]}}", "1,".repeat(20));
        let wide = format!("[{}1]", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],".repeat(31));
        tail.offer(&passing(&endpoint, "c1", wide.as_bytes()));
        let batch = tail.watch((1, 1), &wanted(500), nothing).await.unwrap();
        assert_eq!((batch.records[0].data.as_ref(), batch.records[0].bytes), (None, wide.len() as u64));
        let many = format!("[{small},{small},{small},{small},{small},{small},{small},{small}]");
        for _ in 0..499 {
            tail.offer(&passing(&endpoint, "c1", many.as_bytes()));
        }
        let batch = tail.watch((1, 1), &wanted(500), nothing).await.unwrap();
        let bytes: usize = batch.records.iter().map(|record| record.data.as_ref().map_or(0, String::len)).sum();
        assert!(bytes > 0 && bytes < WAITING_BYTES_MAX, "{bytes}");
        assert_eq!(batch.records.len() as u64 + batch.skipped, 499);
        assert!(batch.skipped > 0);
    }

    #[tokio::test]
    async fn a_watcher_that_waits_is_woken_and_one_that_is_gone_is_forgotten() {
        let (tail, endpoint) = (Arc::new(Tail::default()), endpoint());
        let waiting = tail.clone();
        let asked = tokio::spawn(async move { waiting.watch((1, 1), &wanted(5), Duration::from_secs(30)).await });
        while !tail.is_watched() {
            tokio::task::yield_now().await;
        }
        tail.offer(&passing(&endpoint, "c1", b"{}"));
        assert_eq!(asked.await.unwrap().unwrap().records.len(), 1);
        tail.sweep();
        assert!(tail.is_watched());
        for watch in tail.watches.load().iter() {
            *lock(&watch.asked_at) = Instant::now().checked_sub(LEASE * 2).unwrap();
        }
        tail.sweep();
        assert!(!tail.is_watched());
    }

    #[tokio::test]
    async fn no_more_watch_than_may() {
        let tail = Tail::default();
        for id in 0..WATCHES_MAX as u64 {
            tail.watch((1, id), &wanted(5), Duration::ZERO).await.unwrap();
        }
        assert!(tail.watch((1, 1000), &wanted(5), Duration::ZERO).await.is_err());
    }
}
