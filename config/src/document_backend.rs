//! The backends of an endpoint document. Re-exported by `document`; imports model's secret.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::HeaderMap;
use wsgateway_model::secret::Secret;

/// A service or topic that takes events. Flat: `type` decides which fields count.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backend {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: BackendType,
    /// False: best effort; its failure neither delays nor fails the event.
    #[schemars(extend("default" = true))]
    pub required: Option<bool>,

    /// http: URL; {param} is taken from the endpoint's path.
    #[schemars(length(max = 2048))]
    pub destination: Option<String>,
    /// http
    #[schemars(extend("default" = "POST"))]
    pub method: Option<HttpMethod>,
    /// http: for the whole exchange of one attempt.
    #[schemars(range(min = 1, max = 120_000), extend("default" = 1_500))]
    pub timeout_in_millis: Option<u64>,
    /// http: for making the connection.
    #[schemars(range(min = 1, max = 30_000), extend("default" = 200))]
    pub connect_timeout_in_millis: Option<u64>,
    /// http
    #[schemars(length(max = 64))]
    pub additional_headers: Option<HeaderMap>,
    /// http: how often an event is tried.
    pub retry: Option<Retry>,
    /// http: when it is left alone; without it never.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// http: a 2xx answer's JSON body goes back to the sender.
    #[schemars(extend("default" = false))]
    pub reply: Option<bool>,
    /// http: key of the HMAC over id.timestamp.body (Standard Webhooks): `whsec_` and base64, or any text of 24–64 bytes;
    /// two are separated by a space.
    pub signing_secret: Option<Secret>,
    /// http: requests under way on one node at once.
    #[schemars(range(min = 1, max = 65_536), extend("default" = 1_024))]
    pub max_in_flight: Option<u32>,
    /// http: several events in one request.
    pub batch: Option<Batch>,

    /// kafka
    #[schemars(length(min = 1, max = 249))]
    pub topic: Option<String>,
    /// kafka: host:port, separated by commas; default: the node's.
    #[schemars(length(min = 1, max = 2048))]
    pub bootstrap_servers: Option<String>,
    /// kafka
    #[schemars(extend("default" = "all"))]
    pub acks: Option<Acks>,
    /// kafka: default: the client library's.
    #[schemars(range(max = 1_000))]
    pub retries_nr: Option<u32>,
    /// kafka: connectionId, userId or a JSONPath.
    #[schemars(length(min = 1, max = 512), extend("default" = "connectionId"))]
    pub key: Option<String>,
    /// kafka
    #[schemars(length(max = 64))]
    pub headers: Option<HeaderMap>,
    /// kafka
    #[schemars(extend("default" = "none"))]
    pub compression: Option<Compression>,
    /// kafka: topic of answers that go back to the sender, by the correlation id that each record carries.
    #[schemars(length(min = 1, max = 249))]
    pub reply_topic: Option<String>,
    /// kafka: the header that carries the correlation id, in records and in answers.
    #[schemars(length(min = 1, max = 255), extend("default" = "kafka_correlationId"))]
    pub correlation_header: Option<String>,
    /// kafka: how the brokers are reached; default: neither encrypted nor authenticated.
    pub security: Option<KafkaSecurity>,

    /// echo: answers before JSON decoding.
    #[schemars(extend("default" = false))]
    pub raw: Option<bool>,
}

/// The kinds of backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum BackendType {
    Http,
    Kafka,
    Echo,
}

/// Methods that may carry an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
pub enum HttpMethod {
    Post,
    Put,
    Patch,
}

/// Kafka's acknowledgements: all in-sync replicas, the leader (1), none (0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(inline)]
pub enum Acks {
    #[serde(rename = "all")]
    All,
    #[serde(rename = "1")]
    Leader,
    #[serde(rename = "0")]
    None,
}

/// Compression of record batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
    Lz4,
    Snappy,
}

/// Attempts of one delivery.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    #[schemars(range(min = 1, max = 20), extend("default" = 3))]
    pub attempts: Option<u32>,
    /// The longest pause before the second attempt; it doubles with each further one.
    #[schemars(range(min = 1, max = 60_000), extend("default" = 100))]
    pub backoff_in_millis: Option<u64>,
    /// No pause is longer, whatever a service asks for.
    #[schemars(range(min = 1, max = 600_000), extend("default" = 2_000))]
    pub max_backoff_in_millis: Option<u64>,
}

/// When a failing backend is left alone.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CircuitBreaker {
    /// Failures in a row after which nothing is sent for a while.
    #[schemars(range(min = 1, max = 1_000), extend("default" = 5))]
    pub failures: Option<u32>,
    /// For how long; then a few requests are let through.
    #[schemars(range(min = 100, max = 600_000), extend("default" = 2_000))]
    pub open_in_millis: Option<u64>,
}

/// Several events in one request.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Batch {
    /// In one request; 1: each has its own.
    #[schemars(range(min = 1, max = 1_000), extend("default" = 1))]
    pub max_events: Option<u32>,
    /// How long an event may wait for others while no request is under way.
    #[schemars(range(max = 10_000), extend("default" = 0))]
    pub max_delay_millis: Option<u64>,
    /// Of a request's body; a larger event goes alone.
    #[schemars(range(min = 1, max = 67_108_864), extend("default" = 1_048_576))]
    pub max_bytes: Option<u64>,
}

/// How to reach secured brokers.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaSecurity {
    pub protocol: KafkaProtocol,
    /// SASL
    pub sasl_mechanism: Option<SaslMechanism>,
    /// SASL
    #[schemars(length(min = 1, max = 1024))]
    pub username: Option<String>,
    /// SASL; stored encrypted.
    #[schemars(length(max = 4096))]
    pub password: Option<Secret>,
    /// SSL: PEM text of the authorities that sign the brokers' certificates, or a reference to it; default: the system's.
    #[schemars(length(max = 65_536))]
    pub ca: Option<String>,
    /// SSL: PEM text of this client's certificate, or a reference to it.
    #[schemars(length(max = 65_536))]
    pub certificate: Option<String>,
    /// SSL: PEM text of the certificate's key; stored encrypted.
    #[schemars(length(max = 65_536))]
    pub private_key: Option<Secret>,
}

/// Kafka's security.protocol: encrypted (SSL) or not, authenticated (SASL) or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(inline)]
pub enum KafkaProtocol {
    #[serde(rename = "PLAINTEXT")]
    Plaintext,
    #[serde(rename = "SSL")]
    Ssl,
    #[serde(rename = "SASL_PLAINTEXT")]
    SaslPlaintext,
    #[serde(rename = "SASL_SSL")]
    SaslSsl,
}

/// How a password is shown to brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(inline)]
pub enum SaslMechanism {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}
