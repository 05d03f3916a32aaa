//! One partition of a source: its records wait in a bounded queue and are handed over one after the other; a queue that
//! fills pauses the partition at the client library until it is nearly empty. Called by consumer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::{Headers, Message, OwnedMessage};
use rdkafka::TopicPartitionList;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::consumer::Group;
use super::hand_over::{hand_over, Recipient};
use super::{Clients, SourceMetrics};
use crate::model::source::RecordParts;

/// Room of a queue. Never used up: at the mark below the partition is paused.
const QUEUE_RECORDS_MAX: usize = 1024;
/// Records that wait, at which nothing more is read.
const PAUSE_AT_RECORDS: usize = 256;
/// Bytes of records that wait, at which nothing more is read.
const PAUSE_AT_BYTES: usize = 1024 * 1024;
/// What may be left of either when reading goes on: a quarter, so that a partition is not stopped and started all the time.
const RESUME_AT: usize = 4;

/// What is common to the partitions of a source.
pub(super) struct Shared {
    pub recipient: Recipient,
    pub clients: Arc<dyn Clients>,
    pub metrics: SourceMetrics,
    /// Held while a record is handed over, by partition: when a partition is taken away and comes back, the record that was
    /// under way is through before the next begins.
    turns: Mutex<HashMap<i32, Arc<tokio::sync::Mutex<()>>>>,
}

impl Shared {
    pub fn new(recipient: Recipient, clients: Arc<dyn Clients>, metrics: SourceMetrics) -> Shared {
        Shared { recipient, clients, metrics, turns: Mutex::default() }
    }

    /// Returns when no record is being handed over any more.
    pub async fn all_through(&self) {
        let turns: Vec<_> = self.turns.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for turn in turns {
            drop(turn.lock().await);
        }
    }

    fn turn(&self, partition: i32) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.entry(partition).or_default().clone()
    }
}

/// What waits.
#[derive(Default)]
struct Waiting {
    records: usize,
    bytes: usize,
    paused: bool,
}

/// The queue of one partition; a task empties it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Partition {
    queue: mpsc::Sender<OwnedMessage>,
    waiting: Arc<Mutex<Waiting>>,
    revoked: CancellationToken,
}

impl Partition {
    pub fn start(
        number: i32,
        consumer: &Arc<StreamConsumer<Group>>,
        shared: &Arc<Shared>,
        stop: &CancellationToken,
    ) -> Partition {
        let (queue, records) = mpsc::channel(QUEUE_RECORDS_MAX);
        let (waiting, revoked) = (Arc::<Mutex<Waiting>>::default(), stop.child_token());
        let work = Work {
            number,
            turn: shared.turn(number),
            consumer: consumer.clone(),
            shared: shared.clone(),
            waiting: waiting.clone(),
            revoked: revoked.clone(),
        };
        tokio::spawn(work.run(records));
        Partition { queue, waiting, revoked }
    }

    /// Queues a record that was read; pauses the partition when there is enough.
    pub async fn take(&self, record: OwnedMessage, consumer: &StreamConsumer<Group>) {
        self.count(&record, consumer);
        // At once: the mark is far below the queue's room. An error: the partition was taken away.
        let _taken_away = self.queue.send(record).await;
    }

    /// Before the record can be handed over: one that were taken off first would be counted for ever, and enough of them
    /// would stop the partition for good.
    fn count(&self, record: &OwnedMessage, consumer: &StreamConsumer<Group>) {
        let mut waiting = lock(&self.waiting);
        waiting.records += 1;
        waiting.bytes += bytes(record);
        if !waiting.paused && (waiting.records >= PAUSE_AT_RECORDS || waiting.bytes >= PAUSE_AT_BYTES) {
            waiting.paused = pause(consumer, &of(record));
        }
    }

    /// Another node has it now. What is queued is that one's to deliver; whether it was paused here.
    pub fn revoke(&self) -> bool {
        self.revoked.cancel();
        lock(&self.waiting).paused
    }
}

struct Work {
    number: i32,
    turn: Arc<tokio::sync::Mutex<()>>,
    consumer: Arc<StreamConsumer<Group>>,
    shared: Arc<Shared>,
    waiting: Arc<Mutex<Waiting>>,
    revoked: CancellationToken,
}

impl Work {
    async fn run(self, mut records: mpsc::Receiver<OwnedMessage>) {
        loop {
            let record = tokio::select! {
                biased;
                () = self.revoked.cancelled() => return,
                record = records.recv() => match record {
                    Some(record) => record,
                    None => return,
                },
            };
            let turn = self.turn.lock().await;
            if self.revoked.is_cancelled() {
                return;
            }
            self.hand_over(&record).await;
            // Another node's by now: it will deliver this record again.
            if let Err(err) = self.consumer.store_offset(record.topic(), self.number, record.offset()) {
                tracing::debug!(partition = self.number, "offset not stored: {err}");
            }
            drop(turn);
            self.done(&record);
        }
    }

    async fn hand_over(&self, record: &OwnedMessage) {
        let Some(value) = record.payload() else { return self.shared.metrics.record("empty") };
        let mut headers = Vec::new();
        for header in record.headers().into_iter().flat_map(Headers::iter) {
            if let Some(Ok(text)) = header.value.map(std::str::from_utf8) {
                headers.push((header.key, text));
            }
        }
        let key = record.key().and_then(|key| std::str::from_utf8(key).ok());
        let parts = RecordParts { key, headers, value };
        let message = Bytes::copy_from_slice(value);
        hand_over(&*self.shared.clients, &self.shared.recipient, &parts, message, &self.shared.metrics).await;
    }

    fn done(&self, record: &OwnedMessage) {
        let mut waiting = lock(&self.waiting);
        waiting.records = waiting.records.saturating_sub(1);
        waiting.bytes = waiting.bytes.saturating_sub(bytes(record));
        let low = waiting.records <= PAUSE_AT_RECORDS / RESUME_AT && waiting.bytes <= PAUSE_AT_BYTES / RESUME_AT;
        if waiting.paused && low && !self.revoked.is_cancelled() {
            if let Err(err) = self.consumer.resume(&of(record)) {
                tracing::debug!(partition = self.number, "not resumed: {err}");
            }
            waiting.paused = false;
        }
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn of(record: &OwnedMessage) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition(record.topic(), record.partition());
    list
}

fn bytes(record: &OwnedMessage) -> usize {
    record.payload().map_or(0, <[u8]>::len) + record.key().map_or(0, <[u8]>::len)
}

fn pause(consumer: &StreamConsumer<Group>, partition: &TopicPartitionList) -> bool {
    match consumer.pause(partition) {
        Ok(()) => true,
        Err(err) => {
            tracing::debug!("not paused: {err}");
            false
        }
    }
}
