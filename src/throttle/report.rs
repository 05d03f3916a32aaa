//! What a node tells others of its limited endpoints. Part of the wire format: another shape is another request kind.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::shares::Load;

/// By endpoint id.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    pub endpoints: BTreeMap<String, EndpointReport>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct EndpointReport {
    open: u64,
    opening: f32,
    messages: f32,
    /// The part of `maxConnections` that it keeps to.
    pub part: f64,
    /// Hashes of the busiest identities, and their messages a second.
    pub identities: Vec<(u64, f32)>,
}

impl EndpointReport {
    pub fn new(load: Load, identities: Vec<(u64, f32)>) -> EndpointReport {
        let (opening, messages) = (load.opening as f32, load.messages as f32);
        EndpointReport { open: load.open, opening, messages, part: load.part, identities }
    }

    /// Numbers that are none, or below zero, are as good as zero.
    pub fn load(&self) -> Load {
        let sane = |number: f64| if number.is_finite() { number.max(0.0) } else { 0.0 };
        Load {
            open: self.open,
            opening: sane(f64::from(self.opening)),
            messages: sane(f64::from(self.messages)),
            part: sane(self.part),
        }
    }
}

impl Report {
    pub fn encode(&self) -> Bytes {
        // Maps, texts and numbers: cannot fail. An empty answer would be refused as malformed.
        postcard::to_stdvec(self).map(Bytes::from).unwrap_or_default()
    }

    pub fn decode(bytes: &[u8]) -> Result<Report, String> {
        if bytes.is_empty() {
            return Ok(Report::default()); // it has not looked yet
        }
        postcard::from_bytes(bytes).map_err(|err| format!("malformed report: {err}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_come_back_as_they_were() {
        let load = Load { open: 3, opening: 0.5, messages: 100.0, part: 1.0 / 3.0 };
        let mut report = Report::default();
        report.endpoints.insert("ep-1".into(), EndpointReport::new(load, vec![(7, 2.5)]));
        let back = Report::decode(&report.encode()).unwrap();
        assert_eq!(back, report);
        assert_eq!(back.endpoints["ep-1"].load(), load);
        assert!(Report::decode(b"\xff\xff").is_err());
        let wild = Load { opening: f64::NAN, messages: -1.0, ..load };
        let heard = EndpointReport::new(wild, Vec::new()).load();
        assert_eq!((heard.opening, heard.messages), (0.0, 0.0));
    }
}
