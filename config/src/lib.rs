//! Endpoint documents: their shape, whether they are sound, what they compile to. Pure, but for the files and variables
//! that secrets refer to.
//!
//! Called by the gateway's room `config`, which keeps the live set of them; imports the model.

pub mod compile;
pub mod diff;
pub mod document;
mod document_backend;
mod document_source;
pub mod findings;
pub mod secrets;
pub mod source_text;
pub mod unsupported;
pub mod validate;
mod yaml;
