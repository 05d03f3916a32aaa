//! The sources of an endpoint document. Re-exported by `document`; imports its neighbours only.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document_backend::KafkaSecurity;

/// A topic whose records are messages for clients.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: SourceType,
    /// Its records' values are the messages.
    #[schemars(length(min = 1, max = 249))]
    pub topic: String,
    /// The consumer group that the nodes of the cluster are in.
    #[schemars(length(min = 1, max = 255))]
    pub group: String,
    /// host:port, separated by commas; default: the node's.
    #[schemars(length(min = 1, max = 2048))]
    pub bootstrap_servers: Option<String>,
    /// How the brokers are reached; default: neither encrypted nor authenticated.
    pub security: Option<KafkaSecurity>,
    /// Where a group begins that has read nothing yet: with what is written from now on, or with all that is still there.
    #[schemars(extend("default" = "latest"))]
    pub auto_offset_reset: Option<OffsetReset>,
    /// Who gets a record.
    pub target: SourceTarget,
}

/// The kinds of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum SourceType {
    Kafka,
}

/// Kafka's auto.offset.reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum OffsetReset {
    Latest,
    Earliest,
}

/// Who gets a record: exactly one of these. JSONPaths over {"key", "headers", "value"} of the record.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceTarget {
    /// JSONPath of connection ids.
    #[schemars(length(min = 1, max = 512))]
    pub connection: Option<String>,
    /// JSONPath of users.
    #[schemars(length(min = 1, max = 512))]
    pub user: Option<String>,
    /// JSONPath of groups.
    #[schemars(length(min = 1, max = 512))]
    pub group: Option<String>,
    /// true: every connection of the endpoint.
    pub all: Option<bool>,
}
