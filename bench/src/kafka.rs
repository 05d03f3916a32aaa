//! Kafka's side of a load: the consumer that stands in for the backend, and the floors' producer ([`producer`]).
//! Everything of librdkafka is in here; without the feature `kafka`, `kafka_absent` takes this module's place.

mod producer;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Headers;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::event::Stamp;
use crate::meter::Board;
pub use producer::{alone, Amount, Producer};

/// For the broker to answer about metadata and offsets.
const BROKER_LONGEST: Duration = Duration::from_secs(10);
/// Few, so that it costs nothing.
const MEASURED_EVERY: u64 = 100;
/// How long the consumer's thread takes to notice its end.
const POLL: Duration = Duration::from_millis(100);

/// Reads the topic from its current end on, on a thread of its own, and reports our own events to the board.
pub struct Consumer {
    stop: Arc<AtomicBool>,
    /// Of the record of a load that was measured last.
    record_bytes: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Consumer {
    pub fn start(brokers: &str, topic: &str, board: Arc<Board>) -> anyhow::Result<Self> {
        let consumer = consumer(brokers)?;
        consumer.assign(&ends(&consumer, topic).with_context(|| format!("topic {topic} at {brokers}"))?)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let record_bytes = Arc::new(AtomicU64::new(0));
        let measured = record_bytes.clone();
        let thread = std::thread::Builder::new().name("kafka".to_owned()).spawn(move || {
            let mut count = 0u64;
            while !stopped.load(Ordering::Relaxed) {
                match consumer.poll(POLL) {
                    Some(Ok(record)) => {
                        count += 1;
                        if count.is_multiple_of(MEASURED_EVERY) {
                            measured.store(length(&record), Ordering::Relaxed);
                        }
                        if let Some(stamp) = record.payload().and_then(Stamp::read) {
                            board.received(stamp, None);
                        }
                    }
                    Some(Err(error)) => board.complain(format!("consumer: {error}")),
                    None => {}
                }
            }
        })?;
        Ok(Self { stop, record_bytes, thread: Some(thread) })
    }

    /// Bytes of key, value and headers of one of the latest records: they show whether two servers write the same.
    pub fn record_bytes(&self) -> u64 {
        self.record_bytes.load(Ordering::Relaxed)
    }
}

fn length(record: &impl Message) -> u64 {
    let headers = record
        .headers()
        .map_or(0, |headers| headers.iter().map(|header| header.key.len() + header.value.map_or(0, <[u8]>::len)).sum());
    let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
    (headers + length(record.key()) + length(record.payload())) as u64
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It only fails when the thread panicked, which has been printed.
            let _ = thread.join();
        }
    }
}

fn consumer(brokers: &str) -> anyhow::Result<BaseConsumer> {
    let consumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        // Never joined nor committed to; the client library wants the name.
        .set("group.id", "wsgateway-bench")
        .set("allow.auto.create.topics", "true")
        .set("enable.auto.commit", "false")
        // A record is handed over when it is there, so that the latency is the server's.
        .set("fetch.wait.max.ms", "10")
        .create()?;
    Ok(consumer)
}

/// Makes sure that there is a topic, at a broker that makes those it is asked for.
pub fn create_topic(brokers: &str, topic: &str) -> anyhow::Result<()> {
    let (consumer, deadline) = (consumer(brokers)?, Instant::now() + BROKER_LONGEST);
    loop {
        // A partition that is new may have no leader for a moment.
        match ends(&consumer, topic) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("topic {topic} at {brokers}")));
            }
            #[allow(clippy::disallowed_methods)] // before the load, nothing else runs
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// All partitions at the offsets where they end now: resolved, so that no record written from now on is missed.
fn ends(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<TopicPartitionList> {
    let look = || -> anyhow::Result<_> { Ok(consumer.fetch_metadata(Some(topic), BROKER_LONGEST)?) };
    let mut metadata = look()?;
    // A broker that makes topics by itself does so when it is first asked for one, and says so a little later.
    for _ in 0..20 {
        if metadata.topics().first().is_some_and(|topic| !topic.partitions().is_empty()) {
            break;
        }
        #[allow(clippy::disallowed_methods)] // before the load, on a thread of its own
        std::thread::sleep(POLL);
        metadata = look()?;
    }
    let partitions = metadata.topics().first().map(|topic| topic.partitions()).unwrap_or_default();
    anyhow::ensure!(!partitions.is_empty(), "it has no partitions: create it first");
    let mut ends = TopicPartitionList::new();
    for partition in partitions {
        let (_, end) = consumer.fetch_watermarks(topic, partition.id(), BROKER_LONGEST)?;
        ends.add_partition_offset(topic, partition.id(), Offset::Offset(end))?;
    }
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::now_nanos;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::Producer as _;

    #[test]
    fn what_is_produced_is_reported_and_nothing_older() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("events", 2, 1).unwrap();
        let brokers = cluster.bootstrap_servers();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let board = Arc::new(Board::default());
            let run = board.start(1, 10, 10);
            let producer = Producer::start(&brokers, "events").unwrap();
            let mut event = bytes::BytesMut::new();
            run.stamp(0).write(64, &mut event);
            producer.send(7, &event).await.unwrap();
            producer.inner.flush(BROKER_LONGEST).unwrap();

            let _consumer = Consumer::start(&brokers, "events", board.clone()).unwrap();
            for connection in 0..10 {
                producer.send(connection, &event).await.unwrap();
            }
            assert_eq!(run.claim(0).await, Some(10));
            let outcome = board.finish(&run, now_nanos(), Duration::from_secs(10)).await;
            assert_eq!((outcome.completed, outcome.missing), (10, 0));
        });
    }

    #[test]
    fn a_missing_topic_is_an_error_that_names_it() {
        let cluster = MockCluster::new(1).unwrap();
        cluster
            .topic_error("nothing", rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
            .unwrap();
        let error = Consumer::start(&cluster.bootstrap_servers(), "nothing", Arc::default()).err().unwrap();
        assert!(format!("{error:#}").contains("topic nothing"), "{error:#}");
    }
}
