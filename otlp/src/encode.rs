//! From spans to the body of a request, with the field numbers of opentelemetry-proto 1.x. Pure. Runs where batches are sent, not
//! where spans are made: here texts are copied. Fields that are never sent are left out: the protocol has defaults for them.

use bytes::Bytes;

use crate::settings::TracingSettings;
use crate::span::{Kind, Parent, Span, Status, Value};
use crate::wire::Writer;

/// `Status.StatusCode` of the protocol.
const STATUS_CODE_ERROR: u64 = 2;
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
    /// A `Resource`, encoded.
    resource: Vec<u8>,
    /// An `InstrumentationScope`, encoded.
    scope: Vec<u8>,
}

impl Origin {
    pub fn new(settings: &TracingSettings, node: Node<'_>) -> Origin {
        let own = [
            ("service.name", settings.service_name.as_str()),
            ("service.version", node.version),
            ("service.instance.id", node.instance_id),
        ];
        let more = settings.attributes.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut resource = Writer::default();
        for (name, value) in own.into_iter().chain(more) {
            resource.message(1, |attribute| key_value(attribute, name, |any| any.bytes_present(1, value.as_bytes())));
        }
        let mut scope = Writer::default();
        scope.bytes(1, b"wsgateway");
        scope.bytes(2, node.version.as_bytes());
        Origin { resource: resource.into_bytes(), scope: scope.into_bytes() }
    }

    /// An `ExportTraceServiceRequest`.
    pub fn request(&self, spans: &[Span]) -> Bytes {
        let mut request = Writer::default();
        request.message(1, |resource_spans| {
            resource_spans.bytes_present(1, &self.resource);
            resource_spans.message(2, |scope_spans| {
                scope_spans.bytes_present(1, &self.scope);
                for one in spans {
                    scope_spans.message(2, |writer| span(writer, one));
                }
            });
        });
        request.into_bytes().into()
    }
}

/// A `KeyValue`; `value` writes its `AnyValue`.
fn key_value(writer: &mut Writer, key: &str, value: impl FnOnce(&mut Writer)) {
    writer.bytes(1, key.as_bytes());
    writer.message(2, value);
}

/// A `Span`.
fn span(writer: &mut Writer, span: &Span) {
    let remote = match span.parent {
        None => 0,
        Some(Parent { remote: false, .. }) => HAS_IS_REMOTE,
        Some(Parent { remote: true, .. }) => HAS_IS_REMOTE | IS_REMOTE,
    };
    writer.bytes(1, &span.trace_id.to_bytes());
    writer.bytes(2, &span.span_id.to_bytes());
    if let Some(state) = &span.tracestate {
        writer.bytes(3, state.as_str().as_bytes());
    }
    if let Some(parent) = &span.parent {
        writer.bytes(4, &parent.span_id.to_bytes());
    }
    writer.bytes(5, span.name.as_str().as_bytes());
    writer.varint(6, kind(span.kind));
    writer.fixed64(7, span.start_unix_nanos);
    writer.fixed64(8, span.end_unix_nanos);
    for (key, value) in &span.attributes {
        writer.message(9, |attribute| key_value(attribute, key, |any| any_value(any, value)));
    }
    for link in &span.links {
        writer.message(13, |writer| {
            writer.bytes(1, &link.trace_id.to_bytes());
            writer.bytes(2, &link.span_id.to_bytes());
        });
    }
    if let Status::Error(message) = &span.status {
        writer.message(15, |status| {
            status.bytes(2, message.as_str().as_bytes());
            status.varint(3, STATUS_CODE_ERROR);
        });
    }
    writer.fixed32(16, u32::from(span.flags) | remote);
}

/// `Span.SpanKind` of the protocol.
fn kind(kind: Kind) -> u64 {
    match kind {
        Kind::Internal => 1,
        Kind::Server => 2,
        Kind::Client => 3,
        Kind::Producer => 4,
        Kind::Consumer => 5,
    }
}

/// One of several: written also when it is empty or 0.
fn any_value(writer: &mut Writer, value: &Value) {
    match value {
        Value::Str(text) => writer.bytes_present(1, text.as_str().as_bytes()),
        Value::Bool(is) => writer.varint_present(2, u64::from(*is)),
        // Two's complement, in ten bytes if it is below 0.
        Value::Int(number) => writer.varint_present(3, number.cast_unsigned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::TraceContext;
    use crate::span::Started;
    use crate::wire::Fields;

    fn only<'m>(message: &'m [u8], field: u32) -> Fields<'m> {
        let fields = Fields::read(message).expect("a message");
        let all: Vec<&'m [u8]> = fields.all(field).collect();
        assert_eq!(all.len(), 1, "field {field} of {fields:?}");
        Fields::read(all[0]).expect("a message")
    }

    /// The `AnyValue` of an attribute among `KeyValue`s.
    fn any<'m>(attributes: impl Iterator<Item = &'m [u8]>, key: &str) -> Fields<'m> {
        let mut all = attributes.map(|one| Fields::read(one).expect("a KeyValue"));
        let found = all.find(|one| one.text(1) == key).unwrap_or_else(|| panic!("no {key}"));
        Fields::read(found.bytes(2)).expect("an AnyValue")
    }

    fn origin() -> Origin {
        let attributes = [("deployment.environment.name".to_owned(), "test".to_owned())].into();
        let settings = TracingSettings { attributes, ..TracingSettings::default() };
        Origin::new(&settings, Node { instance_id: "node-7", version: "1.2.3" })
    }

    /// By the numbers of opentelemetry-proto's trace.proto, common.proto and resource.proto.
    #[test]
    fn every_field_is_where_the_protocol_has_it() {
        let parent = TraceContext::root(true).with_tracestate([&b"a=1"[..]]);
        let (context, other) = (parent.child(), TraceContext::root(false));
        let mut span = Span::new(&context, "POST", Kind::Client, &Started::now()).below(parent.span_id);
        (span.start_unix_nanos, span.end_unix_nanos) = (5, 7);
        span.link(&other);
        span.set("http.request.method", "POST");
        span.set("http.response.status_code", 503_u16);
        span.set("negative", -1_i64);
        span.set("error", true);
        span.set("nothing", "");
        span.fail("answered 503".to_owned());

        let request = origin().request(&[span]);
        let resource_spans = Fields::read(&request).unwrap().bytes(1);
        let resource = only(resource_spans, 1);
        for (key, value) in [
            ("service.name", "wsgateway"),
            ("service.version", "1.2.3"),
            ("service.instance.id", "node-7"),
            ("deployment.environment.name", "test"),
        ] {
            assert_eq!(any(resource.all(1), key).text(1), value);
        }
        let scope_spans = Fields::read(resource_spans).unwrap().bytes(2);
        let scope = only(scope_spans, 1);
        assert_eq!((scope.text(1), scope.text(2)), ("wsgateway".to_owned(), "1.2.3".to_owned()));
        let span = only(scope_spans, 2);
        assert_eq!(span.bytes(1), parent.trace_id.to_bytes());
        assert_eq!(span.bytes(2), context.span_id.to_bytes());
        assert_eq!(span.bytes(4), parent.span_id.to_bytes());
        assert_eq!((span.text(3), span.text(5), span.number(6)), ("a=1".to_owned(), "POST".to_owned(), 3));
        assert_eq!((span.number(7), span.number(8), span.number(16)), (5, 7, 0x103));
        assert_eq!(any(span.all(9), "http.request.method").text(1), "POST");
        assert_eq!(any(span.all(9), "http.response.status_code").number(3), 503);
        assert_eq!(any(span.all(9), "negative").number(3), u64::MAX);
        assert_eq!(any(span.all(9), "error").number(2), 1);
        assert!(any(span.all(9), "nothing").has(1));
        let link = Fields::read(span.bytes(13)).unwrap();
        assert_eq!((link.bytes(1), link.bytes(2)), (&other.trace_id.to_bytes()[..], &other.span_id.to_bytes()[..]));
        let status = Fields::read(span.bytes(15)).unwrap();
        assert_eq!((status.text(2), status.number(3)), ("answered 503".to_owned(), 2));
    }

    #[test]
    fn kinds_and_what_is_not_there() {
        let read = |span: Span| {
            let request = origin().request(&[span]);
            let (resource_spans, of) = (Fields::read(&request).unwrap().bytes(1).to_vec(), |bytes: &[u8], field| {
                Fields::read(bytes).unwrap().bytes(field).to_vec()
            });
            of(&of(&resource_spans, 2), 2)
        };
        for (kind, is) in
            [(Kind::Internal, 1), (Kind::Server, 2), (Kind::Client, 3), (Kind::Producer, 4), (Kind::Consumer, 5)]
        {
            let made = read(Span::new(&TraceContext::root(true), "x", kind, &Started::now()));
            let span = Fields::read(&made).unwrap();
            assert_eq!((span.number(6), span.number(16)), (is, 3));
            assert!(!span.has(4) && !span.has(13) && !span.has(15));
        }
        let made = Span::new(&TraceContext::root(true), "x", Kind::Server, &Started::now());
        let made = read(made.below_remote(TraceContext::root(true).span_id));
        assert_eq!(Fields::read(&made).unwrap().number(16), 0x303);
    }
}
