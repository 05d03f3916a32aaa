//! The backends of an endpoint document. Re-exported by `document`; imports model's secret.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::HeaderMap;
use crate::model::secret::Secret;

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
    /// http
    pub circuit_breaker: Option<CircuitBreaker>,
    /// http: a 2xx answer's JSON body goes back to the sender.
    #[schemars(extend("default" = false))]
    pub reply: Option<bool>,
    /// http: key of the HMAC over id.timestamp.body.
    pub signing_secret: Option<Secret>,
    /// http: requests under way on one node at once.
    #[schemars(range(min = 1, max = 65_536), extend("default" = 1_024))]
    pub max_in_flight: Option<u32>,
    /// http
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
    /// kafka
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
    #[schemars(range(min = 1, max = 1_000))]
    pub failures: Option<u32>,
    #[schemars(range(min = 100, max = 600_000))]
    pub open_in_millis: Option<u64>,
}

/// Several events in one request.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Batch {
    #[schemars(range(min = 1, max = 1_000), extend("default" = 1))]
    pub max_events: Option<u32>,
    #[schemars(range(max = 10_000), extend("default" = 0))]
    pub max_delay_millis: Option<u64>,
    #[schemars(range(min = 1, max = 67_108_864))]
    pub max_bytes: Option<u64>,
}

/// How to reach secured brokers.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaSecurity {
    pub protocol: Option<String>,
    pub sasl_mechanism: Option<String>,
    pub username: Option<String>,
    pub password: Option<Secret>,
    pub ca: Option<String>,
}
