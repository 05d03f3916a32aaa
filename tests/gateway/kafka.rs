//! A real Kafka broker, started once per test run through `scripts/kafka.sh`, and consumers that read what the gateway
//! wrote. A broker that does not start fails the test: nothing is skipped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::sync::OnceCell;

use crate::cloud_event::Attributes;
use crate::sandbox::{run_folder, unique_path, Process};
use crate::wait::{eventually, eventually_or_not, soon};

/// Includes fetching the jars on a machine that has none yet.
const START_WITHIN: Duration = Duration::from_secs(240);

/// A Kafka broker.
pub struct Broker {
    pub bootstrap_servers: String,
    /// The same broker behind TLS and SASL.
    pub secured: Secured,
    folder: PathBuf,
    port: String,
    /// Ended when the test process exits, or with the value.
    process: Mutex<Option<Process>>,
}

/// Listeners that want more than a connection. alice's password is alice-secret.
#[derive(Default)]
pub struct Secured {
    pub ssl: String,
    /// Wants a client's certificate.
    pub mtls: String,
    pub sasl_plaintext: String,
    pub sasl_ssl: String,
}

/// The broker of this test run; the first caller starts it.
pub async fn broker() -> &'static Broker {
    static BROKER: OnceCell<Broker> = OnceCell::const_new();
    BROKER.get_or_init(|| Broker::start("kafka")).await
}

/// Runs the broker's script in a folder, and reads the ports when it answers.
async fn start(folder: &Path, port: Option<&str>) -> (Process, Vec<String>) {
    std::fs::create_dir_all(folder).expect("a folder for the broker");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka.sh");
    let mut command = Command::new(script);
    command.arg("exec-secured").arg(folder).args(port);
    let log = folder.join("script.log");
    let mut process = Process::start(command, &log, None).expect("scripts/kafka.sh starts");
    let show = || {
        let files = ["script.log", "broker.log", "wait.log"];
        files.map(|file| std::fs::read_to_string(folder.join(file)).unwrap_or_default()).join("\n")
    };
    let ports = eventually_or_not(START_WITHIN, async || {
        if let Some(status) = process.exited() {
            panic!("the Kafka broker ended: {status}\n{}", show());
        }
        std::fs::read_to_string(folder.join("ready")).ok()
    });
    let Some(ports) = ports.await else { panic!("the Kafka broker was not ready within {START_WITHIN:?}\n{}", show()) };
    (process, ports.split_whitespace().map(String::from).collect())
}

impl Broker {
    /// A broker of its own, for what stops or freezes it.
    pub async fn start(name: &str) -> Broker {
        let folder = run_folder().join(name);
        let (process, ports) = start(&folder, None).await;
        let [port, ssl, mtls, sasl_plaintext, sasl_ssl] = &ports[..] else { panic!("five ports, not {ports:?}") };
        let at = |port: &String| format!("127.0.0.1:{port}");
        let secured =
            Secured { ssl: at(ssl), mtls: at(mtls), sasl_plaintext: at(sasl_plaintext), sasl_ssl: at(sasl_ssl) };
        Broker { bootstrap_servers: at(port), secured, port: port.clone(), folder, process: Mutex::new(Some(process)) }
    }

    /// kill -9.
    pub fn kill(&self) {
        self.process.lock().unwrap().take().expect("the broker runs").kill();
    }

    /// Asked to stop, as an operator does.
    pub async fn stop(&self) {
        let mut process = self.process.lock().unwrap().take().expect("the broker runs");
        process.signal(libc::SIGTERM);
        eventually("the broker ends", Duration::from_secs(30), async || process.exited()).await;
    }

    /// The same broker again, with what it has stored, at the same ports.
    pub async fn restart(&self) {
        std::fs::remove_file(self.folder.join("ready")).expect("it was ready before");
        let (process, _) = start(&self.folder, Some(&self.port)).await;
        *self.process.lock().unwrap() = Some(process);
    }

    /// SIGSTOP, SIGCONT.
    pub fn signal(&self, signal: libc::c_int) {
        self.process.lock().unwrap().as_ref().expect("the broker runs").signal(signal);
    }

    /// Bytes of records that it has on disk of a topic.
    pub fn bytes_of(&self, topic: &str) -> u64 {
        let folders = std::fs::read_dir(self.folder.join("data")).expect("the broker's data");
        let of_topic = |name: &str| name.rsplit_once('-').is_some_and(|(name, _)| name == topic);
        let folders = folders.flatten().filter(|entry| of_topic(&entry.file_name().to_string_lossy()));
        let logs = folders.flat_map(|entry| std::fs::read_dir(entry.path()).expect("a partition").flatten());
        let logs = logs.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "log"));
        logs.map(|entry| entry.metadata().expect("a file").len()).sum()
    }

    /// A file of its `tls` folder.
    pub fn tls(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join("tls").join(name)).expect("a file of the broker's authority")
    }

    /// A new topic with several partitions, and a consumer at its beginning.
    pub async fn topic(&self, theme: &str) -> Topic {
        self.topic_with(theme, &[]).await
    }

    /// The same with settings of the topic.
    pub async fn topic_with(&self, theme: &str, settings: &[(&str, &str)]) -> Topic {
        const PARTITIONS: i32 = 3;
        let name = unique_path(theme).trim_start_matches('/').to_string();
        let admin: AdminClient<DefaultClientContext> = self.config().create().expect("a Kafka admin client");
        let new_topic = NewTopic::new(&name, PARTITIONS, TopicReplication::Fixed(1));
        let new_topic = settings.iter().fold(new_topic, |topic, (name, value)| topic.set(name, value));
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
        let created =
            soon("a new topic", admin.create_topics([&new_topic], &options)).await.expect("the broker answers");
        assert!(created.iter().all(Result::is_ok), "topic {name}: {created:?}");

        Topic::at(self.config(), name, PARTITIONS)
    }

    pub fn writer(&self) -> Writer {
        let mut config = self.config();
        config.set("linger.ms", "1").set("enable.idempotence", "true");
        Writer { producer: config.create().expect("a Kafka producer") }
    }

    fn config(&self) -> ClientConfig {
        config(&self.bootstrap_servers)
    }
}

/// Writes records as a service does.
pub struct Writer {
    producer: FutureProducer,
}

impl Writer {
    /// Answers when the broker has the record.
    pub async fn write(&self, topic: &str, key: &str, headers: &[(&str, &str)], value: Option<&str>) {
        self.write_to(topic, None, key, headers, value).await;
    }

    /// The same to a partition, or to that of its key.
    pub async fn write_to(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: &str,
        headers: &[(&str, &str)],
        value: Option<&str>,
    ) {
        let mut with = OwnedHeaders::new();
        for (key, value) in headers {
            with = with.insert(Header { key, value: Some(*value) });
        }
        let mut record = FutureRecord::to(topic).key(key).headers(with);
        record.payload = value;
        record.partition = partition;
        self.producer.send(record, Duration::from_secs(10)).await.expect("the broker takes a record");
    }
}

pub fn config(bootstrap_servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap_servers);
    config
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
    /// A topic that is there already, read from its beginning.
    pub fn at(mut config: ClientConfig, name: String, count: i32) -> Topic {
        config.set("group.id", &name).set("enable.auto.commit", "false").set("fetch.wait.max.ms", "50");
        let consumer: StreamConsumer = config.create().expect("a Kafka consumer");
        let mut partitions = TopicPartitionList::new();
        for partition in 0..count {
            partitions.add_partition_offset(&name, partition, Offset::Beginning).expect("a valid offset");
        }
        consumer.assign(&partitions).expect("the partitions are assigned");
        Topic { name, consumer }
    }

    pub async fn next(&self) -> Record {
        Self::record(soon(&format!("a record in {}", self.name), self.consumer.recv()).await.expect("a record"))
    }

    /// Everything up to the first pause of this length.
    pub async fn rest(&self, pause: Duration) -> Vec<Record> {
        let mut records = Vec::new();
        loop {
            match tokio::time::timeout(pause, self.consumer.recv()).await {
                Ok(Ok(message)) => records.push(Self::record(message)),
                // The broker was away: the consumer finds it again.
                Ok(Err(error)) => println!("{}: {error}", self.name),
                Err(_) => return records,
            }
        }
    }

    fn record(message: rdkafka::message::BorrowedMessage<'_>) -> Record {
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
