//! Reads a Kafka topic of dead letters to its end, for whoever sends them again. How far a consumer group has come is
//! committed letter by letter. Called by the command line; blocks; imports model.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::ClientConfig;

use crate::model::dead_letter::Letter;

/// For each question to the brokers.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// Brokers that are silent for so long in the middle of a topic are gone.
const RECORD_WITHIN: Duration = Duration::from_secs(30);

const COORDINATOR_IS_COMING: [RDKafkaErrorCode; 3] = [
    RDKafkaErrorCode::NotCoordinator,
    RDKafkaErrorCode::CoordinatorNotAvailable,
    RDKafkaErrorCode::CoordinatorLoadInProgress,
];

/// A topic between what its group has done and its end at the time of opening.
pub struct Letters {
    consumer: BaseConsumer,
    topic: String,
    /// First offset that is not read, of partitions that have something left.
    ends: HashMap<i32, i64>,
    waiting: u64,
}

/// One record.
pub struct Stored {
    pub partition: i32,
    pub offset: i64,
    /// Or why it is no dead letter.
    pub letter: Result<Letter, String>,
}

impl Letters {
    /// `properties` are librdkafka's.
    pub fn open(
        brokers: &str,
        topic: &str,
        group: &str,
        properties: &[(String, String)],
    ) -> Result<Letters, KafkaError> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers)
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true");
        for (name, value) in properties {
            config.set(name, value);
        }
        let consumer: BaseConsumer = config.create()?;
        let metadata = consumer.fetch_metadata(Some(topic), ANSWER_WITHIN)?;
        let mut asked = TopicPartitionList::new();
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            asked.add_partition(topic, partition.id());
        }
        let committed = committed(&consumer, &asked)?;
        let mut assigned = TopicPartitionList::new();
        let (mut ends, mut waiting) = (HashMap::new(), 0);
        for known in committed.elements() {
            let (low, high) = consumer.fetch_watermarks(topic, known.partition(), ANSWER_WITHIN)?;
            let start = match known.offset() {
                Offset::Offset(offset) => offset.clamp(low, high),
                _ => low,
            };
            if start < high {
                assigned.add_partition_offset(topic, known.partition(), Offset::Offset(start))?;
                ends.insert(known.partition(), high);
                waiting += (high - start).unsigned_abs();
            }
        }
        consumer.assign(&assigned)?;
        Ok(Letters { consumer, topic: topic.to_owned(), ends, waiting })
    }

    /// Records between the group's place and the end, at the time of opening.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// None: the end.
    pub fn read(&mut self) -> Result<Option<Stored>, KafkaError> {
        let began = Instant::now();
        while !self.ends.is_empty() {
            match self.consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => {
                    let (partition, offset) = (message.partition(), message.offset());
                    let Some(end) = self.ends.get(&partition) else { continue };
                    let stored = (offset < *end).then(|| Stored { partition, offset, letter: letter(&message) });
                    if offset + 1 >= *end {
                        self.ends.remove(&partition);
                    }
                    if stored.is_some() {
                        return Ok(stored);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.ends.remove(&partition);
                }
                Some(Err(err)) => return Err(err),
                None if began.elapsed() > RECORD_WITHIN => return Err(KafkaError::Canceled),
                None => {}
            }
        }
        Ok(None)
    }

    /// The group has done with this record and all before it in its partition.
    pub fn done(&self, record: &Stored) -> Result<(), KafkaError> {
        let mut place = TopicPartitionList::new();
        place.add_partition_offset(&self.topic, record.partition, Offset::Offset(record.offset + 1))?;
        self.consumer.commit(&place, CommitMode::Sync)
    }

    /// Nothing more of this partition: what comes after a record that is not done with keeps its order.
    pub fn leave(&mut self, partition: i32) {
        self.ends.remove(&partition);
    }
}

/// How far the group has come. A broker that has just started, or the first group that it ever has, takes a moment until
/// there is a coordinator: librdkafka asks again for a fetch, but not for this.
fn committed(consumer: &BaseConsumer, asked: &TopicPartitionList) -> Result<TopicPartitionList, KafkaError> {
    let began = Instant::now();
    loop {
        match consumer.committed_offsets(asked.clone(), ANSWER_WITHIN) {
            Err(KafkaError::OffsetFetch(code)) if COORDINATOR_IS_COMING.contains(&code) => {
                if began.elapsed() > ANSWER_WITHIN {
                    return Err(KafkaError::OffsetFetch(code));
                }
                #[allow(clippy::disallowed_methods)] // a command's own thread
                std::thread::sleep(Duration::from_millis(200));
            }
            answered => return answered,
        }
    }
}

fn letter(message: &BorrowedMessage<'_>) -> Result<Letter, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| "is not UTF-8".to_owned());
    let mut letter = Letter { attributes: Default::default(), data: text(message.payload().unwrap_or_default())? };
    for header in message.headers().into_iter().flat_map(|headers| headers.iter()) {
        let name = if header.key == "traceparent" { Some(header.key) } else { header.key.strip_prefix("ce_") };
        if let (Some(name), Some(value)) = (name, header.value) {
            letter.attributes.insert(name.to_owned(), text(value)?);
        }
    }
    Ok(letter)
}
