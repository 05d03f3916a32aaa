//! From many threads into one task: a bounded queue of spans, and batches of them. Called by tracer; calls export.
//!
//! Only the first span after a silence wakes the task. Then it looks at the queue every few milliseconds on its own, so that
//! whoever hands over a span pays for no wake-up of another thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{channel, Receiver, Sender};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, Instant};

use crate::encode::Origin;
use crate::export::{Exporter, Pace, Stop};
use crate::settings::Target;
use crate::span::Span;

/// Spans of one request. OpenTelemetry's own default: some hundred kilobytes, where collectors take 20 MiB.
pub(crate) const BATCH_SPANS_MAX: usize = 512;

/// How often the task looks whether a batch is full. At a hundred thousand spans a second, 2000 have come by then.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What has become of the spans that were handed over.
#[derive(Debug, Default)]
pub struct Counters {
    /// Taken by the collector.
    pub exported: AtomicU64,
    /// There was no room in the queue.
    pub dropped_queue_full: AtomicU64,
    /// The collector did not take them, or the node has ended before it could.
    pub dropped_failed: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, spans: usize) {
        counter.fetch_add(spans as u64, Ordering::Relaxed);
    }
}

/// Where spans are handed over.
#[derive(Debug)]
pub(crate) struct Offer {
    queue: Sender<Span>,
    counters: Arc<Counters>,
}

impl Offer {
    pub fn offer(&self, span: Span) {
        match self.queue.try_send(span) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => Counters::add(&self.counters.dropped_queue_full, 1),
            Err(TrySendError::Closed(_)) => Counters::add(&self.counters.dropped_failed, 1),
        }
    }

    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

/// The task that sends spans. Dropping this leaves it to itself; then it ends with the last tracer.
#[derive(Debug)]
pub struct Exporting {
    pub counters: Arc<Counters>,
    /// None: there is nothing to send.
    running: Option<(watch::Sender<Option<Instant>>, JoinHandle<()>)>,
}

impl Exporting {
    pub(crate) fn nothing() -> Exporting {
        Exporting { counters: Arc::default(), running: None }
    }

    /// Sends what is in the queue; what has not been taken within this time is dropped and counted. Spans that are handed over
    /// from now on are, too.
    pub async fn shutdown(self, within: Duration) {
        let Some((stop, task)) = self.running else { return };
        stop.send_replace(Some(Instant::now() + within));
        if let Err(err) = task.await {
            tracing::warn!("traces: the task that sends them has ended before: {err}");
        }
    }
}

pub(crate) fn start(
    spans_queued_max: usize,
    origin: Origin,
    collector: (Target, Arc<ClientConfig>),
    runtime: &Handle,
    pace: Pace,
) -> (Offer, Exporting) {
    let (sender, receiver) = channel(spans_queued_max);
    let counters: Arc<Counters> = Arc::default();
    let (stop_sender, stop) = watch::channel(None);
    let stop = Stop::new(stop);
    let queue = Queue { spans: receiver, counters: counters.clone() };
    let exporter = Exporter::new(origin, collector, counters.clone(), stop.clone(), pace);
    let batches = Batches { queue, exporter, enough: BATCH_SPANS_MAX.min(spans_queued_max / 2), pace };
    let task = runtime.spawn(async move {
        tokio::select! {
            () = batches.send_all(stop.clone()) => {}
            () = async { sleep_until(stop.asked().await).await } => {}
        }
    });
    let offer = Offer { queue: sender, counters: counters.clone() };
    (offer, Exporting { counters, running: Some((stop_sender, task)) })
}

/// The receiving end: what is still in it at the end was in vain, and is counted.
struct Queue {
    spans: Receiver<Span>,
    counters: Arc<Counters>,
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.spans.close();
        let mut left = 0;
        while self.spans.try_recv().is_ok() {
            left += 1;
        }
        Counters::add(&self.counters.dropped_failed, left);
    }
}

struct Batches {
    queue: Queue,
    exporter: Exporter,
    /// Spans that are worth a request: a whole batch, but no more than half a small queue.
    enough: usize,
    pace: Pace,
}

impl Batches {
    async fn send_all(mut self, stop: Stop) {
        loop {
            let first = tokio::select! {
                first = self.queue.spans.recv() => first,
                _deadline = stop.asked() => break,
            };
            // The last tracer is gone.
            let Some(first) = first else { return };
            self.gather(&stop).await;
            let batch = self.take(first);
            self.exporter.export(batch).await;
        }
        self.queue.spans.close();
        // Other than `try_recv`, this waits for those who are just handing something over.
        while let Some(first) = self.queue.spans.recv().await {
            let batch = self.take(first);
            self.exporter.export(batch).await;
        }
    }

    /// Waits until there is enough for a batch, or the first span has waited long enough.
    async fn gather(&self, stop: &Stop) {
        let until = Instant::now() + self.pace.batch_within;
        while self.queue.spans.len() + 1 < self.enough && Instant::now() < until {
            tokio::select! {
                () = sleep_until(until.min(Instant::now() + LOOK_EVERY)) => {}
                _deadline = stop.asked() => return,
            }
        }
    }

    fn take(&mut self, first: Span) -> Vec<Span> {
        let mut batch = Vec::with_capacity(BATCH_SPANS_MAX.min(self.queue.spans.len() + 1));
        batch.push(first);
        while batch.len() < BATCH_SPANS_MAX {
            match self.queue.spans.try_recv() {
                Ok(span) => batch.push(span),
                Err(_none) => break,
            }
        }
        batch
    }
}
