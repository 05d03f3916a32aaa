//! The live set of endpoint documents: stored by Raft, compiled on each node, read by connections without a lock. What a
//! document is stands in the crate `wsgateway-config`, whose modules are at hand here.
//!
//! Called by the admin surface, the command line and app; imports model and the raft-store handle.

pub mod registry;
pub mod rollout;
pub mod store;

pub use wsgateway_config::{compile, diff, document, findings, secrets, source_text, unsupported, validate};
