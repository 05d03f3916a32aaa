//! Endpoint documents: their shape, whether they are sound, and what they compile to. All pure.
//!
//! Called by the admin surface, the command line and the registry; imports model only.

pub mod compile;
pub mod document;
mod document_backend;
pub mod findings;
pub mod secrets;
pub mod unsupported;
pub mod validate;
