//! Distributed tracing for the gateway, without an SDK: W3C trace context, a decision per trace, plain spans in a bounded queue,
//! and their way to an OpenTelemetry collector (OTLP over HTTP, protobuf). Knows nothing of the gateway; no global state.
//!
//! A node makes one [`Tracer`] with [`Tracer::start`] and hands clones to whatever traces something. Reading order:
//! `context → tracestate → sampler → span → tracer → batch → encode → wire → export → connect → complaints`; `settings` is what
//! an operator says. What it costs: `cargo run --release -p wsgateway-otlp --example cost`.

mod batch;
mod complaints;
mod connect;
pub mod context;
mod encode;
mod export;
pub mod sampler;
pub mod settings;
pub mod span;
mod tracer;
pub mod tracestate;
pub mod wire;

pub use batch::{Counters, Exporting};
pub use context::{SpanId, TraceContext, TraceId};
pub use encode::Node;
pub use export::Pace;
pub use settings::{SettingsError, TracingSettings};
pub use span::{Kind, Link, Span, Started, Text, Value};
pub use tracer::Tracer;
