//! Clients' sockets: the driver, the actor, the frame guard, the outbox, the supervisors and the hub that finds a
//! connection. The only room that imports actix-web-actors, so that the transport can change without touching the rest.
//! Called by inbound (upgrades) and push (deliveries); imports `model` and `close_code` only.

mod confirmations;
pub mod connection;
mod fan_out;
pub mod frame_guard;
pub mod hub;
mod index;
mod labels;
mod ledger;
mod offered;
pub mod outbox;
pub mod outlet;
mod query;
mod receipts;
mod remembered;
mod resume;
pub mod session;
pub mod session_state;
mod socket;
pub mod supervisor;
mod tell;
mod watch;

pub use connection::{Connection, Facts, Opening};
pub use hub::{Hub, Overloaded, Worker};
pub use ledger::Budget;
pub use outbox::Opcode;
pub use outlet::OutletCounters;
pub use session::ClientEvents;
pub use supervisor::Supervisors;
