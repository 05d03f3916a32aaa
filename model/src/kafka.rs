//! Kafka as endpoints name it: what backends write to and sources read from. Made by config's compile; called by the
//! rooms that talk to brokers, which hand [`KafkaSecurity::properties`] to their client library. Imports its neighbours
//! only.

use super::json_path::JsonPath;
use super::secret::Secret;

/// A Kafka backend.
#[derive(Debug)]
pub struct KafkaSpec {
    /// Topic name.
    pub topic: String,
    /// Own brokers; None: the node's.
    pub bootstrap_servers: Option<String>,
    /// Acknowledgements to wait for.
    pub acks: KafkaAcks,
    /// Own number of retries; None: the client library's.
    pub retries: Option<u32>,
    /// Record key, which decides the partition.
    pub key: KafkaKey,
    /// Sent with every record. Any of them may be a credential.
    pub headers: Vec<(String, Secret)>,
    /// Compression of record batches.
    pub compression: KafkaCompression,
    /// How its brokers are reached.
    pub security: KafkaSecurity,
    /// Where answers for the sender come from.
    pub reply: Option<KafkaReply>,
}

/// Answers by correlation id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaReply {
    /// Topic of the answers.
    pub topic: String,
    /// Carries the correlation id, there and back.
    pub correlation_header: String,
}

impl KafkaReply {
    /// Tells a service the topic of its answer: what Spring Kafka calls it.
    pub const TOPIC_HEADER: &'static str = "kafka_replyTopic";
    /// The same of the correlation id.
    pub const CORRELATION_HEADER_DEFAULT: &'static str = "kafka_correlationId";
}

/// The correlation id of an event: all that is needed to bring its answer back, so that no node has to remember it.
pub fn correlation_id(endpoint: &str, connection: &str, event: &str) -> String {
    format!("{endpoint}/{connection}/{event}")
}

/// The connection that asked. None: the answer is to no event of this endpoint.
pub fn asker<'c>(endpoint: &str, correlation_id: &'c str) -> Option<&'c str> {
    let rest = correlation_id.strip_prefix(endpoint)?.strip_prefix('/')?;
    rest.split_once('/').map(|(connection, _)| connection)
}

/// Kafka's `acks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KafkaAcks {
    /// All in-sync replicas; the only one that an idempotent producer can have.
    All,
    /// The partition's leader.
    Leader,
    /// None.
    None,
}

impl KafkaAcks {
    /// As librdkafka's property `acks` takes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            KafkaAcks::All => "all",
            KafkaAcks::Leader => "1",
            KafkaAcks::None => "0",
        }
    }
}

/// Where a record's key comes from.
#[derive(Debug)]
pub enum KafkaKey {
    /// The connection: its events share a partition.
    ConnectionId,
    /// The identity; none: the connection.
    UserId,
    /// The event's value there; none: the connection.
    Path(JsonPath),
}

/// Compression of record batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KafkaCompression {
    /// None.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// LZ4.
    Lz4,
    /// Snappy.
    Snappy,
}

impl KafkaCompression {
    /// As librdkafka's property `compression.type` takes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            KafkaCompression::None => "none",
            KafkaCompression::Gzip => "gzip",
            KafkaCompression::Zstd => "zstd",
            KafkaCompression::Lz4 => "lz4",
            KafkaCompression::Snappy => "snappy",
        }
    }
}

/// How brokers are reached and what is shown to them. The default is neither encrypted nor authenticated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct KafkaSecurity {
    /// Encrypted or not, authenticated or not.
    pub protocol: KafkaProtocol,
    /// With a protocol that has SASL.
    pub sasl: Option<Sasl>,
    /// PEM of the authorities that sign the brokers' certificates; None: the system's.
    pub ca: Option<String>,
    /// PEM of this client's certificate and of its key.
    pub certificate: Option<(String, Secret)>,
}

/// Kafka's `security.protocol`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum KafkaProtocol {
    /// Neither.
    #[default]
    Plaintext,
    /// TLS.
    Ssl,
    /// SASL without TLS.
    SaslPlaintext,
    /// SASL over TLS.
    SaslSsl,
}

impl KafkaProtocol {
    /// As documents write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            KafkaProtocol::Plaintext => "PLAINTEXT",
            KafkaProtocol::Ssl => "SSL",
            KafkaProtocol::SaslPlaintext => "SASL_PLAINTEXT",
            KafkaProtocol::SaslSsl => "SASL_SSL",
        }
    }

    /// Whether a username and a password are shown.
    pub const fn has_sasl(self) -> bool {
        matches!(self, KafkaProtocol::SaslPlaintext | KafkaProtocol::SaslSsl)
    }

    /// Whether it is encrypted.
    pub const fn has_tls(self) -> bool {
        matches!(self, KafkaProtocol::Ssl | KafkaProtocol::SaslSsl)
    }
}

/// A username and a password, and how they are shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Sasl {
    /// PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512: what librdkafka has without Cyrus SASL.
    pub mechanism: &'static str,
    /// Who.
    pub username: String,
    /// Never in an error: librdkafka's own do not quote it.
    pub password: Secret,
}

impl KafkaSecurity {
    /// As properties of librdkafka.
    pub fn properties(&self) -> Vec<(&'static str, &str)> {
        let mut properties = vec![(
            "security.protocol",
            match self.protocol {
                KafkaProtocol::Plaintext => "plaintext",
                KafkaProtocol::Ssl => "ssl",
                KafkaProtocol::SaslPlaintext => "sasl_plaintext",
                KafkaProtocol::SaslSsl => "sasl_ssl",
            },
        )];
        if let Some(sasl) = &self.sasl {
            properties.push(("sasl.mechanism", sasl.mechanism));
            properties.push(("sasl.username", &sasl.username));
            properties.push(("sasl.password", sasl.password.expose()));
        }
        if let Some(ca) = &self.ca {
            properties.push(("ssl.ca.pem", ca));
        }
        if let Some((certificate, key)) = &self.certificate {
            properties.push(("ssl.certificate.pem", certificate));
            properties.push(("ssl.key.pem", key.expose()));
        }
        properties
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_correlation_id_leads_back() {
        let id = correlation_id("ep-1", "AQnOSEC4", "01M8");
        assert_eq!(asker("ep-1", &id), Some("AQnOSEC4"));
        assert_eq!(asker("ep-11", &id), None, "another endpoint's");
        assert_eq!(asker("ep-1", "ep-11/a/b"), None);
        assert_eq!(asker("ep-1", "ep-1/a"), None);
        assert_eq!(asker("ep-1", "anything"), None);
    }

    #[test]
    fn properties_of_a_client() {
        assert_eq!(KafkaSecurity::default().properties(), [("security.protocol", "plaintext")]);
        let all = KafkaSecurity {
            protocol: KafkaProtocol::SaslSsl,
            sasl: Some(Sasl {
                mechanism: "SCRAM-SHA-512",
                username: "alice".to_owned(),
                password: Secret::new("hunter2"),
            }),
            ca: Some("ca".to_owned()),
            certificate: Some(("cert".to_owned(), Secret::new("key"))),
        };
        let expected = [
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "alice"),
            ("sasl.password", "hunter2"),
            ("ssl.ca.pem", "ca"),
            ("ssl.certificate.pem", "cert"),
            ("ssl.key.pem", "key"),
        ];
        assert_eq!(all.properties(), expected);
        assert!(!format!("{all:?}").contains("hunter2"));
    }
}
