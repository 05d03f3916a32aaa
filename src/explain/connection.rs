//! The connection that an explained event is thought to come from: as little of it as its author cares for. Becomes
//! the very description that a handshake makes. Called by explain only.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

use actix_http::header::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::backends::EventSource;
use crate::config::findings::{member, Findings};
use crate::config::registry::params_of;
use crate::inbound::describe::{description, Described};
use crate::model::description::tree;
use crate::model::endpoint::CompiledEndpoint;
use crate::model::transform::ConnectionTree;

/// What is said of the connection.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionInput {
    /// Its id; default: "explained".
    pub id: Option<String>,
    /// The request path, also with a query; default: the endpoint's path with `params` in their places.
    pub path: Option<String>,
    /// Values of the path's parameters, decoded; default: those of `path`.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    #[serde(default)]
    pub query: BTreeMap<String, OneOrMany>,
    #[serde(default)]
    pub headers: BTreeMap<String, OneOrMany>,
    pub user: Option<String>,
    pub claims: Option<Value>,
    /// Default: 127.0.0.1.
    pub source_ip: Option<IpAddr>,
}

/// A value, or several of one name.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn values(&self) -> &[String] {
        match self {
            OneOrMany::One(value) => std::slice::from_ref(value),
            OneOrMany::Many(values) => values,
        }
    }
}

/// The connection as the rest sees it.
pub struct Connection {
    pub description: Value,
    pub source: Rc<EventSource>,
    pub source_ip: IpAddr,
}

impl ConnectionTree for Connection {
    fn tree(&self) -> Arc<Value> {
        Arc::new(self.description.clone())
    }
}

impl ConnectionInput {
    pub fn make(&self, endpoint: &CompiledEndpoint, now: u64, findings: &mut Findings) -> Connection {
        let (path, mut query) = match self.path.as_deref() {
            None => (filled(&endpoint.path, &self.params), Vec::new()),
            Some(target) => {
                let (path, query) = target.split_once('?').unwrap_or((target, ""));
                (path.to_owned(), form_urlencoded::parse(query.as_bytes()).into_owned().collect())
            }
        };
        let params = match (&self.path, self.params.is_empty()) {
            (Some(_), true) => params_of(&endpoint.path, &path).unwrap_or_else(|| {
                findings
                    .add("connection.path", format!("{path:?} does not match the endpoint's path {}", endpoint.path));
                Vec::new()
            }),
            _ => self.params.clone().into_iter().collect(),
        };
        for (name, values) in &self.query {
            query.extend(values.values().iter().map(|value| (name.clone(), value.clone())));
        }
        let id = self.id.as_deref().unwrap_or("explained");
        let source_ip = self.source_ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let text = description(&Described {
            connection_id: id,
            endpoint: &endpoint.id,
            path: &path,
            params: &params,
            query: &query,
            headers: &self.header_map(findings),
            secret_header: endpoint.auth.secret_header(),
            secret_query: endpoint.auth.secret_query(),
            source_ip: &source_ip.to_string(),
            user: self.user.as_deref(),
            claims: self.claims.as_ref(),
            connected_at_millis: now,
        });
        let described = tree(&text);
        let source = EventSource::new(id.to_owned(), self.user.clone(), params);
        Connection { description: described, source, source_ip }
    }

    fn header_map(&self, findings: &mut Findings) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, values) in &self.headers {
            let at = member("connection.headers", name);
            let Some(name) = findings.take(at.as_str(), HeaderName::try_from(name.as_str())) else { continue };
            for value in values.values() {
                if let Some(value) = findings.take(at.as_str(), HeaderValue::from_str(value)) {
                    headers.append(name.clone(), value);
                }
            }
        }
        headers
    }
}

/// The endpoint's path with values in the places of its parameters, as far as there are any.
fn filled(template: &str, params: &BTreeMap<String, String>) -> String {
    let mut path = template.to_owned();
    for (name, value) in params {
        for placeholder in [format!("{{{name}}}"), format!("{{*{name}}}")] {
            path = path.replace(&placeholder, value);
        }
    }
    path
}
