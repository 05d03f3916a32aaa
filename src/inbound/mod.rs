//! The way of a client's events, in file order: `upgrade → authenticate → (connections) → client_events → decode →
//! (model's expressions) → dispatch → (backends) → reply`. A front door: imports authentication, connections,
//! backends, config and model; never the admin side. What of this room is pure – decode,
//! describe, transform, reply – also serves `explain`, which so cannot say anything else than what happens.

mod authenticate;
mod client_address;
mod client_events;
mod credential;
pub(crate) mod dead_letter;
pub(crate) mod decode;
pub(crate) mod describe;
mod dispatch;
pub mod replay;
pub(crate) mod reply;
pub mod runtime;
mod throttle;
pub(crate) mod transform;
pub mod upgrade;

pub use runtime::InboundWorker;
