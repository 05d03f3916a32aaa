//! One event on its way to backends: the body as the client sent it and the CloudEvents attributes of docs/http-api.md. Values
//! that are the same for a connection are made once per connection, the others share one buffer per event.

use std::rc::Rc;

use actix_http::header::{HeaderName, HeaderValue};
use bytes::{Bytes, BytesMut};
use wsgateway_otlp::TraceContext;

use crate::model::dead_letter::{Extension, Resent};
use crate::model::event::{EventId, EventKind};
pub use crate::model::timestamp::rfc3339;
use crate::model::timestamp::write_rfc3339;

/// Where events come from: one connection.
#[derive(Debug)]
pub struct EventSource {
    pub connection_id: String,
    pub user: Option<String>,
    /// Values of the path template's parameters, for destinations that name them.
    pub params: Vec<(String, String)>,
    pub(super) connection_id_header: HeaderValue,
    pub(super) user_header: Option<HeaderValue>,
}

impl EventSource {
    pub fn new(connection_id: String, user: Option<String>, params: Vec<(String, String)>) -> Rc<EventSource> {
        Rc::new(EventSource {
            connection_id_header: attribute_value(&connection_id),
            user_header: user.as_deref().map(attribute_value),
            connection_id,
            user,
            params,
        })
    }
}

/// An event. Its attributes lie in one buffer, one after the other.
#[derive(Debug)]
pub struct Event {
    pub kind: EventKind,
    pub id: EventId,
    pub sequence: u64,
    pub body: Bytes,
    pub source: Rc<EventSource>,
    /// Kafka record keys taken from the event, by the backend's index; empty when no backend wants one.
    pub keys: Vec<Option<String>>,
    /// Attributes that only dead letters have.
    pub(super) extensions: Vec<(Extension, String)>,
    attributes: Bytes,
    time_end: usize,
    sequence_end: usize,
    /// What its spans are made of; None: it is not recorded.
    pub trace: Option<Box<TraceContext>>,
}

impl Event {
    pub fn new(
        kind: EventKind,
        id: EventId,
        unix_millis: u64,
        sequence: u64,
        body: Bytes,
        source: Rc<EventSource>,
        trace: &TraceContext,
    ) -> Event {
        let mut attributes = BytesMut::with_capacity(128);
        attributes.extend_from_slice(id.as_str().as_bytes());
        write_rfc3339(unix_millis, &mut attributes);
        let time_end = attributes.len();
        let mut digits = [0; 20];
        attributes.extend_from_slice(decimal(sequence, &mut digits));
        let sequence_end = attributes.len();
        attributes.extend_from_slice(&trace.traceparent());
        Event {
            kind,
            id,
            sequence,
            body,
            source,
            keys: Vec::new(),
            extensions: Vec::new(),
            attributes: attributes.freeze(),
            time_end,
            sequence_end,
            trace: trace.sampled.then(|| Box::new(trace.clone())),
        }
    }

    /// The same event with more attributes, and without record keys.
    pub fn extended(&self, extensions: Vec<(Extension, String)>) -> Event {
        Event {
            body: self.body.clone(),
            source: self.source.clone(),
            attributes: self.attributes.clone(),
            keys: Vec::new(),
            extensions,
            trace: None,
            ..*self
        }
    }

    /// An event that was made before, with its own attributes.
    pub fn again(event: &Resent, source: Rc<EventSource>) -> Event {
        let mut attributes = BytesMut::with_capacity(128);
        attributes.extend_from_slice(event.id.as_str().as_bytes());
        attributes.extend_from_slice(event.time.as_bytes());
        let time_end = attributes.len();
        let mut digits = [0; 20];
        attributes.extend_from_slice(decimal(event.sequence, &mut digits));
        let sequence_end = attributes.len();
        match &event.traceparent {
            Some(traceparent) => attributes.extend_from_slice(traceparent.as_bytes()),
            None => attributes.extend_from_slice(&TraceContext::root(false).traceparent()),
        }
        Event {
            kind: event.kind,
            id: event.id,
            sequence: event.sequence,
            body: event.body.clone(),
            source,
            keys: Vec::new(),
            extensions: Vec::new(),
            attributes: attributes.freeze(),
            time_end,
            sequence_end,
            trace: None,
        }
    }

    fn id_range(&self) -> std::ops::Range<usize> {
        0..self.id.as_str().len()
    }

    pub fn time(&self) -> &[u8] {
        &self.attributes[self.id_range().end..self.time_end]
    }

    pub fn sequence_text(&self) -> &[u8] {
        &self.attributes[self.time_end..self.sequence_end]
    }

    pub fn traceparent(&self) -> &[u8] {
        &self.attributes[self.sequence_end..]
    }

    /// The per-event attributes as HTTP header values, without a copy.
    pub(super) fn header_values(&self) -> [(&'static HeaderName, HeaderValue); 4] {
        let value = |range| {
            // The buffer holds digits, letters, '-', ':' and '.' only.
            HeaderValue::from_maybe_shared(self.attributes.slice(range))
                .unwrap_or_else(|_| HeaderValue::from_static(""))
        };
        [
            (&names::ID, value(self.id_range())),
            (&names::TIME, value(self.id_range().end..self.time_end)),
            (&names::SEQUENCE, value(self.time_end..self.sequence_end)),
            (&names::TRACEPARENT, value(self.sequence_end..self.attributes.len())),
        ]
    }
}

/// The attributes' names as HTTP headers, made once.
pub(super) mod names {
    use actix_http::header::HeaderName;
    pub static ID: HeaderName = HeaderName::from_static("ce-id");
    pub static TIME: HeaderName = HeaderName::from_static("ce-time");
    pub static SEQUENCE: HeaderName = HeaderName::from_static("ce-sequence");
    pub static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
    pub static CONNECTION_ID: HeaderName = HeaderName::from_static("ce-connectionid");
    pub static ATTEMPT: HeaderName = HeaderName::from_static("ce-attempt");
    pub static USER_ID: HeaderName = HeaderName::from_static("ce-userid");
}

/// CloudEvents HTTP binding §3.1.3.2: space, '"', '%' and everything outside U+0021–U+007E is percent-encoded UTF-8.
pub(super) fn attribute_value(text: &str) -> HeaderValue {
    let mut out = BytesMut::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' | b'%' => push_percent(byte, &mut out),
            0x21..=0x7e => out.extend_from_slice(&[byte]),
            _ => push_percent(byte, &mut out),
        }
    }
    HeaderValue::from_maybe_shared(out.freeze()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn push_percent(byte: u8, out: &mut BytesMut) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::EventIdGenerator;

    fn event() -> Event {
        let source = EventSource::new("cid".into(), Some("zoë \"q\" 100%".into()), Vec::new());
        let id = EventIdGenerator::new().next_id(1_700_000_000_123);
        let trace = TraceContext::root(false);
        Event::new(EventKind::Message, id, 1_700_000_000_123, 42, Bytes::from_static(b"{}"), source, &trace)
    }

    #[test]
    fn attributes_have_the_shapes_of_the_contract() {
        let event = event();
        assert_eq!(event.time(), b"2023-11-14T22:13:20.123Z");
        assert_eq!(event.sequence_text(), b"42");
        let trace = String::from_utf8(event.traceparent().to_vec()).unwrap();
        assert_eq!(trace.split('-').map(str::len).collect::<Vec<_>>(), [2, 32, 16, 2]);
        let values = event.header_values();
        assert_eq!(values[0].1.as_bytes(), event.id.as_str().as_bytes());
        assert_eq!(values[2].1.as_bytes(), b"42");
    }

    #[test]
    fn header_values_are_percent_encoded_as_the_http_binding_says() {
        assert_eq!(event().source.user_header.as_ref().unwrap().as_bytes(), b"zo%C3%AB%20%22q%22%20100%25");
        assert_eq!(attribute_value("Custom route").as_bytes(), b"Custom%20route");
    }

    #[test]
    fn decimals() {
        for number in [0, 7, 10, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }
}
