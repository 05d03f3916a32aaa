//! Logs and metrics. May be used by every room; imports none of them.

pub mod logs;
pub mod metrics;

pub use metrics::Metrics;
