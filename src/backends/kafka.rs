//! A Kafka topic as a backend: one idempotent producer per broker set and settings and node, shared by all workers.
//! Records are enqueued in the order of `begin`, so a connection's events keep their order without waiting for each
//! other; the delivery report decides whether an event is delivered.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::ClientConfig;

use super::{Backend, Begin, Delivered, Event, Failure, RouteFacts};
use crate::model::endpoint::{KafkaAcks, KafkaCompression, KafkaKey, KafkaSpec};

/// Records that one producer may hold; then its backends are busy and connections stop being read.
const QUEUE_RECORDS_MAX: &str = "100000";
/// The same bound in KiB: 64 MiB.
const QUEUE_KIB_MAX: &str = "65536";
/// How long a batch is filled: little, since an event is not late for the sake of a fuller batch.
const LINGER_MILLIS: &str = "1";

/// What a producer is shared by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ProducerKey {
    brokers: String,
    acks: KafkaAcks,
    retries: Option<u32>,
    compression: KafkaCompression,
}

/// All producers of a node. Cheap to clone.
#[derive(Clone)]
pub struct KafkaProducers {
    /// `kafka.bootstrap_servers` of the node's settings.
    default_brokers: Option<String>,
    delivery_timeout: Duration,
    producers: Arc<Mutex<HashMap<ProducerKey, FutureProducer>>>,
}

impl KafkaProducers {
    pub fn new(default_brokers: Option<String>, delivery_timeout: Duration) -> KafkaProducers {
        KafkaProducers { default_brokers, delivery_timeout, producers: Arc::default() }
    }

    fn producer(&self, spec: &KafkaSpec) -> Result<FutureProducer, Failure> {
        let Some(brokers) = spec.bootstrap_servers.clone().or_else(|| self.default_brokers.clone()) else {
            let reason = "the backend names no bootstrapServers and this node has no kafka.bootstrap_servers";
            return Err(Failure::Misconfigured(reason.to_owned()));
        };
        let key = ProducerKey { brokers, acks: spec.acks, retries: spec.retries, compression: spec.compression };
        let mut producers = self.producers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(producer) = producers.get(&key) {
            return Ok(producer.clone());
        }
        let producer = self.create(&key).map_err(|err| Failure::Misconfigured(format!("Kafka producer: {err}")))?;
        producers.insert(key, producer.clone());
        Ok(producer)
    }

    fn create(&self, key: &ProducerKey) -> Result<FutureProducer, KafkaError> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &key.brokers)
            .set("client.id", "wsgateway")
            .set("acks", key.acks.as_str())
            // librdkafka: an idempotent producer requires acks=all.
            .set("enable.idempotence", if key.acks == KafkaAcks::All { "true" } else { "false" })
            .set("compression.type", key.compression.as_str())
            .set("message.timeout.ms", self.delivery_timeout.as_millis().to_string())
            .set("queue.buffering.max.messages", QUEUE_RECORDS_MAX)
            .set("queue.buffering.max.kbytes", QUEUE_KIB_MAX)
            .set("queue.buffering.max.ms", LINGER_MILLIS)
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.keepalive.enable", "true");
        if key.acks != KafkaAcks::All {
            // Without idempotence a retry would overtake.
            config.set("max.in.flight.requests.per.connection", "1");
        }
        if let Some(retries) = key.retries {
            config.set("message.send.max.retries", retries.to_string());
        }
        config.create()
    }

    /// Waits until nothing is queued any more, for a node that leaves.
    pub fn flush(&self, within: Duration) {
        let producers: Vec<_> =
            self.producers.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for producer in producers {
            if let Err(err) = producer.flush(within) {
                tracing::warn!(unsent = producer.in_flight_count(), "Kafka producer not flushed: {err}");
            }
        }
    }
}

pub struct KafkaBackend {
    producer: FutureProducer,
    topic: String,
    index: usize,
    key_by_user: bool,
    constants: OwnedHeaders,
}

impl KafkaBackend {
    pub fn new(
        producers: &KafkaProducers,
        spec: &KafkaSpec,
        index: usize,
        route: &RouteFacts,
    ) -> Result<KafkaBackend, Failure> {
        Ok(KafkaBackend {
            producer: producers.producer(spec)?,
            topic: spec.topic.clone(),
            index,
            key_by_user: matches!(spec.key, KafkaKey::UserId),
            constants: constant_headers(spec, route),
        })
    }
}

impl Backend for KafkaBackend {
    fn one_at_a_time(&self) -> bool {
        false
    }

    fn begin(self: Rc<Self>, event: &Rc<Event>) -> Begin {
        let record = FutureRecord::to(&self.topic)
            .key(record_key(self.key_by_user, self.index, event))
            .payload(&event.body[..])
            .headers(record_headers(self.constants.clone(), event));
        match self.producer.send_result(record) {
            Ok(report) => Begin::Started(Box::pin(async move {
                match report.await {
                    Ok(Ok(_placed)) => Ok(Delivered::default()),
                    Ok(Err((err, _record))) => Err(Failure::Kafka(err.to_string()).into()),
                    Err(_cancelled) => Err(Failure::Kafka("the producer was closed".to_owned()).into()),
                }
            })),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Begin::Busy,
            Err((err, _)) => Begin::Started(Box::pin(async move { Err(Failure::Kafka(err.to_string()).into()) })),
        }
    }
}

/// A record as it would be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordPreview {
    pub key: String,
    pub headers: Vec<(String, String)>,
}

/// What a backend would send for an event, made by the code that does send it.
pub fn preview(spec: &KafkaSpec, index: usize, route: &RouteFacts, event: &Event) -> RecordPreview {
    let headers = record_headers(constant_headers(spec, route), event);
    let text = |header: Header<'_, &[u8]>| {
        (header.key.to_owned(), String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned())
    };
    RecordPreview {
        key: record_key(matches!(spec.key, KafkaKey::UserId), index, event).to_owned(),
        headers: headers.iter().map(text).collect(),
    }
}

fn record_headers(mut headers: OwnedHeaders, event: &Event) -> OwnedHeaders {
    for (key, value) in [
        ("ce_id", event.id.as_str().as_bytes()),
        ("ce_time", event.time()),
        ("ce_sequence", event.sequence_text()),
        ("ce_connectionid", event.source.connection_id.as_bytes()),
        ("traceparent", event.traceparent()),
    ] {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    if let Some(user) = &event.source.user {
        headers = headers.insert(Header { key: "ce_userid", value: Some(user.as_bytes()) });
    }
    headers
}

fn record_key(by_user: bool, index: usize, event: &Event) -> &str {
    let by_user = by_user.then_some(event.source.user.as_deref()).flatten();
    let taken = event.keys.get(index).and_then(Option::as_deref);
    taken.or(by_user).unwrap_or(&event.source.connection_id)
}

/// `ce_…` as the Kafka binding of CloudEvents has them: UTF-8, not percent-encoded.
fn constant_headers(spec: &KafkaSpec, route: &RouteFacts) -> OwnedHeaders {
    let source = format!("/endpoints/{}", route.endpoint_id);
    let mut headers = OwnedHeaders::new_with_capacity(16);
    for (key, value) in [
        ("content-type", "application/json"),
        ("ce_specversion", "1.0"),
        ("ce_type", route.kind.cloud_event_type()),
        ("ce_source", &source),
        ("ce_endpointpath", &route.endpoint_path),
        ("ce_route", &route.route),
        ("ce_node", &route.node),
    ] {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    for (key, value) in &spec.headers {
        headers = headers.insert(Header { key, value: Some(value.expose()) });
    }
    headers
}
