//! The way of a client's events, in file order: `upgrade → authenticate → (connections) → client_events → decode →
//! (model's expressions) → dispatch → (backends) → reply`. A front door: imports connections, backends, config and
//! model; never the admin side.

mod authenticate;
mod client_events;
mod decode;
mod describe;
mod dispatch;
mod reply;
pub mod runtime;
pub mod upgrade;

pub use runtime::InboundWorker;
