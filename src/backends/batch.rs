//! Several events in one request, as bytes: CloudEvents' JSON batch format on the way out, per-event results on the way
//! back. Pure. Called by batching; imports event.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;

use super::{Event, RouteFacts};

/// What the events of a backend have in common, written once.
pub struct Envelope {
    /// An object without its end.
    start: Vec<u8>,
}

impl Envelope {
    pub fn new(route: &RouteFacts) -> Envelope {
        let source = format!("/endpoints/{}", route.endpoint_id);
        let mut start = b"{\"specversion\":\"1.0\",\"datacontenttype\":\"application/json\"".to_vec();
        for (name, value) in [
            ("type", route.kind.cloud_event_type()),
            ("source", &source),
            ("endpointpath", &route.endpoint_path),
            ("route", &route.route),
            ("node", &route.node),
        ] {
            member(&mut start, name, value);
        }
        Envelope { start }
    }

    /// The body with as many of the events as fit into `bytes_max`, at least one; and how many these are. Attempts after
    /// the first one say so.
    pub fn batch<'e>(
        &self,
        events: impl IntoIterator<Item = &'e Event>,
        attempt: u32,
        bytes_max: usize,
    ) -> (Bytes, usize) {
        let mut body = BytesMut::with_capacity(1024);
        let mut count = 0;
        body.put_u8(b'[');
        for event in events {
            let before = body.len();
            if count > 0 {
                body.put_u8(b',');
            }
            self.put(event, attempt, &mut body);
            // With the bracket at its end.
            if count > 0 && body.len() + 1 > bytes_max {
                body.truncate(before);
                break;
            }
            count += 1;
        }
        body.put_u8(b']');
        (body.freeze(), count)
    }

    fn put(&self, event: &Event, attempt: u32, body: &mut BytesMut) {
        body.extend_from_slice(&self.start);
        for (name, value) in [
            (&b",\"id\":\""[..], event.id.as_str().as_bytes()),
            (b"\",\"time\":\"", event.time()),
            (b"\",\"sequence\":\"", event.sequence_text()),
            (b"\",\"traceparent\":\"", event.traceparent()),
            (b"\",\"connectionid\":\"", event.source.connection_id.as_bytes()),
        ] {
            body.extend_from_slice(name);
            // Digits, letters and signs. What an event is sent again with was written by others.
            match value.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
                true => body.extend_from_slice(value),
                false => {
                    let quoted = serde_json::Value::from(String::from_utf8_lossy(value)).to_string();
                    body.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
                }
            }
        }
        body.put_u8(b'"');
        let user = event.source.user.as_deref().map(|user| ("userid", user));
        let extensions = event.extensions.iter().map(|(extension, value)| (extension.name, value.as_str()));
        for (name, value) in user.into_iter().chain(extensions) {
            let mut more = Vec::with_capacity(name.len() + value.len() + 8);
            member(&mut more, name, value);
            body.extend_from_slice(&more);
        }
        if attempt > 1 {
            body.extend_from_slice(format!(",\"attempt\":{attempt}").as_bytes());
        }
        body.extend_from_slice(b",\"data\":");
        body.extend_from_slice(&event.body);
        body.put_u8(b'}');
    }
}

fn member(into: &mut Vec<u8>, name: &str, value: &str) {
    into.extend_from_slice(format!(",\"{name}\":{}", serde_json::Value::from(value)).as_bytes());
}

/// What became of one event, as the service says it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct EventResult {
    pub id: String,
    pub status: u16,
}

/// Whether it is a list, or the beginning of one.
pub fn begins_list(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"[")
}

/// The results in the body of a 2xx: a list of `{"id", "status"}`. Whatever is no list says nothing: all were taken.
pub fn results(body: &[u8]) -> Result<Vec<EventResult>, String> {
    if !begins_list(body) {
        return Ok(Vec::new());
    }
    serde_json::from_slice(body).map_err(|err| format!("is a list, but not one of results by event: {err}"))
}

#[cfg(test)]
mod tests {
    use super::super::EventSource;
    use super::*;
    use crate::model::event::{EventIdGenerator, EventKind};
    use serde_json::{json, Value};
    use wsgateway_otlp::TraceContext;

    fn events(bodies: &[&'static str]) -> Vec<Event> {
        let mut ids = EventIdGenerator::new();
        let source = EventSource::new("cid".into(), Some("zoë \"q\"".into()), Vec::new());
        let event = |(at, body): (usize, &&'static str)| {
            let id = ids.next_id(1_700_000_000_123);
            let body = Bytes::from_static(body.as_bytes());
            Event::new(
                EventKind::Message,
                id,
                1_700_000_000_123,
                at as u64 + 1,
                body,
                source.clone(),
                &TraceContext::root(false),
            )
        };
        bodies.iter().enumerate().map(event).collect()
    }

    fn envelope() -> Envelope {
        Envelope::new(&RouteFacts {
            kind: EventKind::Message,
            endpoint_id: "ep-1".into(),
            endpoint_path: "/a/{b}".into(),
            route: "Ro\"ute".into(),
            node: "n1".into(),
        })
    }

    #[test]
    fn a_batch_is_a_list_of_structured_events_with_their_bytes() {
        let events = events(&["{\"n\": 1.00e2}", "[]"]);
        let (body, count) = envelope().batch(&events, 1, usize::MAX);
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(text.contains("\"data\":{\"n\": 1.00e2}}"), "byte by byte: {text}");
        let list: Vec<Value> = serde_json::from_str(&text).unwrap();
        assert_eq!((count, list.len()), (2, 2));
        let mut second = list[1].clone();
        assert_eq!(second["traceparent"].as_str().map(str::len), Some(55));
        second.as_object_mut().unwrap().remove("traceparent");
        assert_eq!(
            second,
            json!({"specversion": "1.0", "datacontenttype": "application/json", "type": "io.wsgateway.message",
                "source": "/endpoints/ep-1", "endpointpath": "/a/{b}", "route": "Ro\"ute", "node": "n1",
                "id": events[1].id.as_str(), "time": "2023-11-14T22:13:20.123Z", "sequence": "2", "connectionid": "cid",
                "userid": "zoë \"q\"", "data": []})
        );
        let (body, _) = envelope().batch(&events[..1], 3, usize::MAX);
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()[0]["attempt"], 3);
    }

    #[test]
    fn a_batch_has_at_most_its_bytes_and_at_least_one_event() {
        let events = events(&["1", "2", "3"]);
        let one = envelope().batch(&events[..1], 1, 0).0.len();
        let two = 2 * one - 1;
        for (max, count, length) in [(0, 1, one), (two - 1, 1, one), (two, 2, two), (two + 5, 2, two)] {
            let (body, events) = envelope().batch(&events, 1, max);
            assert_eq!((events, body.len()), (count, length), "{max}");
            assert!(serde_json::from_slice::<Vec<Value>>(&body).is_ok());
        }
    }

    #[test]
    fn results_are_lists_and_everything_else_says_nothing() {
        for nothing in ["", "  ", "ok", "{\"ok\":true}", "[]", "\"[\""] {
            assert_eq!(results(nothing.as_bytes()), Ok(Vec::new()), "{nothing}");
        }
        let listed = results(br#" [{"id":"a","status":503,"why":"busy"}]"#).unwrap();
        assert_eq!(listed, [EventResult { id: "a".into(), status: 503 }]);
        for unclear in ["[1]", "[{\"id\":\"a\"}]", "[{\"status\":200}]", "["] {
            assert!(results(unclear.as_bytes()).is_err(), "{unclear}");
        }
    }
}
