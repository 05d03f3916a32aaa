//! What an endpoint *is*, once compiled, and what is made of an event: plain types and pure functions, no IO, no clock,
//! no runtime.
//!
//! Every room of the gateway may import this crate; it imports none of them.

pub mod ack;
pub mod authentication;
pub mod close_code;
pub mod coalesce;
pub mod connection_filter;
pub mod connection_id;
pub mod connection_query;
pub mod dead_letter;
pub mod decode;
pub mod delivery;
pub mod delivery_policy;
pub mod description;
pub mod egress;
pub mod endpoint;
pub mod event;
pub mod event_schema;
pub mod expression;
pub mod filters;
pub mod gcra;
pub mod identities;
pub mod json_check;
pub mod json_path;
pub mod kafka;
pub mod limits;
pub mod live_endpoint;
pub mod ordering;
pub mod outbound;
pub mod projection;
pub mod proxies;
pub mod receipt;
pub mod redaction;
pub mod reply;
pub mod resume;
pub mod secret;
pub mod shares;
pub mod signing;
pub mod source;
pub mod template;
pub mod throttle;
pub mod throttling;
pub mod timestamp;
pub mod transform;
pub mod url_template;
