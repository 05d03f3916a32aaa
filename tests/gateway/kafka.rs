//! A real Kafka broker, started once per test run through `scripts/kafka.sh`, and consumers that read what the gateway
//! wrote. A broker that does not start fails the test: nothing is skipped.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::OnceCell;

use crate::cloud_event::Attributes;
use crate::sandbox::{run_folder, unique_path, Process};
use crate::wait::{eventually_or_not, soon};

/// Includes fetching the jars on a machine that has none yet.
const START_WITHIN: Duration = Duration::from_secs(240);

pub struct Broker {
    pub bootstrap_servers: String,
    /// Ended when the test process exits.
    _process: Mutex<Process>,
}

/// The broker of this test run; the first caller starts it.
pub async fn broker() -> &'static Broker {
    static BROKER: OnceCell<Broker> = OnceCell::const_new();
    BROKER.get_or_init(start).await
}

async fn start() -> Broker {
    let folder = run_folder().join("kafka");
    std::fs::create_dir_all(&folder).expect("a folder for the broker");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka.sh");
    let mut command = Command::new(script);
    command.arg("exec").arg(&folder);
    let log = folder.join("script.log");
    let mut process = Process::start(command, &log, None).expect("scripts/kafka.sh starts");
    let show = || {
        let files = ["script.log", "broker.log", "wait.log"];
        files.map(|file| std::fs::read_to_string(folder.join(file)).unwrap_or_default()).join("\n")
    };
    let port = eventually_or_not(START_WITHIN, async || {
        if let Some(status) = process.exited() {
            panic!("the Kafka broker ended: {status}\n{}", show());
        }
        std::fs::read_to_string(folder.join("ready")).ok()
    });
    let Some(port) = port.await else { panic!("the Kafka broker was not ready within {START_WITHIN:?}\n{}", show()) };
    Broker { bootstrap_servers: format!("127.0.0.1:{}", port.trim()), _process: Mutex::new(process) }
}

impl Broker {
    /// A new topic with several partitions, and a consumer at its beginning.
    pub async fn topic(&self, theme: &str) -> Topic {
        const PARTITIONS: i32 = 3;
        let name = unique_path(theme).trim_start_matches('/').to_string();
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("a Kafka admin client");
        let new_topic = NewTopic::new(&name, PARTITIONS, TopicReplication::Fixed(1));
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
        let created =
            soon("a new topic", admin.create_topics([&new_topic], &options)).await.expect("the broker answers");
        assert!(created.iter().all(Result::is_ok), "topic {name}: {created:?}");

        let mut config = self.config();
        config.set("group.id", &name).set("enable.auto.commit", "false").set("fetch.wait.max.ms", "50");
        let consumer: StreamConsumer = config.create().expect("a Kafka consumer");
        let mut partitions = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            partitions.add_partition_offset(&name, partition, Offset::Beginning).expect("a valid offset");
        }
        consumer.assign(&partitions).expect("the partitions are assigned");
        Topic { name, consumer }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap_servers);
        config
    }
}

pub struct Topic {
    pub name: String,
    consumer: StreamConsumer,
}

/// One record as it was stored.
#[derive(Clone, Debug)]
pub struct Record {
    pub key: Option<String>,
    pub partition: i32,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Record {
    pub fn attributes(&self) -> Attributes {
        Attributes::from_headers(&self.headers, "ce_")
    }
}

impl Topic {
    pub async fn next(&self) -> Record {
        let message = soon(&format!("a record in {}", self.name), self.consumer.recv()).await.expect("a record");
        let headers = message.headers().map(|headers| {
            let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
            headers.iter().map(|header| (header.key.to_string(), text(header.value))).collect()
        });
        Record {
            key: message.key().map(|key| String::from_utf8_lossy(key).into_owned()),
            partition: message.partition(),
            headers: headers.unwrap_or_default(),
            body: message.payload().unwrap_or_default().to_vec(),
        }
    }

    /// Panics when a record comes within `time`.
    pub async fn gets_nothing_for(&self, time: Duration) {
        if let Ok(message) = tokio::time::timeout(time, self.consumer.recv()).await {
            let message = message.expect("the broker answers");
            panic!("unexpected record in {}: {:?}", self.name, message.payload().map(String::from_utf8_lossy));
        }
    }
}

#[tokio::test]
async fn the_broker_stores_what_it_is_given() {
    use rdkafka::message::{Header, OwnedHeaders};
    use rdkafka::producer::{FutureProducer, FutureRecord};

    let broker = broker().await;
    let topic = broker.topic("self-test").await;
    let producer: FutureProducer = broker.config().create().expect("a Kafka producer");
    let headers = OwnedHeaders::new().insert(Header { key: "ce_id", value: Some("7") });
    let record = FutureRecord::to(&topic.name).key("k").payload("{\"n\": 1.0}").headers(headers);
    producer.send(record, Duration::from_secs(10)).await.expect("delivered");
    let record = topic.next().await;
    assert_eq!((record.key.as_deref(), record.body.as_slice()), (Some("k"), b"{\"n\": 1.0}".as_slice()));
    assert_eq!(record.attributes().get("id"), "7");
    topic.gets_nothing_for(Duration::from_millis(100)).await;
}
