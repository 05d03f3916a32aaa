//! The floors' way to Kafka: librdkafka's producer with the gateway's settings, and records that are the gateway's in
//! number and length of their headers, with texts that never change. Once behind the floor's WebSocket codec, once alone.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::BytesMut;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, DefaultProducerContext, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer,
};
use rdkafka::{ClientConfig, ClientContext};

use crate::event::Stamp;
use crate::meter::now_nanos;
use crate::process::cpu_seconds;
use crate::stats::Histogram;
use crate::target::Alone;

/// Characters of a connection's id, which is a record's key.
const KEY_BYTES: usize = 44;
/// Of records that count for no run.
const NO_RUN: u64 = u64::MAX;
/// Share of the events that is sent first and not counted, as under the other loads.
const WARM_UP_SHARE: u64 = 10;
/// Share of the outstanding records that is delivered when the sender is told that there is room.
const WOKEN_SHARE: usize = 2;
/// How long a wait takes at most to look again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Headers that all records of a backend have in common.
const CONSTANT_HEADERS: [(&str, &str); 7] = [
    ("content-type", "application/json"),
    ("ce_specversion", "1.0"),
    ("ce_type", "io.wsgateway.message"),
    ("ce_source", "/endpoints/ep-1d8debe9ddd655f1"),
    ("ce_endpointpath", "/bench"),
    ("ce_route", "Default"),
    ("ce_node", "n1"),
];

/// `ClientConfig` as the gateway's `src/backends/kafka/producers.rs` makes it of a backend without fields of its own.
fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("client.id", "wsgateway")
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("compression.type", "none")
        .set("message.timeout.ms", "30000")
        .set("queue.buffering.max.messages", "100000")
        .set("queue.buffering.max.kbytes", "65536")
        .set("queue.buffering.max.ms", "1")
        .set("reconnect.backoff.max.ms", "1000")
        .set("socket.keepalive.enable", "true");
    config
}

fn constant_headers() -> OwnedHeaders {
    let headers = OwnedHeaders::new_with_capacity(16);
    CONSTANT_HEADERS.iter().fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(*value) }))
}

/// A copy of the constant ones and five of the event's own, as the gateway does it.
fn headers(constants: &OwnedHeaders, connection: &str) -> OwnedHeaders {
    [
        ("ce_id", "01M88E2H5RBTJFHPDCZ78PV396"),
        ("ce_time", "2026-11-25T04:05:28.461Z"),
        ("ce_sequence", "1234"),
        ("ce_connectionid", connection),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ]
    .iter()
    .fold(constants.clone(), |headers, (key, value)| headers.insert(Header { key, value: Some(*value) }))
}

fn key(connection: usize) -> String {
    format!("{connection:0KEY_BYTES$}")
}

/// Behind the floor's codec: keyed by connection, nothing waited for but room.
pub struct Producer {
    pub(super) inner: ThreadedProducer<DefaultProducerContext>,
    topic: String,
    constants: OwnedHeaders,
}

impl Producer {
    pub fn start(brokers: &str, topic: &str) -> anyhow::Result<Self> {
        Ok(Self { inner: config(brokers).create()?, topic: topic.to_owned(), constants: constant_headers() })
    }

    pub async fn send(&self, connection: usize, body: &[u8]) -> anyhow::Result<()> {
        self.send_as(&key(connection), body).await
    }

    pub async fn send_as(&self, key: &str, body: &[u8]) -> anyhow::Result<()> {
        const ROOM_POLL: Duration = Duration::from_millis(1);
        let mut record = BaseRecord::to(&self.topic).key(key).payload(body).headers(headers(&self.constants, key));
        while let Err((error, unsent)) = self.inner.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            tokio::time::sleep(ROOM_POLL).await;
            record = unsent;
        }
        Ok(())
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // What is left then is counted as missing by whoever waits for it.
        let _ = self.inner.flush(LOOK_AGAIN);
    }
}

/// What delivery reports say, and who is told.
struct Reports {
    outstanding: AtomicUsize,
    /// As many may be left when the sender is told.
    wake_at: AtomicUsize,
    failed: AtomicU64,
    latencies: Mutex<Histogram>,
    /// The sender waits for room.
    waiting: AtomicBool,
    sender: Thread,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    /// When it was sent, in `now_nanos`.
    type DeliveryOpaque = usize;

    fn delivery(&self, report: &DeliveryResult<'_>, sent_nanos: usize) {
        match report {
            Ok(_) => {
                let latency = now_nanos().saturating_sub(sent_nanos as u64);
                self.latencies.lock().unwrap_or_else(PoisonError::into_inner).record(latency);
            }
            Err(_) => drop(self.failed.fetch_add(1, Ordering::Relaxed)),
        }
        let left = self.outstanding.fetch_sub(1, Ordering::SeqCst) - 1;
        if left <= self.wake_at.load(Ordering::SeqCst) && self.waiting.swap(false, Ordering::SeqCst) {
            self.sender.unpark();
        }
    }
}

/// How many records of what, how many of them outstanding, and who has sent them by their keys.
#[derive(Clone, Copy)]
pub struct Amount {
    pub events: u64,
    pub event_bytes: usize,
    pub in_flight: usize,
    pub connections: usize,
    pub longest: Duration,
}

/// The producer alone, in this process: one thread hands it records as long as fewer than `in_flight` are outstanding.
pub fn alone(brokers: &str, topic: &str, amount: Amount) -> anyhow::Result<Alone> {
    let reports = Reports {
        outstanding: AtomicUsize::new(0),
        wake_at: AtomicUsize::new(0),
        failed: AtomicU64::new(0),
        latencies: Mutex::new(Histogram::new()),
        waiting: AtomicBool::new(false),
        sender: std::thread::current(),
    };
    let producer: ThreadedProducer<Reports> = config(brokers).create_with_context(reports)?;
    drive(&producer, topic, amount, (amount.events / WARM_UP_SHARE).max(1))?;
    *producer.context().latencies.lock().unwrap_or_else(PoisonError::into_inner) = Histogram::new();
    let (before, started) = (cpu_seconds(std::process::id())?, Instant::now());
    drive(&producer, topic, amount, amount.events)?;
    let seconds = started.elapsed().as_secs_f64();
    let cpu_seconds = cpu_seconds(std::process::id())? - before;
    let failed = producer.context().failed.load(Ordering::Relaxed);
    anyhow::ensure!(failed == 0, "{failed} records were not delivered");
    let latencies = producer.context().latencies.lock().unwrap_or_else(PoisonError::into_inner);
    let millis = |quantile| latencies.quantile(quantile).map(|nanos| nanos / 1e6).context("nothing was delivered");
    Ok(Alone { events: amount.events, seconds, cpu_seconds, p50_millis: millis(0.5)?, p99_millis: millis(0.99)? })
}

fn drive(producer: &ThreadedProducer<Reports>, topic: &str, amount: Amount, events: u64) -> anyhow::Result<()> {
    let deadline = Instant::now() + amount.longest;
    let constants = constant_headers();
    let mut body = BytesMut::new();
    for number in 0..events {
        if producer.context().outstanding.load(Ordering::SeqCst) >= amount.in_flight {
            // Woken for several: a thread's wake-up for each record is nothing that a service pays.
            wait(producer.context(), amount.in_flight - amount.in_flight.div_ceil(WOKEN_SHARE), deadline)?;
        }
        let sent_nanos = now_nanos();
        body.clear();
        Stamp { run: NO_RUN, slot: 0, sent_nanos }.write(amount.event_bytes, &mut body);
        let key = key(number as usize % amount.connections);
        let record = BaseRecord::with_opaque_to(topic, sent_nanos as usize)
            .key(&key)
            .payload(&body[..])
            .headers(headers(&constants, &key));
        producer.context().outstanding.fetch_add(1, Ordering::SeqCst);
        producer.send(record).map_err(|(error, _)| error)?;
    }
    wait(producer.context(), 0, deadline)
}

/// Until no more than `left` records are outstanding.
fn wait(reports: &Reports, left: usize, deadline: Instant) -> anyhow::Result<()> {
    reports.wake_at.store(left, Ordering::SeqCst);
    while reports.outstanding.load(Ordering::SeqCst) > left {
        anyhow::ensure!(Instant::now() < deadline, "the time was up before all records were delivered");
        reports.waiting.store(true, Ordering::SeqCst);
        // Looked at again, as the report may have come before the flag was seen.
        if reports.outstanding.load(Ordering::SeqCst) > left {
            std::thread::park_timeout(LOOK_AGAIN);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::message::Headers;
    use rdkafka::mocking::MockCluster;

    #[test]
    fn a_record_has_the_gateways_headers() {
        let headers = headers(&constant_headers(), &key(7));
        assert_eq!(headers.count(), 12);
        assert_eq!(headers.get(10).value.map(<[u8]>::len), Some(KEY_BYTES));
    }

    #[test]
    fn alone_it_delivers_all_and_says_what_it_took() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("events", 2, 1).unwrap();
        let amount =
            Amount { events: 500, event_bytes: 128, in_flight: 16, connections: 4, longest: Duration::from_secs(20) };
        let alone = alone(&cluster.bootstrap_servers(), "events", amount).unwrap();
        assert_eq!(alone.events, 500);
        assert!(alone.seconds > 0.0 && alone.p99_millis >= alone.p50_millis);
    }
}
