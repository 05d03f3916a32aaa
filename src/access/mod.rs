//! Who may do what, and who did: roles, tokens that are replicated as hashes, the audit log. Called by the admin side and
//! by `app`; imports the cluster's floors only. Reading order: `role → guesses → tokens → audit`.

pub mod audit;
mod guesses;
pub mod role;
pub mod tokens;

pub use role::Role;
pub use tokens::{Caller, Tokens};
