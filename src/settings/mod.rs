//! A node's settings: flag > environment (`WSGATEWAY__ADMIN__LISTEN`) > file (`--config`, TOML) > default. Unknown keys
//! are errors. Raw values are checked once here; the rest of the gateway relies on them.

mod file_limit;
mod listener_tls;
mod peer_tls;
mod tls;

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use figment::providers::{Env, Format, Serialized, Toml};
use figment::Figment;
use serde::{Deserialize, Serialize};

pub use file_limit::{raise_file_limit, FileLimit};
pub use listener_tls::TlsSettings;
pub use peer_tls::{PeerTlsFiles, PeerTlsSettings};
pub use tls::{client_tls, CallerFiles};

use crate::model::egress::EgressRules;
use crate::model::proxies::{ForwardedHeader, TrustedProxies};
pub use crate::model::secret::SecretsSettings;
use crate::telemetry::logs::LogFormat;
use wsgateway_otlp::TracingSettings;

/// Keys whose values are not for screens or logs.
pub const SECRET_KEYS: [&str; 3] = ["admin.token", "cluster.secrets", "tracing.headers"];

/// File descriptors that are not clients: listeners, peers, backends, RocksDB, Kafka.
const FILES_RESERVED: u64 = 2048;
/// As long as gossip may take to notice that a node is gone.
const REMOVE_DEAD_AFTER_SECONDS_MIN: u64 = 10;
const MONTH_SECONDS: u64 = 31 * 24 * 60 * 60;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub node: NodeSettings,
    pub client: ClientSettings,
    pub admin: AdminSettings,
    pub cluster: ClusterSettings,
    pub kafka: KafkaSettings,
    pub secrets: SecretsSettings,
    pub outbound: OutboundSettings,
    pub log: LogSettings,
    pub tracing: TracingSettings,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSettings {
    /// A label for people.
    pub name: String,
    /// RocksDB lives here; created when missing.
    pub data_dir: PathBuf,
    /// Worker threads that carry connections; 0: one per core.
    pub workers: usize,
    /// A node that leaves closes its connections spread over this time.
    pub drain_seconds: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientSettings {
    pub listen: SocketAddr,
    /// `ws://` or `wss://` at which clients reach this node; default: `listen`.
    pub advertise_url: Option<String>,
    /// A handshake must be complete within this time.
    pub handshake_deadline_seconds: u64,
    /// Open connections of this node; 0: as many as the file limit allows.
    pub max_connections: u64,
    /// Unacknowledged data older than this ends the socket (TCP_USER_TIMEOUT).
    pub tcp_user_timeout_seconds: u64,
    /// What is kept in all for clients that may come back to their connection, bytes.
    pub resume_bytes_max: usize,
    /// Open sockets of one address, 0: no limit. An IPv6 network of 64 bits is one address.
    pub max_connections_per_address: u32,
    /// New sockets of one address, with ten seconds' worth of them at once; 0: no limit.
    pub handshakes_per_address_per_second: u32,
    /// Peers that are believed when they say for whom they speak.
    pub trusted_proxies: TrustedProxies,
    /// Which header they say it in.
    pub forwarded_header: ForwardedHeader,
    /// Whether those peers begin each connection with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    pub tls: TlsSettings,
}

/// What was set, or where the listener is.
fn advertised_url(
    set: Option<&String>,
    (plain, encrypted): (&str, &str),
    tls: &TlsSettings,
    listen: SocketAddr,
) -> String {
    match set {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => format!("{}://{listen}", if tls.certificate_file.is_some() { encrypted } else { plain }),
    }
}

impl ClientSettings {
    pub const SCHEMES: (&str, &str) = ("ws", "wss");

    pub fn advertised_url(&self) -> String {
        advertised_url(self.advertise_url.as_ref(), ClientSettings::SCHEMES, &self.tls, self.listen)
    }

    pub fn handshake_deadline(&self) -> Duration {
        Duration::from_secs(self.handshake_deadline_seconds)
    }

    pub fn tcp_user_timeout(&self) -> Duration {
        Duration::from_secs(self.tcp_user_timeout_seconds)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminSettings {
    pub listen: SocketAddr,
    /// `http://` or `https://` at which people reach this node; default: `listen`.
    pub advertise_url: Option<String>,
    /// The first admin token. Without one the listener must be on a loopback address.
    pub token: Option<String>,
    /// Largest body of a pushed message, bytes.
    pub push_bytes_max: usize,
    pub tls: TlsSettings,
}

impl AdminSettings {
    pub const SCHEMES: (&str, &str) = ("http", "https");

    pub fn advertised_url(&self) -> String {
        advertised_url(self.advertise_url.as_ref(), AdminSettings::SCHEMES, &self.tls, self.listen)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSettings {
    /// Peers connect here over TCP; gossip is UDP on the same port.
    pub listen: SocketAddr,
    /// `host:port` that peers reach this node at; default: `listen`.
    pub advertise: Option<String>,
    /// `host:port` of the nodes that a cluster starts from; the same list, in any order, on all of them.
    pub seeds: Vec<String>,
    /// How many nodes must be there before a new cluster is made: the number of seeds; 0: only join one.
    pub bootstrap_expect: usize,
    /// Shared secret of the cluster; two while it is rotated. Without one only loopback addresses are accepted.
    pub secrets: Vec<String>,
    /// A node that nobody has heard of for so long is removed for good, as soon as the cluster can do without it.
    pub remove_dead_after_seconds: u64,
    pub tls: PeerTlsSettings,
}

impl ClusterSettings {
    pub fn advertised(&self) -> String {
        self.advertise.clone().unwrap_or_else(|| self.listen.to_string())
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSettings {
    /// Brokers of backends that name none of their own.
    pub bootstrap_servers: Option<String>,
    /// An event not taken by the broker within this time has failed.
    pub delivery_timeout_millis: u64,
}

/// Calls to services and authentication servers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboundSettings {
    /// PEM file of certificate authorities that are trusted for https beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Addresses, CIDR blocks, host names and `*.names` that may be called; none: all but those that may not.
    pub allow: Vec<String>,
    /// The same that may not be called, whatever is allowed.
    pub deny: Vec<String>,
    /// Whether link-local addresses, and those at which clouds answer machines' questions, may be called.
    pub allow_metadata: bool,
}

impl OutboundSettings {
    pub fn rules(&self) -> Result<EgressRules, SettingsError> {
        EgressRules::parse(&self.allow, &self.deny, self.allow_metadata)
            .map_err(|(key, err)| SettingsError::Value { key, reason: err.to_string() })
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// `tracing` directives.
    pub filter: String,
    pub format: LogFormat,
    /// Lines of one place in the code within a second; the others are counted and left out. 0: none are. Errors are all
    /// there.
    pub per_second_max: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Settings {
            node: NodeSettings {
                name: "node".to_owned(),
                data_dir: PathBuf::from("./data"),
                workers: 0,
                drain_seconds: 5,
            },
            client: ClientSettings {
                listen: loopback(8080),
                advertise_url: None,
                handshake_deadline_seconds: 5,
                max_connections: 0,
                tcp_user_timeout_seconds: 30,
                resume_bytes_max: 256 * 1024 * 1024,
                max_connections_per_address: 0,
                handshakes_per_address_per_second: 0,
                trusted_proxies: TrustedProxies::default(),
                forwarded_header: ForwardedHeader::Auto,
                proxy_protocol: false,
                tls: TlsSettings::default(),
            },
            admin: AdminSettings {
                listen: loopback(9000),
                advertise_url: None,
                token: None,
                push_bytes_max: 131_072,
                tls: TlsSettings::default(),
            },
            cluster: ClusterSettings {
                listen: loopback(7000),
                advertise: None,
                seeds: Vec::new(),
                bootstrap_expect: 1,
                secrets: Vec::new(),
                remove_dead_after_seconds: 600,
                tls: PeerTlsSettings::default(),
            },
            kafka: KafkaSettings { bootstrap_servers: None, delivery_timeout_millis: 10_000 },
            secrets: SecretsSettings {
                env_prefix: "WSGATEWAY_SECRET_".to_owned(),
                // Where Docker and Kubernetes mount them.
                file_dirs: vec![PathBuf::from("/run/secrets")],
            },
            outbound: OutboundSettings { ca_file: None, allow: Vec::new(), deny: Vec::new(), allow_metadata: false },
            log: LogSettings { filter: "info,openraft=warn".to_owned(), format: LogFormat::Text, per_second_max: 100 },
            tracing: TracingSettings::default(),
        }
    }
}

/// What is wrong with the settings; names the key.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("setting {key}: {reason}{from}")]
    Read { key: String, reason: String, from: String },
    #[error("setting {key}: {reason}")]
    Value { key: &'static str, reason: String },
}

impl From<figment::Error> for SettingsError {
    fn from(err: figment::Error) -> SettingsError {
        let key = err.path.join(".").to_lowercase();
        // figment's words for a wrong type quote the value.
        // A header's own key is below that of all headers.
        let is_below =
            |secret: &str| key.strip_prefix(secret).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let reason = if SECRET_KEYS.iter().any(|secret| is_below(secret)) {
            "has the wrong type (its value is not shown)".to_owned()
        } else {
            err.kind.to_string()
        };
        let from =
            err.metadata.as_ref().map_or(String::new(), |metadata| format!(" (from {})", origin(&metadata.name)));
        SettingsError::Read { key, reason, from }
    }
}

/// figment names providers by their Rust types where they are values of this program.
pub fn origin(provider: &str) -> &str {
    if provider.contains("Settings") {
        "default"
    } else if provider.contains("BTreeMap") {
        "flag"
    } else if provider.contains("String") {
        "environment"
    } else {
        provider
    }
}

fn wrong<T>(key: &'static str, reason: impl Into<String>) -> Result<T, SettingsError> {
    Err(SettingsError::Value { key, reason: reason.into() })
}

/// A scheme of these, a host, perhaps a port and a path; it travels with gossip, so it is short.
fn check_url(key: &'static str, url: Option<&str>, (plain, encrypted): (&str, &str)) -> Result<(), SettingsError> {
    let Some(text) = url else { return Ok(()) };
    let is = |reason: &str| wrong(key, format!("{reason}, is {text:?}"));
    let Ok(uri) = text.parse::<actix_http::Uri>() else { return is("is no URL") };
    if uri.scheme_str().is_none_or(|scheme| scheme != plain && scheme != encrypted) {
        return is(&format!("must begin with {plain}:// or {encrypted}://"));
    }
    if uri.host().is_none_or(str::is_empty) || uri.authority().is_some_and(|all| all.as_str().contains('@')) {
        return is("must have a host, and no user");
    }
    if uri.query().is_some() || text.contains('#') || text.len() > 200 {
        return is("must have no query and no fragment, and at most 200 characters");
    }
    Ok(())
}

/// The layers in their order; `flags` holds only what was given on the command line.
pub fn layers(config: Option<&PathBuf>, flags: figment::value::Dict) -> Figment {
    let mut figment = Figment::from(Serialized::defaults(Settings::default()));
    if let Some(config) = config {
        figment = figment.merge(Toml::file_exact(config));
    }
    figment = figment.merge(Env::prefixed("WSGATEWAY__").split("__"));
    // figment reads what looks like a number as one; a token is text, leading zeros and all.
    if let Ok(token) = std::env::var("WSGATEWAY__ADMIN__TOKEN") {
        figment = figment.merge(("admin.token", token));
    }
    figment.merge(Serialized::defaults(flags))
}

/// Reads the layers and checks the values.
pub fn load(config: Option<&PathBuf>, flags: figment::value::Dict) -> Result<Settings, SettingsError> {
    let settings: Settings = layers(config, flags).extract()?;
    settings.check()?;
    Ok(settings)
}

impl Settings {
    fn check(&self) -> Result<(), SettingsError> {
        if self.node.name.is_empty()
            || self.node.name.len() > 64
            || !self.node.name.bytes().all(|b| b.is_ascii_graphic())
        {
            return wrong("node.name", format!("must be 1–64 visible ASCII characters, is {:?}", self.node.name));
        }
        if self.node.workers > 512 {
            return wrong("node.workers", format!("must be 0–512, is {}", self.node.workers));
        }
        if !(1..=60).contains(&self.client.handshake_deadline_seconds) {
            let is = self.client.handshake_deadline_seconds;
            return wrong("client.handshake_deadline_seconds", format!("must be 1–60, is {is}"));
        }
        if self.client.handshakes_per_address_per_second > 100_000 {
            let is = self.client.handshakes_per_address_per_second;
            return wrong("client.handshakes_per_address_per_second", format!("must be 0–100000, is {is}"));
        }
        if self.client.proxy_protocol && self.client.trusted_proxies.is_empty() {
            let reason = "needs client.trusted_proxies: the header is read from those peers only";
            return wrong("client.proxy_protocol", reason);
        }
        check_url("client.advertise_url", self.client.advertise_url.as_deref(), ClientSettings::SCHEMES)?;
        check_url("admin.advertise_url", self.admin.advertise_url.as_deref(), AdminSettings::SCHEMES)?;
        self.client.tls.check(&listener_tls::CLIENT)?;
        self.admin.tls.check(&listener_tls::ADMIN)?;
        match &self.admin.token {
            Some(token) if token.len() < 16 => return wrong("admin.token", "must have at least 16 characters"),
            None if !self.admin.listen.ip().is_loopback() => {
                let reason = format!(
                    "without admin.token the admin listener must be on a loopback address, is {}",
                    self.admin.listen
                );
                return wrong("admin.listen", reason);
            }
            _ => {}
        }
        if self.cluster.secrets.len() > 2 || self.cluster.secrets.iter().any(|secret| secret.len() < 16) {
            return wrong("cluster.secrets", "must be at most two secrets of at least 16 characters each");
        }
        if self.cluster.secrets.is_empty() && !self.cluster.listen.ip().is_loopback() {
            let reason = format!(
                "without cluster.secrets the cluster listener must be on a loopback address, is {}",
                self.cluster.listen
            );
            return wrong("cluster.listen", reason);
        }
        if !(REMOVE_DEAD_AFTER_SECONDS_MIN..=MONTH_SECONDS).contains(&self.cluster.remove_dead_after_seconds) {
            let is = self.cluster.remove_dead_after_seconds;
            let rule = format!("must be {REMOVE_DEAD_AFTER_SECONDS_MIN}–{MONTH_SECONDS}, is {is}");
            return wrong("cluster.remove_dead_after_seconds", rule);
        }
        self.cluster.tls.check()?;
        check_secrets(&self.secrets, &self.node.data_dir)?;
        self.outbound.rules()?;
        let of_tracing = |err: wsgateway_otlp::SettingsError| SettingsError::Value { key: err.key, reason: err.reason };
        self.tracing.validate().map_err(of_tracing)?;
        let (expect, seeds) = (self.cluster.bootstrap_expect, self.cluster.seeds.len().max(1));
        // With fewer promises a seed that lost its disk could start a second cluster (see cluster's bootstrap).
        if expect != 0 && (expect > seeds || (seeds > 1 && 2 * (expect - 1) < seeds)) {
            let rule = format!("must be 0 (join only) or the number of seeds ({seeds}), is {expect}");
            return wrong("cluster.bootstrap_expect", rule);
        }
        Ok(())
    }

    pub fn workers(&self) -> usize {
        match self.node.workers {
            0 => std::thread::available_parallelism().map_or(2, std::num::NonZeroUsize::get).min(512),
            workers => workers,
        }
    }

    /// Fills in `max_connections` from what the file limit leaves; an explicit value above that is an error.
    pub fn fit_connections(&mut self, limit: &FileLimit) -> Result<(), SettingsError> {
        let room = limit.now.saturating_sub(FILES_RESERVED.min(limit.now / 2));
        match self.client.max_connections {
            0 => self.client.max_connections = room,
            wanted if wanted > room => {
                let reason =
                    format!("{wanted} connections do not fit the limit of {} open files ({room} do)", limit.now);
                return wrong("client.max_connections", reason);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whoever may write a document can have everything sent to him that it may refer to.
fn check_secrets(secrets: &SecretsSettings, data_dir: &Path) -> Result<(), SettingsError> {
    let prefix = secrets.env_prefix.as_str();
    let legal = prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !legal || (!prefix.is_empty() && !(4..=64).contains(&prefix.len())) {
        return wrong("secrets.env_prefix", "must be empty or have 4–64 letters, digits and _");
    }
    let settings = "WSGATEWAY__";
    if !prefix.is_empty() && (settings.starts_with(prefix) || prefix.starts_with(settings)) {
        return wrong("secrets.env_prefix", format!("must leave out the settings ({settings}…), is {prefix}"));
    }
    for dir in &secrets.file_dirs {
        let plain = dir.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !dir.is_absolute() || !plain || dir.parent().is_none() {
            let reason = format!("must be absolute folders without . and .., not /, is {}", dir.display());
            return wrong("secrets.file_dirs", reason);
        }
        if std::path::absolute(data_dir).is_ok_and(|data_dir| data_dir.starts_with(dir)) {
            let reason = format!("must not hold the node's data folder, {} does", dir.display());
            return wrong("secrets.file_dirs", reason);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use figment::value::{Dict, Value};

    fn flags(entries: &[(&str, Value)]) -> Dict {
        let mut dict = Dict::new();
        for (key, value) in entries {
            let (section, name) = key.split_once('.').unwrap();
            let section = dict.entry(section.to_owned()).or_insert_with(|| Dict::new().into());
            if let Value::Dict(_, inner) = section {
                inner.insert(name.to_owned(), value.clone());
            }
        }
        dict
    }

    #[test]
    fn defaults_are_valid_and_unknown_keys_are_not() {
        load(None, Dict::new()).unwrap();
        let err = load(None, flags(&[("admin.lisen", "x".into())])).unwrap_err().to_string();
        assert!(err.contains("lisen"), "{err}");
    }

    #[test]
    fn an_open_listener_needs_its_secret() {
        let err = load(None, flags(&[("admin.listen", "0.0.0.0:9000".into())])).unwrap_err().to_string();
        assert!(err.contains("admin.listen") && err.contains("0.0.0.0:9000"), "{err}");
        let token = ("admin.token", Value::from("0123456789abcdef"));
        load(None, flags(&[("admin.listen", "0.0.0.0:9000".into()), token])).unwrap();
        let err = load(None, flags(&[("cluster.listen", "0.0.0.0:7000".into())])).unwrap_err().to_string();
        assert!(err.contains("cluster.listen"), "{err}");
    }

    #[test]
    fn what_documents_may_refer_to_is_bounded() {
        let load = |key: &str, value: Value| load(None, flags(&[(key, value)])).map_err(|err| err.to_string());
        let dirs = |dir: &str| Value::from(vec![dir.to_owned()]);
        for prefix in ["", "APP_", "WSGATEWAY_SECRET_", "WSGATEWAY_APP_"] {
            load("secrets.env_prefix", prefix.into()).unwrap();
        }
        for prefix in ["A", "A-B_", "WSGATEWAY_", "WSGATEWAY__", "WSGATEWAY__ADMIN", "WSGA"] {
            let err = load("secrets.env_prefix", prefix.into()).unwrap_err();
            assert!(err.contains("secrets.env_prefix"), "{prefix}: {err}");
        }
        load("secrets.file_dirs", dirs("/etc/wsgateway/secrets")).unwrap();
        load("secrets.file_dirs", Value::from(Vec::<String>::new())).unwrap();
        let here = std::env::current_dir().unwrap().display().to_string();
        for dir in ["run/secrets", "/", "/run/../etc", here.as_str()] {
            let err = load("secrets.file_dirs", dirs(dir)).unwrap_err();
            assert!(err.contains("secrets.file_dirs"), "{dir}: {err}");
        }
    }

    #[test]
    fn trusted_proxies_are_addresses() {
        let proxies = |text: &str| load(None, flags(&[("client.trusted_proxies", Value::from(vec![text.to_owned()]))]));
        let settings = proxies("10.0.0.0/8").unwrap();
        assert!(settings.client.trusted_proxies.contains("10.1.2.3".parse().unwrap()));
        let err = proxies("proxy.example.com").unwrap_err().to_string();
        assert!(err.contains("client.trusted_proxies") && err.contains("\"proxy.example.com\" is not an IP"), "{err}");
        let err = load(None, flags(&[("client.forwarded_header", "x-real-ip".into())])).unwrap_err().to_string();
        assert!(err.contains("client.forwarded_header") && err.contains("x-forwarded-for"), "{err}");
    }

    #[test]
    fn connections_fit_the_file_limit() {
        let mut settings = Settings::default();
        settings.fit_connections(&FileLimit { now: 20_000, hard: 20_000 }).unwrap();
        assert_eq!(settings.client.max_connections, 20_000 - FILES_RESERVED);
        settings.client.max_connections = 30_000;
        assert!(settings.fit_connections(&FileLimit { now: 20_000, hard: 20_000 }).is_err());
    }
}
