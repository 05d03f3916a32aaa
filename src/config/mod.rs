//! Endpoint documents: their shape, whether they are sound, what they compile to, and the live set of them.
//!
//! Called by the front doors, the command line and the wiring; imports model and the raft-store's handle.

pub mod compile;
pub mod document;
mod document_backend;
pub mod registry;
pub mod secrets;
pub mod store;
pub mod validate;
