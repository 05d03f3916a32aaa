//! Clients' sockets: the driver, the actor, the frame guard, the outbox, the supervisors and the hub that finds a
//! connection. The only room that imports actix-web-actors, so that the transport can change without touching the rest.
//! Called by inbound (upgrades) and push (deliveries); imports `model` and `close_code` only.

pub mod connection;
pub mod frame_guard;
pub mod hub;
pub mod outbox;
pub mod outlet;
pub mod session;
pub mod session_state;
mod socket;
pub mod supervisor;
mod users;

pub use connection::{Connection, Facts, Opening};
pub use hub::{Hub, Overloaded, Worker};
pub use outbox::Opcode;
pub use session::ClientEvents;
pub use supervisor::Supervisors;
