//! Dead letters: events that a backend has not taken for good, kept elsewhere with why. They are the event itself – its
//! attributes, its body – with more attributes; this names those, and reads a letter back. Pure; used by inbound, which
//! keeps letters and sends them again, by admin and by the command line.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::event::{EventId, EventKind};
use super::json_check::validate_json;

/// An attribute beside those of every event, as CloudEvents' bindings write its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension {
    pub name: &'static str,
    /// Header of HTTP.
    pub http: &'static str,
    /// Header of a Kafka record.
    pub kafka: &'static str,
}

macro_rules! extension {
    ($name:literal) => {
        Extension { name: $name, http: concat!("ce-", $name), kafka: concat!("ce_", $name) }
    };
}

/// Why, for people.
pub const REASON: Extension = extension!("deadletterreason");
/// The same in a word: the outcome that metrics count.
pub const OUTCOME: Extension = extension!("deadletteroutcome");
/// What the service answered last, if it did.
pub const STATUS: Extension = extension!("deadletterstatus");
pub const ATTEMPTS: Extension = extension!("deadletterattempts");
/// The label of the backend that has not taken it.
pub const BACKEND: Extension = extension!("deadletterbackend");
/// When it was given up.
pub const TIME: Extension = extension!("deadlettertime");
/// The parameters of the connection's path, a JSON object; destinations may need them.
pub const PARAMS: Extension = extension!("deadletterparams");

/// The Kafka record key that the backend would have had, where it takes one from the event.
pub const KEY: Extension = extension!("deadletterkey");

/// A longer reason is cut.
pub const REASON_CHARS_MAX: usize = 500;
/// A longer record key is no attribute: servers refuse headers of such a size, and it stands in the event.
pub const KEY_BYTES_MAX: usize = 1024;

/// A dead letter as it lies in a file, one a line, and as the admin API takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Letter {
    /// CloudEvents attributes by name, as the dead letter had them (`id`, `type`, `deadletterbackend`, …); what HTTP has
    /// percent-encoded is decoded here.
    pub attributes: BTreeMap<String, String>,
    /// The body, byte by byte.
    pub data: String,
}

/// An event that is to be sent again, to one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resent {
    pub id: EventId,
    pub kind: EventKind,
    pub time: String,
    pub sequence: u64,
    pub traceparent: Option<String>,
    pub connection_id: String,
    pub user: Option<String>,
    pub params: Vec<(String, String)>,
    /// Kafka record key.
    pub key: Option<String>,
    /// Its label.
    pub backend: String,
    pub body: Bytes,
}

/// Why a letter cannot be sent again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LetterError {
    #[error("is missing")]
    Missing(&'static str),
    #[error("is {rule}")]
    Wrong { name: &'static str, rule: &'static str },
}

impl LetterError {
    /// The attribute.
    pub const fn name(&self) -> &'static str {
        match self {
            LetterError::Missing(name) | LetterError::Wrong { name, .. } => name,
        }
    }
}

impl Letter {
    /// The endpoint whose event it is.
    pub fn endpoint(&self) -> Result<&str, LetterError> {
        let source = self.required("source")?;
        source
            .strip_prefix("/endpoints/")
            .filter(|id| !id.is_empty())
            .ok_or(LetterError::Wrong { name: "source", rule: "no /endpoints/{id}" })
    }

    fn required(&self, name: &'static str) -> Result<&str, LetterError> {
        self.attributes
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
            .ok_or(LetterError::Missing(name))
    }

    fn checked<T>(
        &self,
        name: &'static str,
        rule: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, LetterError> {
        read(self.required(name)?).ok_or(LetterError::Wrong { name, rule })
    }

    /// Its event.
    pub fn event(&self) -> Result<Resent, LetterError> {
        let visible =
            |text: &str| (text.len() <= 64 && text.bytes().all(|b| b.is_ascii_graphic())).then(|| text.to_owned());
        let optional = |name: &str| self.attributes.get(name).filter(|value| !value.is_empty()).cloned();
        let params = match optional(PARAMS.name) {
            None => BTreeMap::new(),
            Some(json) => serde_json::from_str::<BTreeMap<String, String>>(&json)
                .map_err(|_| LetterError::Wrong { name: PARAMS.name, rule: "no JSON object of texts" })?,
        };
        let traceparent = optional("traceparent")
            .map(|text| visible(&text).ok_or(LetterError::Wrong { name: "traceparent", rule: "no W3C trace context" }));
        Ok(Resent {
            id: self.checked("id", "no event id (26 characters)", EventId::parse)?,
            kind: self.checked("type", "no io.wsgateway.… type", EventKind::of_cloud_event)?,
            time: self.checked("time", "no RFC 3339 time", visible)?,
            sequence: self.checked("sequence", "no number", |text| text.parse().ok())?,
            traceparent: traceparent.transpose()?,
            connection_id: self.required("connectionid")?.to_owned(),
            user: optional("userid"),
            params: params.into_iter().collect(),
            key: optional(KEY.name),
            backend: self.required(BACKEND.name)?.to_owned(),
            body: match validate_json(self.data.as_bytes()) {
                Ok(()) => Bytes::copy_from_slice(self.data.as_bytes()),
                Err(_) => return Err(LetterError::Wrong { name: "data", rule: "no JSON" }),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn letter() -> serde_json::Value {
        json!({"attributes": {"specversion": "1.0", "id": "01ARYZ6S41TSV4RRFFQ69G5FAV", "type": "io.wsgateway.message",
            "source": "/endpoints/ep-1", "time": "2023-11-14T22:13:20.123Z", "sequence": "7", "connectionid": "cid",
            "userid": "zoë", "deadletterbackend": "default/d/0", "deadletterparams": "{\"room\":\"a b\"}"},
            "data": "{ \"n\": 1.0 }"})
    }

    #[test]
    fn a_letter_is_read_back() {
        let letter: Letter = serde_json::from_value(letter()).unwrap();
        assert_eq!(letter.endpoint(), Ok("ep-1"));
        let event = letter.event().unwrap();
        assert_eq!(
            (event.id.as_str(), event.kind, event.sequence),
            ("01ARYZ6S41TSV4RRFFQ69G5FAV", EventKind::Message, 7)
        );
        assert_eq!((event.user.as_deref(), event.body.as_ref()), (Some("zoë"), b"{ \"n\": 1.0 }".as_slice()));
        assert_eq!(event.params, [("room".to_owned(), "a b".to_owned())]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, value) in [
            ("id", "x"),
            ("id", "01ARYZ6S41TSV4RRFFQ69G5FAU\n"),
            ("type", "io.other"),
            ("time", "now and then"),
            ("sequence", "-1"),
            ("connectionid", ""),
            ("deadletterbackend", ""),
            ("deadletterparams", "[1]"),
            ("traceparent", "é"),
        ] {
            let mut wrong = letter();
            wrong["attributes"][name] = json!(value);
            let letter: Letter = serde_json::from_value(wrong).unwrap();
            assert_eq!(letter.event().unwrap_err().name(), name, "{value}");
        }
        for data in ["", "{", "1},{}", "x"] {
            let mut wrong = letter();
            wrong["data"] = json!(data);
            let letter: Letter = serde_json::from_value(wrong).unwrap();
            assert_eq!(letter.event().unwrap_err().name(), "data", "{data}");
        }
        let mut wrong = letter();
        wrong["attributes"]["source"] = json!("/endpoint/ep-1");
        assert_eq!(serde_json::from_value::<Letter>(wrong).unwrap().endpoint().unwrap_err().name(), "source");
    }
}
