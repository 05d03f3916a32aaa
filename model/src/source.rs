//! Where messages for clients come from by themselves: a Kafka topic whose records name connections or users. Made by
//! config's compile, read by sources; imports its neighbours only.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::json_path::JsonPath;
use super::kafka::{asker, KafkaSecurity};
use super::limits::SOURCE_NAMES_MAX;

/// One source of an endpoint. Equal ones are the same: a new version of the endpoint does not interrupt them.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceSpec {
    /// Topic name.
    pub topic: String,
    /// The consumer group that all nodes of the cluster are in.
    pub group: String,
    /// Own brokers; None: the node's.
    pub bootstrap_servers: Option<String>,
    /// How its brokers are reached.
    pub security: KafkaSecurity,
    /// Where a group begins that has read nothing yet.
    pub start: Start,
    /// Who gets a record.
    pub target: Target,
}

impl SourceSpec {
    /// A metric label.
    pub fn label(&self) -> String {
        format!("{}/{}", self.topic, self.group)
    }
}

/// Kafka's `auto.offset.reset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With what is written from now on.
    Latest,
    /// With everything that is still there.
    Earliest,
}

impl Start {
    /// As librdkafka takes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Start::Latest => "latest",
            Start::Earliest => "earliest",
        }
    }
}

/// Who gets a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// The connections whose ids are found there, whatever their endpoint.
    Connection(JsonPath),
    /// The endpoint's connections of the users that are found there.
    User(JsonPath),
    /// The endpoint's connections in the groups that are found there.
    Group(JsonPath),
    /// Every connection of the endpoint.
    All,
    /// The connection whose event the record answers, by the correlation id in this header.
    Asker {
        /// Its name.
        header: String,
        /// Whose events they were.
        endpoint: Arc<str>,
    },
}

/// A record as paths see it.
pub struct RecordParts<'a> {
    /// None: it has none, or it is no text.
    pub key: Option<&'a str>,
    /// The last of a name counts.
    pub headers: Vec<(&'a str, &'a str)>,
    /// JSON.
    pub value: &'a [u8],
}

impl Target {
    /// The texts that the record names; numbers and truth values by their JSON. Empty for `all`. An error: the value is no
    /// JSON that can be read into a tree.
    pub fn names(&self, record: &RecordParts<'_>) -> Result<Vec<String>, serde_json::Error> {
        let path = match self {
            Target::Connection(path) | Target::User(path) | Target::Group(path) => path,
            Target::All => return Ok(Vec::new()),
            Target::Asker { header, endpoint } => {
                let carried = record.headers.iter().rev().find(|(name, _)| name == header);
                let asker = carried.and_then(|(_, correlation_id)| asker(endpoint, correlation_id));
                return Ok(asker.map(str::to_owned).into_iter().collect());
            }
        };
        // What does not look into the value does not pay for its tree.
        let value = match looks_into_value(path) {
            true => serde_json::from_slice(record.value)?,
            false => Value::Null,
        };
        let headers = record.headers.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value)));
        let mut members = Map::new();
        members.insert("key".to_owned(), record.key.map_or(Value::Null, Value::from));
        members.insert("headers".to_owned(), headers.collect());
        members.insert("value".to_owned(), value);
        let root = Value::Object(members);
        let text = |found: &&Value| match found {
            Value::String(text) => Some(text.clone()),
            Value::Number(_) | Value::Bool(_) => Some(found.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        };
        let mut seen = HashSet::new();
        let named = path.all(&root);
        let first = named.iter().filter_map(text).filter(|name| seen.insert(name.clone()));
        Ok(first.take(SOURCE_NAMES_MAX).collect())
    }
}

fn looks_into_value(path: &JsonPath) -> bool {
    let elsewhere = ["$.key", "$.headers.", "$.headers[", "$['key']", "$['headers']"];
    !elsewhere.iter().any(|start| path.as_str().starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str, value: &str) -> Option<Vec<String>> {
        let record =
            RecordParts { key: Some("k1"), headers: vec![("to", "c1"), ("to", "c2")], value: value.as_bytes() };
        Target::User(JsonPath::parse(path).unwrap()).names(&record).ok()
    }

    #[test]
    fn who_is_named() {
        let value = r#"{"to": "a", "users": ["a", "b", "a", 7, null, {"x": 1}], "deep": {"id": true}}"#;
        let found = |path: &str| names(path, value).unwrap();
        assert_eq!(found("$.key"), ["k1"]);
        assert_eq!(found("$.headers.to"), ["c2"], "the last of a name");
        assert_eq!(found("$.headers['to']"), ["c2"]);
        assert_eq!(found("$.value.to"), ["a"]);
        assert_eq!(found("$.value.users[*]"), ["a", "b", "7"], "each once, texts and numbers");
        assert_eq!(found("$.value.deep.id"), ["true"]);
        assert!(found("$.value.nobody").is_empty() && found("$.value.deep").is_empty());
    }

    #[test]
    fn a_value_is_read_only_where_it_is_looked_into() {
        assert_eq!(names("$.key", "{").unwrap(), ["k1"]);
        assert!(names("$.value.x", "{").is_none());
        assert!(names("$['value'].x", "{").is_none() && names("$..to", "{").is_none());
    }

    #[test]
    fn sources_are_the_same_by_what_they_do() {
        let spec = |path: &str| SourceSpec {
            topic: "t".to_owned(),
            group: "g".to_owned(),
            bootstrap_servers: None,
            security: KafkaSecurity::default(),
            start: Start::Latest,
            target: Target::Connection(JsonPath::parse(path).unwrap()),
        };
        assert_eq!(spec("$.key"), spec("$.key"));
        assert_ne!(spec("$.key"), spec("$.headers.to"));
        assert_ne!(spec("$.key"), SourceSpec { target: Target::All, ..spec("$.key") });
    }
}
