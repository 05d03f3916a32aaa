//! Distributed tracing for the gateway, without an SDK: W3C trace context, a decision per trace, plain spans and what they are
//! in OpenTelemetry's protocol. Knows nothing of the gateway; no global state.

pub mod context;
pub mod encode;
pub mod sampler;
pub mod settings;
pub mod span;
pub mod tracestate;
pub mod wire;

pub use context::{SpanId, TraceContext, TraceId};
pub use encode::Node;
pub use settings::{SettingsError, TracingSettings};
pub use span::{Kind, Link, Span, Started, Text, Value};
