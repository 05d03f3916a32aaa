//! From spans to the body of a request. Pure. Runs where batches are sent, not where spans are made: here texts are copied.

use bytes::Bytes;
use prost::Message;

use crate::settings::TracingSettings;
use crate::span::{Kind, Link, Parent, Span, Status, Text, Value};
use crate::wire;

/// `Status.StatusCode` of the protocol.
const STATUS_CODE_ERROR: i32 = 2;
/// `SpanFlags` of the protocol: whether the parent is of another process is known, and it is.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// Who a node is in its traces.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// `service.instance.id`: the same for the node's life.
    pub instance_id: &'a str,
    /// `service.version`.
    pub version: &'a str,
}

/// What all batches of a node have in common.
#[derive(Clone, Debug)]
pub struct Origin {
    resource: wire::Resource,
    scope: wire::InstrumentationScope,
}

impl Origin {
    pub fn new(settings: &TracingSettings, node: Node<'_>) -> Origin {
        let own = [
            ("service.name", settings.service_name.as_str()),
            ("service.version", node.version),
            ("service.instance.id", node.instance_id),
        ];
        let more = settings.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let attributes = own.into_iter().chain(more).map(|(name, value)| text(name, value.to_owned())).collect();
        Origin {
            resource: wire::Resource { attributes },
            scope: wire::InstrumentationScope { name: "wsgateway".to_owned(), version: node.version.to_owned() },
        }
    }

    /// An `ExportTraceServiceRequest`.
    pub fn request(&self, spans: Vec<Span>) -> Bytes {
        let scope_spans =
            wire::ScopeSpans { scope: Some(self.scope.clone()), spans: spans.into_iter().map(span).collect() };
        let resource_spans =
            wire::ResourceSpans { resource: Some(self.resource.clone()), scope_spans: vec![scope_spans] };
        wire::ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec().into()
    }
}

fn text(key: &str, value: String) -> wire::KeyValue {
    wire::KeyValue { key: key.to_owned(), value: Some(wire::AnyValue { value: Some(wire::Any::Str(value)) }) }
}

fn span(span: Span) -> wire::Span {
    let remote = match span.parent {
        None => 0,
        Some(Parent { remote: false, .. }) => HAS_IS_REMOTE,
        Some(Parent { remote: true, .. }) => HAS_IS_REMOTE | IS_REMOTE,
    };
    wire::Span {
        trace_id: span.trace_id.to_bytes().into(),
        span_id: span.span_id.to_bytes().into(),
        trace_state: span.tracestate.map(|state| state.as_str().to_owned()).unwrap_or_default(),
        parent_span_id: span.parent.map(|parent| parent.span_id.to_bytes().into()).unwrap_or_default(),
        name: span.name.into_string(),
        kind: kind(span.kind),
        start_time_unix_nano: span.start_unix_nanos,
        end_time_unix_nano: span.end_unix_nanos,
        attributes: span.attributes.into_iter().map(attribute).collect(),
        links: span.links.into_iter().map(link).collect(),
        status: status(span.status),
        flags: u32::from(span.flags) | remote,
    }
}

/// `Span.SpanKind` of the protocol.
fn kind(kind: Kind) -> i32 {
    match kind {
        Kind::Internal => 1,
        Kind::Server => 2,
        Kind::Client => 3,
        Kind::Producer => 4,
        Kind::Consumer => 5,
    }
}

fn attribute((key, value): (&'static str, Value)) -> wire::KeyValue {
    let value = match value {
        Value::Str(text) => wire::Any::Str(text.into_string()),
        Value::Int(number) => wire::Any::Int(number),
        Value::Bool(is) => wire::Any::Bool(is),
    };
    wire::KeyValue { key: key.to_owned(), value: Some(wire::AnyValue { value: Some(value) }) }
}

fn link(link: Link) -> wire::Link {
    wire::Link { trace_id: link.trace_id.to_bytes().into(), span_id: link.span_id.to_bytes().into() }
}

fn status(status: Status) -> Option<wire::Status> {
    match status {
        Status::Unset => None,
        Status::Error(message) => Some(wire::Status { message: Text::into_string(message), code: STATUS_CODE_ERROR }),
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use opentelemetry_proto::tonic::common::v1::KeyValue;
    use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
    use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

    use super::*;
    use crate::context::TraceContext;
    use crate::span::Started;

    fn any(attributes: &[KeyValue], key: &str) -> Option<Any> {
        attributes.iter().find(|one| one.key == key)?.value.clone()?.value
    }

    fn str(text: &str) -> Option<Any> {
        Some(Any::StringValue(text.to_owned()))
    }

    fn origin() -> Origin {
        let attributes = [("deployment.environment.name".to_owned(), "test".to_owned())].into();
        let settings = TracingSettings { attributes, ..TracingSettings::default() };
        Origin::new(&settings, Node { instance_id: "node-7", version: "1.2.3" })
    }

    /// Read with the types that are generated from the protocol's files.
    #[test]
    fn every_field_arrives_where_the_protocol_has_it() {
        let parent = TraceContext::root(true).with_tracestate([&b"a=1"[..]]);
        let (context, other) = (parent.child(), TraceContext::root(false));
        let mut span = Span::new(&context, "POST", Kind::Client, &Started::now()).below(parent.span_id);
        (span.start_unix_nanos, span.end_unix_nanos) = (5, 7);
        span.link(&other);
        span.set("http.request.method", "POST");
        span.set("http.response.status_code", 503_u16);
        span.set("negative", -1_i64);
        span.set("error", true);
        span.fail("answered 503".to_owned());

        let read = ExportTraceServiceRequest::decode(origin().request(vec![span])).unwrap();
        let [of_resource] = &read.resource_spans[..] else { panic!("{read:?}") };
        let attributes = &of_resource.resource.as_ref().unwrap().attributes;
        for (key, value) in [
            ("service.name", "wsgateway"),
            ("service.version", "1.2.3"),
            ("service.instance.id", "node-7"),
            ("deployment.environment.name", "test"),
        ] {
            assert_eq!(any(attributes, key), str(value));
        }
        let [of_scope] = &of_resource.scope_spans[..] else { panic!("{read:?}") };
        let scope = of_scope.scope.as_ref().unwrap();
        assert_eq!((scope.name.as_str(), scope.version.as_str()), ("wsgateway", "1.2.3"));
        let [span] = &of_scope.spans[..] else { panic!("{read:?}") };
        assert_eq!(span.trace_id, parent.trace_id.to_bytes());
        assert_eq!(span.span_id, context.span_id.to_bytes());
        assert_eq!(span.parent_span_id, parent.span_id.to_bytes());
        assert_eq!((span.trace_state.as_str(), span.name.as_str(), span.kind()), ("a=1", "POST", SpanKind::Client));
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano, span.flags), (5, 7, 0x103));
        assert_eq!(any(&span.attributes, "http.request.method"), str("POST"));
        assert_eq!(any(&span.attributes, "http.response.status_code"), Some(Any::IntValue(503)));
        assert_eq!(any(&span.attributes, "negative"), Some(Any::IntValue(-1)));
        assert_eq!(any(&span.attributes, "error"), Some(Any::BoolValue(true)));
        let [link] = &span.links[..] else { panic!("{span:?}") };
        assert_eq!(link.trace_id, other.trace_id.to_bytes());
        assert_eq!(link.span_id, other.span_id.to_bytes());
        let status = span.status.as_ref().unwrap();
        assert_eq!((status.code(), status.message.as_str()), (StatusCode::Error, "answered 503"));
    }

    #[test]
    fn kinds_and_what_is_not_there() {
        for (kind, is) in [
            (Kind::Internal, SpanKind::Internal),
            (Kind::Server, SpanKind::Server),
            (Kind::Client, SpanKind::Client),
            (Kind::Producer, SpanKind::Producer),
            (Kind::Consumer, SpanKind::Consumer),
        ] {
            let made = Span::new(&TraceContext::root(true), "x", kind, &Started::now());
            let read = ExportTraceServiceRequest::decode(origin().request(vec![made])).unwrap();
            let span = &read.resource_spans[0].scope_spans[0].spans[0];
            assert_eq!((span.kind(), span.flags), (is, 3));
            assert!(span.parent_span_id.is_empty() && span.status.is_none() && span.links.is_empty());
        }
        let made = Span::new(&TraceContext::root(true), "x", Kind::Server, &Started::now());
        let made = made.below_remote(TraceContext::root(true).span_id);
        let read = ExportTraceServiceRequest::decode(origin().request(vec![made])).unwrap();
        assert_eq!(read.resource_spans[0].scope_spans[0].spans[0].flags, 0x303);
    }
}
