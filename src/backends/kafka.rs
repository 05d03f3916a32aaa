//! A Kafka topic as a backend. Records are enqueued in the order of `begin`, so a connection's events keep their order
//! without waiting for each other; the delivery report decides whether an event is delivered. Producers are shared
//! ([`producers`]).

mod producers;

use std::rc::Rc;
use std::sync::Arc;

use rdkafka::message::{Header, Headers, OwnedHeaders};
use wsgateway_otlp::{TraceContext, Tracer};

use super::spans::Sent;
use super::{Backend, Begin, Delivered, Event, Failure, RouteFacts};
use crate::model::kafka::{correlation_id, KafkaKey, KafkaReply, KafkaSpec};
pub use producers::KafkaProducers;
use producers::{NotQueued, SharedProducer};

pub struct KafkaBackend {
    producer: Arc<SharedProducer>,
    topic: Arc<str>,
    /// Of its spans.
    name: Arc<str>,
    tracer: Tracer,
    index: usize,
    key_by_user: bool,
    constants: OwnedHeaders,
    /// The name of the header with the correlation id, and the endpoint that is part of that.
    correlation: Option<(String, String)>,
}

impl KafkaBackend {
    pub fn new(
        producers: &KafkaProducers,
        spec: &KafkaSpec,
        index: usize,
        route: &RouteFacts,
        tracer: Tracer,
    ) -> Result<KafkaBackend, Failure> {
        Ok(KafkaBackend {
            producer: producers.producer(spec)?,
            topic: spec.topic.as_str().into(),
            name: format!("send {}", spec.topic).into(),
            tracer,
            index,
            key_by_user: matches!(spec.key, KafkaKey::UserId),
            constants: constant_headers(spec, route),
            correlation: correlation(spec, route),
        })
    }
}

impl Backend for KafkaBackend {
    fn one_at_a_time(&self) -> bool {
        false
    }

    fn begin(self: Rc<Self>, event: &Rc<Event>) -> Begin {
        let key = record_key(self.key_by_user, self.index, event);
        let sent = event.trace.as_deref().filter(|_| self.tracer.is_on()).map(Sent::begin);
        let own = sent.as_ref().map(|sent| &sent.context);
        let headers = record_headers(self.constants.clone(), self.correlation.as_ref(), event, own);
        let producer = self.producer.clone();
        let bytes = event.body.len();
        match producer.send(&self.topic, key, &event.body, headers) {
            Ok(report) => Begin::Started(Box::pin(async move {
                // The report keeps its producer alive, also when no endpoint uses that any more.
                let failed = match report.await {
                    Ok(Ok(())) => {
                        producer.delivered();
                        None
                    }
                    Ok(Err(err)) => Some(producer.failure(&err)),
                    Err(_closed) => Some(Failure::Kafka("the producer was closed".to_owned())),
                };
                if let Some(sent) = sent {
                    self.tracer.export(sent.end(&self.name, &self.topic, bytes, failed.as_ref()));
                }
                match failed {
                    None => Ok(Delivered::default()),
                    Some(failure) => Err(failure.into()),
                }
            })),
            Err(NotQueued::Full) => Begin::Busy,
            Err(NotQueued::Failed(failure)) => Begin::Started(Box::pin(async move { Err(failure.into()) })),
        }
    }
}

/// A record as it would be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordPreview {
    pub key: String,
    pub headers: Vec<(String, String)>,
}

/// What a backend would send for an event, made by the code that does send it.
pub fn preview(spec: &KafkaSpec, index: usize, route: &RouteFacts, event: &Event) -> RecordPreview {
    let headers = record_headers(constant_headers(spec, route), correlation(spec, route).as_ref(), event, None);
    let text = |header: Header<'_, &[u8]>| {
        (header.key.to_owned(), String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned())
    };
    RecordPreview {
        key: record_key(matches!(spec.key, KafkaKey::UserId), index, event).to_owned(),
        headers: headers.iter().map(text).collect(),
    }
}

fn correlation(spec: &KafkaSpec, route: &RouteFacts) -> Option<(String, String)> {
    spec.reply.as_ref().map(|reply| (reply.correlation_header.clone(), route.endpoint_id.clone()))
}

/// `own`: the context of the record's span, which its consumers are below.
fn record_headers(
    mut headers: OwnedHeaders,
    correlation: Option<&(String, String)>,
    event: &Event,
    own: Option<&TraceContext>,
) -> OwnedHeaders {
    let traceparent = own.map(TraceContext::traceparent);
    for (key, value) in [
        ("ce_id", event.id.as_str().as_bytes()),
        ("ce_time", event.time()),
        ("ce_sequence", event.sequence_text()),
        ("ce_connectionid", event.source.connection_id.as_bytes()),
        ("traceparent", traceparent.as_ref().map_or(event.traceparent(), |own| &own[..])),
    ] {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    if let Some(user) = &event.source.user {
        headers = headers.insert(Header { key: "ce_userid", value: Some(user.as_bytes()) });
    }
    if let Some((key, endpoint)) = correlation {
        let id = correlation_id(endpoint, &event.source.connection_id, event.id.as_str());
        headers = headers.insert(Header { key, value: Some(&id) });
    }
    for (extension, value) in &event.extensions {
        headers = headers.insert(Header { key: extension.kafka, value: Some(value.as_bytes()) });
    }
    headers
}

fn record_key(by_user: bool, index: usize, event: &Event) -> &str {
    let by_user = by_user.then_some(event.source.user.as_deref()).flatten();
    let taken = event.keys.get(index).and_then(Option::as_deref);
    taken.or(by_user).unwrap_or(&event.source.connection_id)
}

/// `ce_…` as the Kafka binding of CloudEvents has them: UTF-8, not percent-encoded.
fn constant_headers(spec: &KafkaSpec, route: &RouteFacts) -> OwnedHeaders {
    let source = format!("/endpoints/{}", route.endpoint_id);
    let mut headers = OwnedHeaders::new_with_capacity(16);
    for (key, value) in [
        ("content-type", "application/json"),
        ("ce_specversion", "1.0"),
        ("ce_type", route.kind.cloud_event_type()),
        ("ce_source", &source),
        ("ce_endpointpath", &route.endpoint_path),
        ("ce_route", &route.route),
        ("ce_node", &route.node),
    ] {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    for (key, value) in &spec.headers {
        headers = headers.insert(Header { key, value: Some(value.expose()) });
    }
    if let Some(reply) = &spec.reply {
        headers = headers.insert(Header { key: KafkaReply::TOPIC_HEADER, value: Some(&reply.topic) });
    }
    headers
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::backends::EventSource;
    use crate::model::event::{EventIdGenerator, EventKind};
    use crate::model::kafka::{KafkaAcks, KafkaCompression, KafkaSecurity};

    #[test]
    fn a_record_that_may_be_answered_says_where() {
        let reply = KafkaReply { topic: "answers".to_owned(), correlation_header: "x-correlation".to_owned() };
        let spec = KafkaSpec {
            topic: "t".to_owned(),
            bootstrap_servers: None,
            acks: KafkaAcks::All,
            retries: None,
            key: KafkaKey::ConnectionId,
            headers: Vec::new(),
            compression: KafkaCompression::None,
            security: KafkaSecurity::default(),
            reply: Some(reply),
        };
        let route = RouteFacts {
            kind: EventKind::Message,
            endpoint_id: "ep-1".to_owned(),
            endpoint_path: "/e".to_owned(),
            route: "r".to_owned(),
            node: "n".to_owned(),
        };
        let source = EventSource::new("cid".into(), None, Vec::new());
        let id = EventIdGenerator::new().next_id(1_700_000_000_123);
        let event = Event::new(
            EventKind::Message,
            id,
            1_700_000_000_123,
            1,
            Bytes::from_static(b"{}"),
            source,
            &TraceContext::root(false),
        );
        let headers = preview(&spec, 0, &route, &event).headers;
        let header = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(header("kafka_replyTopic"), Some("answers"));
        assert_eq!(header("x-correlation"), Some(format!("ep-1/cid/{id}").as_str()));
        let silent = KafkaSpec { reply: None, ..spec };
        let headers = preview(&silent, 0, &route, &event).headers;
        assert!(!headers.iter().any(|(key, _)| key.starts_with("kafka_") || key == "x-correlation"), "{headers:?}");
    }
}
