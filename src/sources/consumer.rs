//! A source's consumer: joins its group, reads, gives each partition's records to that partition's task, and follows what
//! the group decides. Called by the room's `run`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::Offset;
use rdkafka::{ClientConfig, ClientContext, TopicPartitionList};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::hand_over::Recipient;
use super::partition::{Partition, Shared};
use super::{SourceMetrics, Surroundings, Wanted};
use crate::model::source::{SourceSpec, Start};

/// Kafka takes a node for dead that was not heard of for so long, and gives its partitions to others.
const SESSION_TIMEOUT_MILLIS: &str = "10000";
/// Records of one consumer that were fetched and not yet read: 4 MiB, beside what waits in its partitions' queues.
const FETCHED_KIB_MAX: &str = "4096";
/// The largest fetch: a record is larger only when it alone is.
const FETCH_BYTES_MAX: &str = "1048576";
/// Offsets that were stored are committed so often, and when a partition is given up. After a crash so much is delivered again.
const COMMIT_EVERY_MILLIS: &str = "1000";
/// A topic that is not there yet is looked for so often.
const METADATA_EVERY_MILLIS: &str = "5000";
/// Before a consumer that could not be made, or has failed for good, is made again.
const REOPEN_AFTER: Duration = Duration::from_secs(5);
/// After an error; the client library reports the same one again and again.
const ERROR_PAUSE: Duration = Duration::from_millis(100);
/// Assignments that wait to be looked at; one more than comes while one is.
const ASSIGNED_MAX: usize = 8;
/// Between two looks at whether a consumer's tasks have ended.
const LET_GO_PAUSE: Duration = Duration::from_millis(2);
/// How long brokers may take to tell offsets.
const OFFSETS_WITHIN: Duration = Duration::from_secs(5);

/// What the group tells, and the partitions that it has given to this node.
pub(super) struct Group {
    partitions: Mutex<HashMap<i32, Option<Partition>>>,
    metrics: SourceMetrics,
    errors: Counter,
    /// Newly given ones.
    assigned: mpsc::Sender<TopicPartitionList>,
    name: String,
}

impl Group {
    fn partitions(&self) -> MutexGuard<'_, HashMap<i32, Option<Partition>>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_up(&self, consumer: &BaseConsumer<Group>, revoked: &TopicPartitionList) {
        let mut paused = TopicPartitionList::new();
        let mut partitions = self.partitions();
        for element in revoked.elements() {
            if let Some(Some(partition)) = partitions.remove(&element.partition()) {
                if partition.revoke() {
                    paused.add_partition(element.topic(), element.partition());
                }
            }
        }
        self.metrics.set_partitions(partitions.len());
        drop(partitions);
        // Or it would still be paused when it comes back.
        if paused.count() > 0 {
            if let Err(err) = consumer.resume(&paused) {
                tracing::debug!(source = %self.name, "not resumed: {err}");
            }
        }
    }

    fn give_up_all(&self) {
        self.partitions().drain().filter_map(|(_, partition)| partition).for_each(|partition| {
            partition.revoke();
        });
        self.metrics.set_partitions(0);
    }
}

impl ClientContext for Group {
    /// `reason` names the broker and what it or TLS said, never a password.
    fn error(&self, error: KafkaError, reason: &str) {
        self.errors.inc();
        // The library logs it too.
        tracing::debug!(source = %self.name, "Kafka source: {reason} ({error})");
    }
}

impl ConsumerContext for Group {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Group>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(revoked) => self.give_up(consumer, revoked),
            Rebalance::Error(err) => {
                self.errors.inc();
                tracing::warn!(source = %self.name, "the group has a problem: {err}");
                self.give_up_all();
            }
            Rebalance::Assign(_) => {}
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Group>, rebalance: &Rebalance<'_>) {
        let Rebalance::Assign(assigned) = rebalance else { return };
        let mut partitions = self.partitions();
        for element in assigned.elements() {
            partitions.entry(element.partition()).or_default();
        }
        tracing::info!(source = %self.name, partitions = partitions.len(), "partitions assigned");
        self.metrics.set_partitions(partitions.len());
        drop(partitions);
        // With no room, the ones before are being looked at still: these keep the position that they have.
        let _full = self.assigned.try_send((*assigned).clone());
    }
}

/// Reads until told to stop.
pub(super) async fn run(around: Arc<Surroundings>, wanted: Wanted, stop: CancellationToken) {
    let metrics = SourceMetrics::new(&around.metrics, &wanted);
    metrics.set_partitions(0);
    let recipient = Recipient { endpoint: wanted.endpoint.clone(), target: wanted.spec.target.clone() };
    let shared = Arc::new(Shared::new(recipient, around.clients.clone(), metrics.clone()));
    while !stop.is_cancelled() {
        let (assigned, newly_assigned) = mpsc::channel(ASSIGNED_MAX);
        let group = Group {
            partitions: Mutex::default(),
            metrics: metrics.clone(),
            errors: metrics.errors(),
            assigned,
            name: format!("{} {}", wanted.path, wanted.spec.label()),
        };
        match open(&wanted.spec, &around, group) {
            Ok(consumer) => read(Arc::new(consumer), &wanted.spec, &shared, newly_assigned, &stop).await,
            Err(reason) => {
                metrics.errors().inc();
                tracing::warn!(endpoint = %wanted.path, source = %wanted.spec.label(), "a source cannot work: {reason}");
            }
        }
        metrics.set_partitions(0);
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(REOPEN_AFTER) => {}
        }
    }
}

fn open(spec: &SourceSpec, around: &Surroundings, group: Group) -> Result<StreamConsumer<Group>, String> {
    if let Some(own) = &spec.bootstrap_servers {
        around.egress.check_brokers(own)?;
    }
    let brokers = spec.bootstrap_servers.as_deref().or(around.default_brokers.as_deref());
    let brokers = brokers.ok_or("it names no bootstrapServers and this node has no kafka.bootstrap_servers")?;
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("client.id", "wsgateway")
        .set("group.id", &spec.group)
        // A node that comes or goes moves its own partitions only.
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("auto.offset.reset", spec.start.as_str())
        // Committed from time to time is what was *stored*, and that is what was handed over.
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", COMMIT_EVERY_MILLIS)
        .set("enable.auto.offset.store", "false")
        .set("session.timeout.ms", SESSION_TIMEOUT_MILLIS)
        .set("queued.max.messages.kbytes", FETCHED_KIB_MAX)
        .set("fetch.max.bytes", FETCH_BYTES_MAX)
        .set("fetch.message.max.bytes", FETCH_BYTES_MAX)
        .set("fetch.wait.max.ms", "100")
        .set("topic.metadata.refresh.interval.ms", METADATA_EVERY_MILLIS)
        .set("reconnect.backoff.max.ms", "1000")
        .set("socket.keepalive.enable", "true");
    for (name, value) in spec.security.properties() {
        config.set(name, value);
    }
    let consumer: StreamConsumer<Group> = config.create_with_context(group).map_err(|err| err.to_string())?;
    consumer.subscribe(&[&spec.topic]).map_err(|err| err.to_string())?;
    Ok(consumer)
}

/// Reads until told to stop, or until the consumer has failed for good.
async fn read(
    consumer: Arc<StreamConsumer<Group>>,
    spec: &SourceSpec,
    shared: &Arc<Shared>,
    mut newly_assigned: mpsc::Receiver<TopicPartitionList>,
    stop: &CancellationToken,
) {
    let of_this = stop.child_token();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(assigned) = newly_assigned.recv() => {
                if spec.start == Start::Latest {
                    let consumer = consumer.clone();
                    tokio::task::spawn_blocking(move || keep_beginning(&consumer, &assigned));
                }
            }
            received = consumer.recv() => match received {
                Ok(record) => {
                    let record = record.detach();
                    let Some(partition) = place(&consumer, record.partition(), shared, &of_this) else { continue };
                    partition.take(record, &consumer).await;
                }
                Err(err) => {
                    shared.metrics.errors().inc();
                    tracing::warn!(topic = %spec.topic, group = %spec.group, "Kafka source: {err}");
                    if let Some((_, reason)) = consumer.client().fatal_error() {
                        tracing::error!(topic = %spec.topic, group = %spec.group, "Kafka source begins anew: {reason}");
                        break;
                    }
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            },
        }
    }
    // What is under way comes to its end; then its offset counts.
    of_this.cancel();
    shared.all_through().await;
    consumer.context().give_up_all();
    // Its tasks let go of it in a moment; whoever is the last closes it, which takes its time.
    let began = tokio::time::Instant::now();
    while Arc::strong_count(&consumer) > 1 && began.elapsed() < OFFSETS_WITHIN {
        tokio::time::sleep(LET_GO_PAUSE).await;
    }
    // Leaves the group, so that others take over at once; waits for that.
    let closed = tokio::task::spawn_blocking(move || drop(consumer)).await;
    if let Err(err) = closed {
        tracing::error!("a Kafka source did not close: {err}");
    }
}

/// The place of a partition's records. None: the partition was taken away while the record was on its way here.
fn place(
    consumer: &Arc<StreamConsumer<Group>>,
    number: i32,
    shared: &Arc<Shared>,
    stop: &CancellationToken,
) -> Option<Partition> {
    let mut partitions = consumer.context().partitions();
    let place = partitions.get_mut(&number)?;
    Some(place.get_or_insert_with(|| Partition::start(number, consumer, shared, stop)).clone())
}

/// A group that begins with what is written from now on has a beginning from now on: until something was committed, the node
/// that takes a partition over would begin at its own "now", and leave out what was written in between.
fn keep_beginning(consumer: &StreamConsumer<Group>, assigned: &TopicPartitionList) {
    let mut wanted = TopicPartitionList::new();
    for element in assigned.elements() {
        wanted.add_partition(element.topic(), element.partition());
    }
    let kept = || -> Result<(), KafkaError> {
        let committed = consumer.committed_offsets(wanted, OFFSETS_WITHIN)?;
        let mut beginnings = TopicPartitionList::new();
        for element in committed.elements().iter().filter(|element| element.offset() == Offset::Invalid) {
            let (_, end) = consumer.fetch_watermarks(element.topic(), element.partition(), OFFSETS_WITHIN)?;
            beginnings.add_partition_offset(element.topic(), element.partition(), Offset::Offset(end))?;
        }
        match beginnings.count() {
            0 => Ok(()),
            _ => consumer.commit(&beginnings, CommitMode::Sync),
        }
    };
    if let Err(err) = kept() {
        tracing::debug!(source = %consumer.context().name, "the beginning is not kept: {err}");
    }
}
