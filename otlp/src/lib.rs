//! Distributed tracing for the gateway, without an SDK: W3C trace context, and a decision per trace. Knows nothing of the
//! gateway; no global state.

pub mod context;
pub mod sampler;
pub mod tracestate;

pub use context::{SpanId, TraceContext, TraceId};
