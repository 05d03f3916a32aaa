//! The CloudEvents attributes of what a backend received, whether they came as HTTP or as Kafka headers, and the checks
//! that hold for each event of a connection.

use std::collections::{BTreeMap, BTreeSet};

/// Attribute name (without its prefix) → value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes(BTreeMap<String, String>);

impl Attributes {
    /// `prefix` is `ce-` for HTTP and `ce_` for Kafka.
    pub fn from_headers(headers: &[(String, String)], prefix: &str) -> Self {
        let attributes = headers.iter().filter_map(|(name, value)| {
            let name = name.to_ascii_lowercase();
            // The W3C header goes by its own name, so that tracing libraries find it.
            let name = if name == "traceparent" { &name } else { name.strip_prefix(prefix)? };
            Some((name.to_string(), value.clone()))
        });
        Self(attributes.collect())
    }

    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).unwrap_or_else(|| panic!("no attribute {name} among {:?}", self.0))
    }

    pub fn find(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn sequence(&self) -> u64 {
        let text = self.get("sequence");
        text.parse().unwrap_or_else(|_| panic!("sequence is not a number: {text}"))
    }

    /// What holds for every event: version, type, source, path, connection, time.
    pub fn check(&self, kind: &str, endpoint_id: &str, endpoint_path: &str, connection_id: &str) {
        assert_eq!(self.get("specversion"), "1.0");
        assert_eq!(self.get("type"), format!("io.wsgateway.{kind}"));
        assert_eq!(self.get("source"), format!("/endpoints/{endpoint_id}"));
        assert_eq!(self.get("endpointpath"), endpoint_path);
        assert_eq!(self.get("connectionid"), connection_id);
        assert!(!self.get("id").is_empty() && !self.get("node").is_empty());
        let time = self.get("time");
        let looks_right = time.len() >= 20 && &time[10..11] == "T" && (time.ends_with('Z') || time.contains('+'));
        assert!(looks_right, "time is not RFC 3339: {time}");
        let traceparent = self.get("traceparent");
        let parts: Vec<usize> = traceparent.split('-').map(str::len).collect();
        assert_eq!(parts, [2, 32, 16, 2], "not a W3C trace context: {traceparent}");
    }
}

/// All events of one connection in the order of arrival: numbered 1, 2, 3 …, each id once, ids ordered by time.
pub fn check_story(events: &[Attributes]) {
    let sequences: Vec<u64> = events.iter().map(Attributes::sequence).collect();
    let expected: Vec<u64> = (1..=events.len() as u64).collect();
    assert_eq!(sequences, expected, "the sequence of a connection's events has gaps or repeats");
    let ids: Vec<&str> = events.iter().map(|event| event.get("id")).collect();
    let distinct: BTreeSet<&&str> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len(), "an event id occurs twice: {ids:?}");
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "event ids are not ordered by time: {ids:?}");
}
