//! What an operator says about tracing (section `tracing` of a node's settings), and the checked form of it. Errors name
//! the setting. Imports nothing of the crate but what the bounds are.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::Uri;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize, Serializer};

/// Below it, ordinary bursts would be dropped; above it, spans that nobody takes would fill the memory.
const SPANS_QUEUED: std::ops::RangeInclusive<usize> = 64..=1_000_000;
const TIMEOUT_MILLIS: std::ops::RangeInclusive<u64> = 100..=60_000;
/// Of resource attributes, and of headers.
const ENTRIES_MAX: usize = 64;

/// Where the protocol has traces of an endpoint (OTLP/HTTP, "Request").
const TRACES_PATH: &str = "/v1/traces";

/// Headers that are not the operator's.
const OWN_HEADERS: [&str; 7] =
    ["host", "content-type", "content-length", "content-encoding", "connection", "transfer-encoding", "user-agent"];

/// Resource attributes with a setting of their own, or made by the node.
const OWN_ATTRIBUTES: [(&str, &str); 3] = [
    ("service.name", "has a setting of its own, service_name"),
    ("service.version", "is the gateway's version"),
    ("service.instance.id", "is the node's id"),
];

/// As it is written. Everything has a default; without an endpoint there is no tracing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracingSettings {
    /// URL of a collector's OTLP/HTTP receiver, such as `http://127.0.0.1:4318`; `/v1/traces` is put behind it.
    pub endpoint: Option<String>,
    /// Which part of the new traces is recorded, 0 to 1. One event in a hundred shows how long things take at any load worth
    /// looking at; a busy node makes hundreds of thousands of spans a second of all of them.
    pub sample_ratio: f64,
    /// Whether a client's `traceparent` is continued: its trace, and its word on whether it is recorded. Else a new trace begins
    /// and links to it. Clients of whom nobody knows could have everything recorded.
    pub trust_client_traceparent: bool,
    /// Sent with each request; values may be credentials.
    pub headers: BTreeMap<String, HeaderSecret>,
    /// One request must be answered within this time.
    pub timeout_millis: u64,
    /// The resource attribute `service.name`: one for all nodes of a cluster.
    pub service_name: String,
    /// More resource attributes, such as `deployment.environment.name`.
    pub attributes: BTreeMap<String, String>,
    /// Spans that wait to be sent; more are dropped and counted.
    pub spans_queued_max: usize,
}

impl Default for TracingSettings {
    fn default() -> TracingSettings {
        TracingSettings {
            endpoint: None,
            sample_ratio: 0.01,
            trust_client_traceparent: false,
            headers: BTreeMap::new(),
            timeout_millis: 10_000,
            service_name: "wsgateway".to_owned(),
            attributes: BTreeMap::new(),
            spans_queued_max: 8192,
        }
    }
}

/// A header's value. Whoever prints it, as it is or in a list of settings, sees that there is one.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct HeaderSecret(String);

const NOT_SHOWN: &str = "(secret)";

impl HeaderSecret {
    pub fn new(value: impl Into<String>) -> HeaderSecret {
        HeaderSecret(value.into())
    }
}

impl fmt::Debug for HeaderSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NOT_SHOWN)
    }
}

impl Serialize for HeaderSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(NOT_SHOWN)
    }
}

/// What is wrong; names the setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct SettingsError {
    pub key: &'static str,
    pub reason: String,
}

fn wrong<T>(key: &'static str, reason: impl Into<String>) -> Result<T, SettingsError> {
    Err(SettingsError { key, reason: reason.into() })
}

/// A collector that may be called.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// None: plain HTTP.
    pub tls: Option<ServerName<'static>>,
    pub host: String,
    pub port: u16,
    /// As it is sent in `Host`.
    pub authority: String,
    pub path: Uri,
    /// The operator's; marked as sensitive.
    pub headers: HeaderMap,
    pub timeout: Duration,
}

impl TracingSettings {
    pub fn validate(&self) -> Result<(), SettingsError> {
        self.target().map(drop)
    }

    /// Checks everything. None: there is no endpoint.
    pub(crate) fn target(&self) -> Result<Option<Target>, SettingsError> {
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return wrong("tracing.sample_ratio", format!("must be 0 to 1, is {}", self.sample_ratio));
        }
        if !TIMEOUT_MILLIS.contains(&self.timeout_millis) {
            let (min, max) = TIMEOUT_MILLIS.into_inner();
            return wrong("tracing.timeout_millis", format!("must be {min}–{max}, is {}", self.timeout_millis));
        }
        if !SPANS_QUEUED.contains(&self.spans_queued_max) {
            let (min, max) = SPANS_QUEUED.into_inner();
            return wrong("tracing.spans_queued_max", format!("must be {min}–{max}, is {}", self.spans_queued_max));
        }
        if !is_label(&self.service_name) {
            return wrong("tracing.service_name", label_rule(&self.service_name));
        }
        self.check_attributes()?;
        let headers = self.header_map()?;
        let Some(endpoint) = &self.endpoint else { return Ok(None) };
        let (uri, tls) = parse_endpoint(endpoint).or_else(|reason| wrong("tracing.endpoint", reason))?;
        let host = uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let no_path = |_| SettingsError { key: "tracing.endpoint", reason: "its path is none".to_owned() };
        Ok(Some(Target {
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 }),
            authority: uri.authority().map(ToString::to_string).unwrap_or_default(),
            path: format!("{}{TRACES_PATH}", uri.path().trim_end_matches('/')).parse().map_err(no_path)?,
            headers,
            timeout: Duration::from_millis(self.timeout_millis),
            tls,
        }))
    }

    fn check_attributes(&self) -> Result<(), SettingsError> {
        const KEY: &str = "tracing.attributes";
        if self.attributes.len() > ENTRIES_MAX {
            return wrong(KEY, format!("must be at most {ENTRIES_MAX}, are {}", self.attributes.len()));
        }
        for (name, value) in &self.attributes {
            if let Some((_, why)) = OWN_ATTRIBUTES.iter().find(|(own, _)| own == name) {
                return wrong(KEY, format!("{name} {why}"));
            }
            for text in [name, value] {
                if !is_label(text) {
                    return wrong(KEY, format!("of {name:?}: {}", label_rule(text)));
                }
            }
        }
        Ok(())
    }

    fn header_map(&self) -> Result<HeaderMap, SettingsError> {
        const KEY: &str = "tracing.headers";
        if self.headers.len() > ENTRIES_MAX {
            return wrong(KEY, format!("must be at most {ENTRIES_MAX}, are {}", self.headers.len()));
        }
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, HeaderSecret(value)) in &self.headers {
            let Ok(known) = HeaderName::try_from(name) else {
                return wrong(KEY, format!("{name:?} is no name of a header"));
            };
            if OWN_HEADERS.contains(&known.as_str()) {
                return wrong(KEY, format!("{name} is the gateway's own"));
            }
            let Ok(mut value) = HeaderValue::try_from(value) else {
                return wrong(
                    KEY,
                    format!("the value of {name} has letters that no header may have (it is not shown)"),
                );
            };
            value.set_sensitive(true);
            if headers.insert(known, value).is_some() {
                return wrong(KEY, format!("{name} is there twice"));
            }
        }
        Ok(headers)
    }
}

/// The URL, and for https whose certificate is wanted. A URL with a credential in it is not repeated in the error.
fn parse_endpoint(endpoint: &str) -> Result<(Uri, Option<ServerName<'static>>), String> {
    if endpoint.contains('@') {
        return Err("must not have a user or a password: that is for tracing.headers".to_owned());
    }
    if endpoint.contains(['?', '#']) {
        return Err(format!("must have no query and no fragment, is {endpoint:?}"));
    }
    let uri: Uri = endpoint.parse().map_err(|err| format!("{endpoint:?} is no URL: {err}"))?;
    let rule = || format!("must be http://host:port or https://host:port, is {endpoint:?}");
    let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(rule)?;
    if uri.path().trim_end_matches('/').ends_with(TRACES_PATH) {
        return Err(format!("{TRACES_PATH} is put behind it, leave it out: {endpoint:?}"));
    }
    let tls = match uri.scheme_str() {
        Some("http") => None,
        Some("https") => {
            let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            Some(ServerName::try_from(bare).map_err(|err| format!("{endpoint:?}: {err}"))?)
        }
        _ => return Err(rule()),
    };
    Ok((uri, tls))
}

fn is_label(text: &str) -> bool {
    (1..=255).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn label_rule(text: &str) -> String {
    format!("must be 1–255 bytes without control characters, is {:?}", text.chars().take(40).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: serde_json::Value) -> TracingSettings {
        serde_json::from_value(value).unwrap()
    }

    fn target(endpoint: &str) -> Target {
        read(json!({ "endpoint": endpoint })).target().unwrap().unwrap()
    }

    #[test]
    fn the_defaults_are_no_tracing() {
        assert!(read(json!({})).target().unwrap().is_none());
        let err = serde_json::from_value::<TracingSettings>(json!({ "sample_ration": 1 })).unwrap_err();
        assert!(err.to_string().contains("sample_ration"), "{err}");
    }

    #[test]
    fn endpoints() {
        let plain = target("http://127.0.0.1:4318");
        assert_eq!((plain.host.as_str(), plain.port, plain.path.to_string()), ("127.0.0.1", 4318, "/v1/traces".into()));
        assert!(plain.tls.is_none());
        let secure = target("https://otlp.example.com/api/");
        assert_eq!((secure.port, secure.path.to_string()), (443, "/api/v1/traces".into()));
        assert!(secure.tls.is_some());
        let v6 = target("https://[::1]:4318/");
        assert_eq!((v6.host.as_str(), v6.authority.as_str()), ("::1", "[::1]:4318"));
    }

    #[test]
    fn errors_name_the_setting() {
        for (settings, key, says) in [
            (json!({ "endpoint": "" }), "tracing.endpoint", "URL"),
            (json!({ "endpoint": "localhost:4318" }), "tracing.endpoint", "must be http://"),
            (json!({ "endpoint": "grpc://localhost:4317" }), "tracing.endpoint", "must be http://"),
            (json!({ "endpoint": "http://a/?x" }), "tracing.endpoint", "query"),
            (json!({ "endpoint": "http://a:4318/v1/traces" }), "tracing.endpoint", "leave it out"),
            (json!({ "sample_ratio": 1.5 }), "tracing.sample_ratio", "0 to 1, is 1.5"),
            (json!({ "sample_ratio": -0.1 }), "tracing.sample_ratio", "is -0.1"),
            (json!({ "timeout_millis": 0 }), "tracing.timeout_millis", "is 0"),
            (json!({ "spans_queued_max": 63 }), "tracing.spans_queued_max", "64–1000000, is 63"),
            (json!({ "service_name": "" }), "tracing.service_name", "1–255"),
            (json!({ "attributes": { "service.name": "x" } }), "tracing.attributes", "service_name"),
            (json!({ "attributes": { "a": "b\nc" } }), "tracing.attributes", "control"),
            (json!({ "headers": { "a b": "x" } }), "tracing.headers", "\"a b\""),
            (json!({ "headers": { "Host": "x" } }), "tracing.headers", "own"),
            (json!({ "headers": { "x-a": "1", "X-A": "2" } }), "tracing.headers", "twice"),
        ] {
            let err = read(settings).validate().unwrap_err();
            assert_eq!(err.key, key);
            assert!(err.to_string().contains(says), "{err}");
        }
        let nan = TracingSettings { sample_ratio: f64::NAN, ..TracingSettings::default() };
        assert_eq!(nan.validate().unwrap_err().key, "tracing.sample_ratio");
    }

    #[test]
    fn secrets_are_not_shown() {
        let settings = read(json!({ "endpoint": "http://a", "headers": { "authorization": "Bearer hunter2" } }));
        let target = settings.target().unwrap().unwrap();
        assert_eq!(target.headers["authorization"], "Bearer hunter2");
        let wrong = read(json!({ "headers": { "authorization": "hunter2\n" } })).validate().unwrap_err();
        let url = read(json!({ "endpoint": "http://u:hunter2@a" })).validate().unwrap_err();
        let shown = [
            format!("{settings:?}"),
            format!("{target:?}"),
            serde_json::to_string(&settings).unwrap(),
            wrong.to_string(),
            url.to_string(),
        ];
        for text in shown {
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
