//! Endpoint documents: their shape, whether they are sound, what they compile to (all pure), and the live set of them.
//!
//! Called by the admin surface, the command line and the registry; imports model and the raft-store handle.

pub mod compile;
pub mod diff;
pub mod document;
mod document_backend;
mod document_source;
pub mod findings;
pub mod registry;
pub mod rollout;
pub mod secrets;
pub mod source_text;
pub mod store;
pub mod unsupported;
pub mod validate;
mod yaml;
