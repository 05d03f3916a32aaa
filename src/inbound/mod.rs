//! The way of a client's events, in file order: `arrive → upgrade → authenticate → (connections) → client_events → (model's
//! decode, expressions, transform) → dispatch → (backends) → (model's reply)`. A front door: imports authentication,
//! listener, connections, backends, config and model; never the admin side. What of this room is pure – describe – also serves
//! `explain`, as the model does, which so cannot say anything else than what happens.

pub mod arrive;
mod authenticate;
pub mod bereaved;
mod client_address;
mod client_events;
mod credential;
pub(crate) mod dead_letter;
pub(crate) mod describe;
mod dispatch;
mod own_events;
mod refresh;
mod refusal;
pub mod replay;
pub mod resume;
pub mod runtime;
mod tell;
mod throttle;
mod trace;
mod upgrade;

pub use client_address::Caller;
pub use runtime::InboundWorker;
