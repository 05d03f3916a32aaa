//! A span as the gateway builds it: plain fields, moved once into the queue. Made by whoever traces something; only for
//! contexts that are sampled, so that the others cost nothing.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use smallvec::SmallVec;

use crate::context::{SpanId, TraceContext, TraceId};
use crate::tracestate::TraceState;

/// Texts of a span's own are cut to this, so that the queue has a size. The longest URLs that matter are shorter.
pub const TEXT_BYTES_MAX: usize = 2048;

/// As many attributes as an attempt at an HTTP service has: a list of them is allocated once.
const ATTRIBUTES_USUAL: usize = 8;

/// A text without a copy, where there is one to share.
#[derive(Clone, Debug)]
pub enum Text {
    Static(&'static str),
    Shared(Arc<str>),
    Owned(String),
}

impl Text {
    pub fn as_str(&self) -> &str {
        match self {
            Text::Static(text) => text,
            Text::Shared(text) => text,
            Text::Owned(text) => text,
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Text) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Text {
        Text::Static(text)
    }
}

impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Text {
        Text::Shared(text)
    }
}

impl From<&Arc<str>> for Text {
    fn from(text: &Arc<str>) -> Text {
        Text::Shared(text.clone())
    }
}

impl From<String> for Text {
    fn from(mut text: String) -> Text {
        if text.len() > TEXT_BYTES_MAX {
            let end = (0..=TEXT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
            text.shrink_to_fit();
        }
        Text::Owned(text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Str(Text),
    Int(i64),
    Bool(bool),
}

impl<T: Into<Text>> From<T> for Value {
    fn from(text: T) -> Value {
        Value::Str(text.into())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Int(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Value {
        Value::Int(number.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Value {
        Value::Int(number.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Value {
        Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Value {
    fn from(is: bool) -> Value {
        Value::Bool(is)
    }
}

/// OpenTelemetry's span kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

/// A gateway succeeds or says what failed; OpenTelemetry leaves "ok" to applications.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Status {
    #[default]
    Unset,
    Error(Text),
}

/// Another span that this one has to do with, mostly of another trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub trace_id: TraceId,
    pub span_id: SpanId,
}

impl From<&TraceContext> for Link {
    fn from(context: &TraceContext) -> Link {
        Link { trace_id: context.trace_id, span_id: context.span_id }
    }
}

/// The span above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    pub span_id: SpanId,
    /// Of another process.
    pub remote: bool,
}

/// A moment from which time is measured by a clock that is never set back. Two clocks are read: for sampled spans only.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    unix_nanos: u64,
    instant: Instant,
}

impl Started {
    pub fn now() -> Started {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Started { unix_nanos: nanos(since_epoch), instant: Instant::now() }
    }

    pub fn unix_nanos(&self) -> u64 {
        self.unix_nanos
    }

    /// Unix time of now, as this moment and the time since have it.
    pub fn elapsed_unix_nanos(&self) -> u64 {
        self.unix_nanos.saturating_add(nanos(self.instant.elapsed()))
    }
}

/// Nanoseconds of 64 bits reach into the year 2554.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Something that took its time.
#[derive(Clone, Debug)]
pub struct Span {
    pub name: Text,
    pub kind: Kind,
    pub trace_id: TraceId,
    pub span_id: SpanId,
    /// W3C trace flags.
    pub flags: u8,
    pub tracestate: Option<TraceState>,
    pub parent: Option<Parent>,
    pub links: SmallVec<[Link; 1]>,
    pub start_unix_nanos: u64,
    pub end_unix_nanos: u64,
    /// Names of OpenTelemetry's semantic conventions, or `wsgateway.…`.
    pub attributes: Vec<(&'static str, Value)>,
    pub status: Status,
}

impl Span {
    /// The span that `context` tells of; it has ended when it has begun until [`Span::end`] says otherwise.
    pub fn new(context: &TraceContext, name: impl Into<Text>, kind: Kind, started: &Started) -> Span {
        Span {
            name: name.into(),
            kind,
            trace_id: context.trace_id,
            span_id: context.span_id,
            flags: context.flags(),
            tracestate: context.tracestate.clone(),
            parent: None,
            links: SmallVec::new(),
            start_unix_nanos: started.unix_nanos(),
            end_unix_nanos: started.unix_nanos(),
            attributes: Vec::with_capacity(ATTRIBUTES_USUAL),
            status: Status::Unset,
        }
    }

    /// Below a span of this process.
    pub fn below(self, parent: SpanId) -> Span {
        Span { parent: Some(Parent { span_id: parent, remote: false }), ..self }
    }

    /// Below a span of another process.
    pub fn below_remote(self, parent: SpanId) -> Span {
        Span { parent: Some(Parent { span_id: parent, remote: true }), ..self }
    }

    pub fn link(&mut self, link: impl Into<Link>) {
        self.links.push(link.into());
    }

    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        self.attributes.push((key, value.into()));
    }

    pub fn fail(&mut self, message: impl Into<Text>) {
        self.status = Status::Error(message.into());
    }

    /// It is recorded after all, though its context said otherwise.
    pub fn record(&mut self) {
        self.flags |= crate::context::SAMPLED;
    }

    pub fn end(&mut self, started: &Started) {
        self.end_unix_nanos = started.elapsed_unix_nanos();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_what_its_context_says() {
        let parent = TraceContext::root(true);
        let context = parent.child();
        let started = Started::now();
        let mut span = Span::new(&context, "GET /chat", Kind::Server, &started).below_remote(parent.span_id);
        span.link(&TraceContext::root(false));
        span.set("http.response.status_code", 101_u16);
        span.end(&started);
        assert_eq!((span.trace_id, span.span_id, span.flags), (parent.trace_id, context.span_id, 3));
        assert_eq!(span.parent, Some(Parent { span_id: parent.span_id, remote: true }));
        assert!(span.end_unix_nanos >= span.start_unix_nanos && span.start_unix_nanos > 1_700_000_000_000_000_000);
        assert_eq!(span.attributes, [("http.response.status_code", Value::Int(101))]);
        assert!(!span.links.spilled(), "one link needs no memory of its own");
    }

    #[test]
    fn own_texts_are_cut_between_letters() {
        let Text::Owned(text) = Text::from("é".repeat(TEXT_BYTES_MAX)) else { panic!("it is owned") };
        assert_eq!((text.len(), text.capacity()), (TEXT_BYTES_MAX, TEXT_BYTES_MAX));
        let Text::Owned(text) = Text::from(format!("x{}", "é".repeat(TEXT_BYTES_MAX))) else { panic!("it is owned") };
        assert_eq!(text.len(), TEXT_BYTES_MAX - 1);
        assert_eq!(Text::from(Arc::<str>::from("a")), Text::from("a"));
    }

    /// The queue's size is this by its length.
    #[test]
    fn a_span_is_small() {
        let size = std::mem::size_of::<Span>();
        assert!(size <= 256, "{size} bytes");
    }
}
