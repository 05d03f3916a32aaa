//! The endpoint document as it is written: camelCase, flat, unknown fields refused. A null field is a missing one.
//!
//! One JSON Schema, generated from these types, drives validation, `wsgateway check` and the editor, so ranges are
//! stated here; rules between fields are in `validate`. Variants carry no comments on purpose: with them, the schema
//! would list them as `oneOf` instead of one `enum`, and errors could not name the choices.
//!
//! Called by config's other modules; imports model's secret.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

pub use super::document_backend::*;
pub use super::document_source::*;
use wsgateway_model::secret::Secret;

/// A WebSocket endpoint.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "WSGateway endpoint")]
pub struct EndpointDocument {
    /// Path of the endpoint: exact, or with {name} and {*rest} placeholders. Unique in the cluster.
    #[schemars(length(min = 2, max = 255))]
    pub path: String,
    /// A label for people.
    #[schemars(length(max = 255))]
    pub name: Option<String>,
    /// Limits and behaviour of connections.
    pub settings: Option<Settings>,
    /// How clients prove who they are.
    pub authentication: Option<Authentication>,
    /// Lets clients that lost their network come back to their connection.
    pub resume: Option<Resume>,
    /// From where clients may connect.
    pub filters: Option<Filters>,
    /// Rate and connection limits.
    pub throttling: Option<Throttling>,
    /// JSONPath of the value that custom routes with a key compare with.
    #[schemars(length(min = 1, max = 512))]
    pub route_selector: Option<String>,
    /// Templates for pushed messages.
    pub transform: Option<EndpointTransform>,
    /// Acknowledgements to the sender.
    pub ack: Option<Ack>,
    /// Where events go that a backend has not taken for good, of routes without a place of their own; http or kafka.
    pub dead_letter: Option<Backend>,
    /// Where events go.
    #[schemars(length(max = 255))]
    pub routes: Option<Vec<Route>>,
    /// Where messages for clients come from by themselves.
    #[schemars(length(max = 16))]
    pub sources: Option<Vec<Source>>,
}

/// Limits and behaviour of connections.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Order of one connection's events.
    #[schemars(extend("default" = "connection"))]
    pub ordering: Option<Ordering>,
    /// JSONPath of the value that orders events, with ordering "key".
    #[schemars(length(min = 1, max = 512))]
    pub ordering_key: Option<String>,
    /// Deliveries of one connection to one backend at once, unless ordering is "connection".
    #[schemars(range(min = 1, max = 32), extend("default" = 8))]
    pub backend_parallelism: Option<u32>,
    /// Events of one connection accepted but not yet delivered; at the limit its socket is no longer read.
    #[schemars(range(min = 1, max = 1024), extend("default" = 64))]
    pub max_in_flight: Option<u32>,
    /// Time between pings.
    #[schemars(range(min = 5, max = 60), extend("default" = 15))]
    pub heartbeat_interval_in_seconds: Option<u64>,
    /// Unanswered pings until the connection is closed with 4408.
    #[schemars(range(min = 1, max = 10), extend("default" = 3))]
    pub heartbeat_max_missing_ping_frames: Option<u32>,
    /// Longest time without events either way.
    #[schemars(range(min = 1, max = 604_800))]
    pub idle_timeout_in_seconds: Option<u64>,
    /// Longest life of a connection.
    #[schemars(range(min = 1, max = 2_592_000))]
    pub max_connection_duration_in_seconds: Option<u64>,
    /// Largest message of a client; a larger one closes the connection with 1009.
    #[schemars(range(min = 1, max = 16_777_216), extend("default" = 131_072))]
    pub max_message_bytes: Option<u64>,
    /// What may wait for a client that reads slowly.
    pub outbox: Option<Outbox>,
    /// Offered subprotocols; the first of the client's that is among them is echoed.
    #[schemars(length(max = 32))]
    pub subprotocols: Option<Vec<String>>,
    /// What a new version means for open connections.
    #[schemars(extend("default" = "keep"))]
    pub on_version_change: Option<OnVersionChange>,
}

/// Order of one connection's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum Ordering {
    Connection,
    Key,
    None,
}

/// What may wait for a client that reads slowly.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Outbox {
    /// Bytes of waiting frames.
    #[schemars(range(min = 1_024, max = 67_108_864), extend("default" = 262_144))]
    pub max_bytes: Option<u64>,
    /// Number of waiting frames.
    #[schemars(range(min = 1, max = 65_536), extend("default" = 256))]
    pub max_messages: Option<u32>,
    /// The answer to a full outbox; "close" closes with 1013.
    #[schemars(extend("default" = "close"))]
    pub when_full: Option<WhenFull>,
    /// JSONPath of the value of which only the newest message waits, with whenFull "coalesce".
    #[schemars(length(min = 1, max = 512))]
    pub coalesce_by: Option<String>,
}

/// The answer to a full outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum WhenFull {
    Close,
    DropOldest,
    DropNewest,
    Coalesce,
}

/// Lets clients that lost their network come back to their connection.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resume {
    /// How long a connection waits for its client.
    #[schemars(range(min = 1, max = 3_600), extend("default" = 60))]
    pub window_in_seconds: Option<u64>,
    /// Bytes kept of messages for it, with 64 for each.
    #[schemars(range(min = 1_024, max = 16_777_216), extend("default" = 262_144))]
    pub max_bytes: Option<u64>,
}

/// What a new version means for open connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum OnVersionChange {
    Keep,
    Close,
}

/// How clients prove who they are. Flat: `mode` decides which fields count.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Authentication {
    /// With "none", the other fields are ignored.
    pub mode: AuthenticationMode,
    /// basic
    pub username: Option<String>,
    /// basic; stored as its passwordHash.
    #[schemars(length(max = 1024))]
    pub password: Option<String>,
    /// basic: an argon2id hash in the PHC string format.
    #[schemars(length(max = 512))]
    pub password_hash: Option<String>,
    /// basic
    #[schemars(length(max = 100))]
    pub users: Option<Vec<User>>,
    /// apiKey
    #[schemars(length(max = 100))]
    pub keys: Option<Vec<ApiKey>>,
    /// apiKey: where the client puts its key.
    #[serde(rename = "in")]
    #[schemars(extend("default" = "header"))]
    pub place: Option<ApiKeyPlace>,
    /// apiKey: name of the header or query parameter.
    #[schemars(length(min = 1, max = 255), extend("default" = "X-Api-Key"))]
    pub name: Option<String>,
    /// bearer
    pub authorization_server_url: Option<String>,
    /// bearer
    #[schemars(range(max = 86_400))]
    pub cache_in_seconds: Option<u64>,
    /// jwt, oauth2
    pub issuer: Option<String>,
    /// jwt: one, or a list.
    pub audience: Option<OneOrMany>,
    /// jwt
    pub jwks_url: Option<String>,
    /// jwt
    pub algorithms: Option<Vec<String>>,
    /// jwt, oauth2
    pub required_scopes: Option<Vec<String>>,
    /// jwt
    #[schemars(range(max = 600))]
    pub leeway_in_seconds: Option<u64>,
    /// oauth2
    pub introspection_url: Option<String>,
    /// oauth2
    pub client_id: Option<String>,
    /// oauth2; stored encrypted.
    #[schemars(length(max = 4096))]
    pub client_secret: Option<Secret>,
    /// authorizer
    pub url: Option<String>,
    /// clientCertificate: the part of the certificate that is the user.
    #[schemars(extend("default" = "commonName"))]
    pub user_from: Option<CertificateName>,
    /// Query parameter that may carry the token.
    pub token_query: Option<String>,
    /// Time until a credential is checked again.
    #[schemars(range(min = 1, max = 86_400))]
    pub recheck_in_seconds: Option<u64>,
    /// Whether a client may show a new token while it is connected: a message `{"type": "refresh", "token"}`.
    pub refresh: Option<bool>,
}

/// The ways to prove who one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum AuthenticationMode {
    None,
    Basic,
    ApiKey,
    Bearer,
    Jwt,
    Oauth2,
    Authorizer,
    ClientCertificate,
}

/// A part of a certificate that names whom it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum CertificateName {
    CommonName,
    DnsName,
    Email,
    Uri,
    Subject,
}

/// A user of mode basic.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct User {
    pub username: String,
    /// Stored as its passwordHash.
    #[schemars(length(max = 1024))]
    pub password: Option<String>,
    /// An argon2id hash in the PHC string format.
    #[schemars(length(max = 512))]
    pub password_hash: Option<String>,
}

/// An API key: the identity it stands for, and the key or (as stored) its hash.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiKey {
    /// The identity.
    #[schemars(length(min = 1, max = 255))]
    pub id: String,
    /// The key itself; stored as its hash.
    #[schemars(length(max = 1024))]
    pub key: Option<String>,
    /// `sha256:` and 64 hexadecimal digits.
    pub key_hash: Option<String>,
}

/// Where the client puts its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum ApiKeyPlace {
    Header,
    Query,
    Subprotocol,
}

/// A text or a list of texts.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// From where clients may connect. A non-empty whitelist admits nothing else; a blacklist always wins.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Filters {
    /// Addresses, CIDR blocks or dotted prefixes.
    #[schemars(length(max = 1000))]
    pub whitelist_ips: Option<Vec<String>>,
    /// Addresses, CIDR blocks or dotted prefixes.
    #[schemars(length(max = 1000))]
    pub blacklist_ips: Option<Vec<String>>,
    /// Host names, with or without port.
    #[schemars(length(max = 1000))]
    pub whitelist_hosts: Option<Vec<String>>,
    /// Host names, with or without port.
    #[schemars(length(max = 1000))]
    pub blacklist_hosts: Option<Vec<String>>,
    /// Origins of pages that may connect; the endpoint's own always may.
    #[schemars(length(max = 1000), extend("default" = ["*"]))]
    pub allowed_origins: Option<Vec<String>>,
}

/// Rate and connection limits.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Throttling {
    /// Open connections; a handshake above is answered 429.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub max_connections: Option<u64>,
    /// Handshakes that pass every other check; above, they are answered 429.
    pub connections_per_second: Option<Rate>,
    /// Messages of all connections together.
    pub messages_per_second: Option<Rate>,
    /// Messages of each connection.
    pub per_connection: Option<Rate>,
    /// Messages of each identity, over all of its connections.
    pub per_identity: Option<IdentityRate>,
    /// Whose limits they are: of all nodes together or of each node.
    #[schemars(extend("default" = "cluster"))]
    pub scope: Option<ThrottlingScope>,
    /// What happens to a message above a limit; "close" closes its connection with 1008.
    #[schemars(extend("default" = "reject"))]
    pub on_exceeded: Option<OnExceeded>,
}

/// A token bucket.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rate {
    /// A second.
    #[schemars(range(min = 0.01, max = 1_000_000))]
    pub rate: f64,
    /// At once after a pause; default: the rate, rounded up.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<u64>,
}

/// A token bucket of each identity.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IdentityRate {
    /// user, ip, or a JSONPath over the connection description. Who has no such value is known by its address.
    #[schemars(length(min = 1, max = 512), extend("default" = "user"))]
    pub key: Option<String>,
    /// A second.
    #[schemars(range(min = 0.01, max = 1_000_000))]
    pub rate: f64,
    /// At once after a pause; default: the rate, rounded up.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<u64>,
}

/// Whose limit it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum ThrottlingScope {
    Cluster,
    Node,
}

/// What happens above a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum OnExceeded {
    Reject,
    Drop,
    Close,
}

/// Templates for pushed messages.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndpointTransform {
    pub outbound: Option<String>,
}

/// Acknowledgements to the sender.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ack {
    pub when: AckWhen,
    pub template: Option<String>,
}

/// When a sender hears of its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum AckWhen {
    Received,
    Delivered,
}

/// Where events of one kind go.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// What triggers it.
    #[serde(rename = "type")]
    pub kind: RouteType,
    /// Unique among the routes of its type.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// custom: the condition. Either this or key.
    pub expression: Option<Expression>,
    /// custom: the routeSelector's value. Either this or expression.
    #[schemars(length(max = 1024))]
    pub key: Option<String>,
    /// custom: an event that matched goes on to later routes.
    #[serde(rename = "continue")]
    #[schemars(extend("default" = false))]
    pub go_on: Option<bool>,
    /// JSON Schema of the event.
    #[serde(default, deserialize_with = "present")]
    pub schema: Option<Value>,
    /// Template over the event.
    pub transform: Option<RouteTransform>,
    /// Acknowledgements to the sender.
    pub ack: Option<Ack>,
    /// Each takes every event of the route.
    #[schemars(length(max = 10))]
    pub backends: Option<Vec<Backend>>,
    /// Where events go that a required backend has not taken for good; http or kafka. Default: the endpoint's.
    pub dead_letter: Option<Backend>,
}

/// What triggers a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum RouteType {
    Connect,
    Disconnect,
    Error,
    Default,
    Custom,
}

/// Template over the event.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteTransform {
    pub inbound: Option<String>,
}

/// A condition on an event: exactly one of these operators.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expression {
    pub and: Option<Vec<Expression>>,
    pub or: Option<Vec<Expression>>,
    pub not: Option<Box<Expression>>,
    pub equal: Option<Comparison>,
    pub not_equal: Option<Comparison>,
    /// A linear-time regex that is found anywhere in a string; anchor with ^ and $.
    pub matches: Option<Comparison>,
    pub gt: Option<Comparison>,
    pub gte: Option<Comparison>,
    pub lt: Option<Comparison>,
    pub lte: Option<Comparison>,
    /// The value is a list of which one is equal.
    #[serde(rename = "in")]
    pub one_of: Option<Comparison>,
    pub contains: Option<Comparison>,
    pub starts_with: Option<Comparison>,
    /// The value is true (default) or false.
    pub exists: Option<Comparison>,
}

/// What an operator compares.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Comparison {
    /// JSONPath (RFC 9535).
    #[schemars(length(max = 512))]
    pub path: String,
    /// null is a value; None: there is none.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    #[schemars(extend("default" = "event"))]
    pub source: Option<ComparisonSource>,
}

/// Where a path starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum ComparisonSource {
    Event,
    Connection,
}

/// Names and values, which may be credentials.
pub type HeaderMap = BTreeMap<String, Secret>;

/// Keeps a null apart from a missing field.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// The JSON Schema of endpoint documents.
pub fn json_schema() -> Value {
    schemars::schema_for!(EndpointDocument).to_value()
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_a_document() {
        let text = include_str!("testdata/endpoint-config-sample.json");
        let document: EndpointDocument = serde_json::from_str(text).unwrap();
        assert_eq!(document.routes.map(|routes| routes.len()), Some(4));
    }

    #[test]
    fn null_is_a_value_to_compare_with() {
        let with: Comparison = serde_json::from_str(r#"{"path": "$", "value": null}"#).unwrap();
        let without: Comparison = serde_json::from_str(r#"{"path": "$"}"#).unwrap();
        assert_eq!((with.value, without.value), (Some(Value::Null), None));
    }

    #[test]
    fn schema_closes_every_object() {
        let schema = json_schema();
        let definitions = schema["$defs"].as_object().unwrap();
        for (name, definition) in definitions {
            assert_eq!(definition["additionalProperties"], Value::Bool(false), "{name}");
        }
        assert_eq!(schema["additionalProperties"], Value::Bool(false));
        let heartbeat = &definitions["Settings"]["properties"]["heartbeatIntervalInSeconds"];
        assert_eq!((&heartbeat["minimum"], &heartbeat["maximum"]), (&Value::from(5), &Value::from(60)));
    }
}
