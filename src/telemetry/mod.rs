//! Logs, metrics, what figures were before, and what passes just now. May be used by every room; imports none of them.

pub mod catalogue;
pub mod configured;
pub mod history;
pub mod latency;
pub mod logs;
pub mod metrics;
pub mod rates;
pub mod readable;
pub mod tail;
pub mod traces;

pub use metrics::Metrics;
