//! The Kafka producers of a node: one idempotent producer per broker set and settings, shared by all workers and by all
//! backends that agree in them. Remembers what brokers have said last, since the
//! client library itself says only that a record was late. Called by the Kafka backend and by app.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};
use tokio::sync::oneshot;

use crate::backends::Failure;
use crate::model::egress::EgressRules;
use crate::model::kafka::{KafkaAcks, KafkaCompression, KafkaSecurity, KafkaSpec};
use crate::telemetry::metrics::Metrics;

/// Records that one producer may hold; then its backends are busy and connections stop being read.
const QUEUE_RECORDS_MAX: &str = "100000";
/// The same bound in KiB: 64 MiB.
const QUEUE_KIB_MAX: &str = "65536";
/// How long a batch is filled: little, since an event is not late for the sake of a fuller batch.
const LINGER_MILLIS: &str = "1";
/// How often librdkafka looks for records that are out of time.
const TIMEOUTS_SEEN_EVERY: Duration = Duration::from_secs(1);
/// None would be for ever, and less than the filling of a batch is refused.
const MESSAGE_TIMEOUT_MIN: Duration = Duration::from_millis(10);
/// A producer that has failed for good is made anew at most this often.
const RENEW_AFTER: Duration = Duration::from_secs(1);

/// A producer without backends is kept for so long: a version that is taken back finds it.
const UNUSED_MAX: Duration = Duration::from_secs(5);

/// What a producer is shared by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ProducerKey {
    brokers: String,
    acks: KafkaAcks,
    retries: Option<u32>,
    compression: KafkaCompression,
    security: KafkaSecurity,
}

/// What brokers, or the way to them, have last been wrong with; none since a record was last delivered.
#[derive(Clone, Default)]
struct Trouble(Arc<Told>);

#[derive(Default)]
struct Told {
    any: AtomicBool,
    last: Mutex<Option<String>>,
}

impl Trouble {
    fn last(&self) -> MutexGuard<'_, Option<String>> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn over(&self) {
        // A load for each delivered record, a lock for the first after trouble.
        if self.0.any.load(Ordering::Relaxed) {
            *self.last() = None;
            self.0.any.store(false, Ordering::Relaxed);
        }
    }
}

impl ClientContext for Trouble {
    /// `reason` names the broker and what it or TLS said, never a password.
    fn error(&self, error: KafkaError, reason: &str) {
        // The library logs it too.
        tracing::debug!("Kafka producer: {reason} ({error})");
        let mut last = self.last();
        // That all are down says less than why the last one is.
        let general = matches!(error, KafkaError::Global(RDKafkaErrorCode::AllBrokersDown));
        if last.is_none() || !general {
            *last = Some(reason.to_owned());
            self.0.any.store(true, Ordering::Relaxed);
        }
    }
}

/// Told what became of a record. Not the library's own future: that copies every record which has failed, at a moment
/// when a whole queue of them does.
impl ProducerContext for Trouble {
    type DeliveryOpaque = Box<oneshot::Sender<Result<(), KafkaError>>>;

    fn delivery(&self, report: &DeliveryResult<'_>, waiting: Self::DeliveryOpaque) {
        let result = report.as_ref().map(|_| ()).map_err(|(err, _)| err.clone());
        // Whoever waited may have gone.
        let _gone = waiting.send(result);
    }
}

type Client = ThreadedProducer<Trouble>;

/// A record that could not be queued.
pub(super) enum NotQueued {
    /// There is no room now.
    Full,
    Failed(Failure),
}

/// A producer, and what is known of its brokers.
pub(super) struct SharedProducer {
    key: ProducerKey,
    delivery_timeout: Duration,
    client: ArcSwap<Client>,
    trouble: Trouble,
    renewed: Mutex<Instant>,
}

impl SharedProducer {
    fn new(key: ProducerKey, delivery_timeout: Duration) -> Result<SharedProducer, KafkaError> {
        let trouble = Trouble::default();
        let client = create(&key, delivery_timeout, trouble.clone())?;
        let (client, renewed) = (ArcSwap::from_pointee(client), Mutex::new(Instant::now()));
        Ok(SharedProducer { key, delivery_timeout, client, trouble, renewed })
    }

    /// Queues a record; the report comes when the brokers have it, or when it has failed. `Err` in the channel: the
    /// producer was closed.
    pub fn send(
        &self,
        topic: &str,
        key: &str,
        payload: &[u8],
        headers: OwnedHeaders,
    ) -> Result<oneshot::Receiver<Result<(), KafkaError>>, NotQueued> {
        let (waiting, report) = oneshot::channel();
        let record = BaseRecord::with_opaque_to(topic, Box::new(waiting)).key(key).payload(payload).headers(headers);
        match self.client.load().send(record) {
            Ok(()) => Ok(report),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Err(NotQueued::Full),
            Err((err, _)) => Err(NotQueued::Failed(self.failure(&err))),
        }
    }

    /// A record has arrived: whatever was wrong is over.
    pub fn delivered(&self) {
        self.trouble.over();
    }

    /// Why a record has failed, with what brokers have said of late where that may be the reason.
    pub fn failure(&self, err: &KafkaError) -> Failure {
        let code = match err {
            KafkaError::MessageProduction(code) => *code,
            _ => return Failure::Kafka(err.to_string()),
        };
        if code == RDKafkaErrorCode::Fatal {
            self.renew();
        }
        let late = code == RDKafkaErrorCode::MessageTimedOut;
        let said = self.trouble.last().clone().filter(|_| late || code == RDKafkaErrorCode::Fatal);
        let after = match late {
            true => format!(" within {} ms", self.delivery_timeout.as_millis()),
            false => String::new(),
        };
        Failure::Kafka(match said {
            Some(said) => format!("{err}{after}; last heard of the brokers: {said}"),
            None => format!("{err}{after}"),
        })
    }

    /// An idempotent producer that can no longer keep its promise refuses everything from then on: another takes over.
    fn renew(&self) {
        let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        if renewed.elapsed() < RENEW_AFTER {
            return;
        }
        *renewed = Instant::now();
        tracing::error!(brokers = %self.key.brokers, "a Kafka producer has failed for good and is made anew");
        match create(&self.key, self.delivery_timeout, self.trouble.clone()) {
            Ok(client) => {
                let former = self.client.swap(Arc::new(client));
                // Closing takes its time, and this may be a worker's thread.
                std::thread::spawn(move || drop(former));
            }
            Err(err) => tracing::error!(brokers = %self.key.brokers, "and cannot be: {err}"),
        }
    }
}

/// All producers of a node. Cheap to clone.
#[derive(Clone)]
pub struct KafkaProducers {
    /// `kafka.bootstrap_servers` of the node's settings.
    default_brokers: Option<String>,
    delivery_timeout: Duration,
    egress: Arc<EgressRules>,
    producers: Arc<Mutex<HashMap<ProducerKey, Kept>>>,
    metrics: Metrics,
}

/// A producer, and since when no backend has it.
struct Kept {
    producer: Arc<SharedProducer>,
    unused_since: Option<Instant>,
}

impl KafkaProducers {
    pub fn new(
        default_brokers: Option<String>,
        delivery_timeout: Duration,
        egress: Arc<EgressRules>,
        metrics: Metrics,
    ) -> KafkaProducers {
        KafkaProducers { default_brokers, delivery_timeout, egress, producers: Arc::default(), metrics }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<ProducerKey, Kept>> {
        self.producers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn producer(&self, spec: &KafkaSpec) -> Result<Arc<SharedProducer>, Failure> {
        if let Some(own) = &spec.bootstrap_servers {
            self.egress.check_brokers(own).map_err(Failure::EgressDenied)?;
        }
        let Some(brokers) = spec.bootstrap_servers.clone().or_else(|| self.default_brokers.clone()) else {
            let reason = "the backend names no bootstrapServers and this node has no kafka.bootstrap_servers";
            return Err(Failure::Misconfigured(reason.to_owned()));
        };
        let key = ProducerKey {
            brokers,
            acks: spec.acks,
            retries: spec.retries,
            compression: spec.compression,
            security: spec.security.clone(),
        };
        let mut producers = self.all();
        if let Some(kept) = producers.get(&key) {
            return Ok(kept.producer.clone());
        }
        let made = SharedProducer::new(key.clone(), self.delivery_timeout);
        let producer = made.map_err(|err| Failure::Misconfigured(format!("Kafka producer: {err}")))?;
        let producer = Arc::new(producer);
        producers.insert(key, Kept { producer: producer.clone(), unused_since: None });
        self.metrics.kafka_producers_opened.inc();
        self.metrics.kafka_producers.inc();
        Ok(producer)
    }

    /// Ends producers that no backend has had for a while and that have nothing under way: dropping one drops its queue.
    pub fn sweep(&self) {
        // Another worker is at it, or makes one.
        let Ok(mut producers) = self.producers.try_lock() else { return };
        let used_up = |kept: &mut Kept| {
            if Arc::strong_count(&kept.producer) > 1 || kept.producer.client.load().in_flight_count() > 0 {
                kept.unused_since = None;
                return false;
            }
            kept.unused_since.get_or_insert_with(Instant::now).elapsed() >= UNUSED_MAX
        };
        let keys: Vec<_> = producers.iter_mut().filter_map(|(key, kept)| used_up(kept).then(|| key.clone())).collect();
        for kept in keys.iter().filter_map(|key| producers.remove(key)) {
            self.metrics.kafka_producers.dec();
            // Joins its thread.
            actix_rt::task::spawn_blocking(move || drop(kept));
        }
    }

    /// Waits until nothing is queued any more, for a node that leaves; that long for all of them together.
    pub fn flush(&self, within: Duration) {
        let producers: Vec<_> = self.all().values().map(|kept| kept.producer.clone()).collect();
        let until = Instant::now() + within;
        for producer in producers {
            let client = producer.client.load();
            if let Err(err) = client.flush(until.saturating_duration_since(Instant::now())) {
                tracing::warn!(unsent = client.in_flight_count(), "Kafka producer not flushed: {err}");
            }
        }
    }
}

/// With as much less as librdkafka may be late, each record has its answer in time. Of a short time half is kept.
fn message_timeout(delivery_timeout: Duration) -> Duration {
    delivery_timeout.saturating_sub(TIMEOUTS_SEEN_EVERY).max(delivery_timeout / 2).max(MESSAGE_TIMEOUT_MIN)
}

fn create(key: &ProducerKey, delivery_timeout: Duration, trouble: Trouble) -> Result<Client, KafkaError> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &key.brokers)
        .set("client.id", "wsgateway")
        .set("acks", key.acks.as_str())
        // librdkafka: an idempotent producer requires acks=all.
        .set("enable.idempotence", if key.acks == KafkaAcks::All { "true" } else { "false" })
        .set("compression.type", key.compression.as_str())
        .set("message.timeout.ms", message_timeout(delivery_timeout).as_millis().to_string())
        .set("queue.buffering.max.messages", QUEUE_RECORDS_MAX)
        .set("queue.buffering.max.kbytes", QUEUE_KIB_MAX)
        .set("queue.buffering.max.ms", LINGER_MILLIS)
        .set("reconnect.backoff.max.ms", "1000")
        .set("socket.keepalive.enable", "true");
    for (name, value) in key.security.properties() {
        config.set(name, value);
    }
    if key.acks != KafkaAcks::All {
        // Without idempotence a retry would overtake.
        config.set("max.in.flight.requests.per.connection", "1");
    }
    if let Some(retries) = key.retries {
        config.set("message.send.max.retries", retries.to_string());
    }
    config.create_with_context(trouble)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn producers() -> KafkaProducers {
        KafkaProducers::new(None, Duration::from_secs(1), Arc::default(), Metrics::default())
    }

    fn spec(topic: &str) -> KafkaSpec {
        KafkaSpec {
            topic: topic.to_owned(),
            bootstrap_servers: Some("127.0.0.1:1".to_owned()),
            acks: KafkaAcks::All,
            retries: None,
            key: crate::model::kafka::KafkaKey::ConnectionId,
            headers: Vec::new(),
            compression: KafkaCompression::None,
            security: KafkaSecurity::default(),
            reply: None,
        }
    }

    #[test]
    fn a_producer_is_shared() {
        let producers = self::producers();
        let (one, two) = (producers.producer(&spec("a")).unwrap(), producers.producer(&spec("b")).unwrap());
        assert!(Arc::ptr_eq(&one, &two), "topics do not tell producers apart");
        let other = KafkaSpec { compression: KafkaCompression::Zstd, ..spec("a") };
        assert!(!Arc::ptr_eq(&one, &producers.producer(&other).unwrap()));
    }

    #[test]
    fn records_are_given_up_a_look_before_their_time() {
        for (whole, ours) in [(10_000, 9_000), (2_500, 1_500), (1_500, 750), (1, 10)] {
            assert_eq!(message_timeout(Duration::from_millis(whole)).as_millis(), ours, "of {whole} ms");
        }
    }

    #[test]
    fn every_compression_and_mechanism_is_built_in() {
        use crate::model::kafka::{KafkaProtocol, Sasl};
        use crate::model::secret::Secret;
        let producers = self::producers();
        for compression in
            [KafkaCompression::Gzip, KafkaCompression::Zstd, KafkaCompression::Lz4, KafkaCompression::Snappy]
        {
            assert!(producers.producer(&KafkaSpec { compression, ..spec("a") }).is_ok(), "{compression:?}");
        }
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let sasl = Sasl { mechanism, username: "u".to_owned(), password: Secret::new("p") };
            let security =
                KafkaSecurity { protocol: KafkaProtocol::SaslSsl, sasl: Some(sasl), ..KafkaSecurity::default() };
            assert!(producers.producer(&KafkaSpec { security, ..spec("a") }).is_ok(), "{mechanism}");
        }
    }

    #[test]
    fn a_late_record_says_what_the_brokers_have_said() {
        let shared = SharedProducer::new(
            ProducerKey {
                brokers: "127.0.0.1:1".to_owned(),
                acks: KafkaAcks::All,
                retries: None,
                compression: KafkaCompression::None,
                security: KafkaSecurity::default(),
            },
            Duration::from_millis(700),
        )
        .unwrap();
        let late = KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut);
        let told = |reason: &str| shared.trouble.error(KafkaError::Global(RDKafkaErrorCode::Authentication), reason);
        told("invalid credentials");
        shared.trouble.error(KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        let said = shared.failure(&late).to_string();
        assert!(said.contains("within 700 ms") && said.ends_with("brokers: invalid credentials"), "{said}");
        shared.delivered();
        assert!(!shared.failure(&late).to_string().contains("credentials"));
    }
}
