//! Gossip's datagrams between nodes that share a secret: sealed on their way out, refused on their way in unless they
//! open and are new. Started by `membership`, which owns what the datagrams say; the counters are read by the gateway.
//! Imports nothing of this crate. `seal` and `replay` are pure, `socket` and `codec` do the IO.
//!
//! ```text
//! chitchat ─ message ─► codec ─ bytes ─► seal ─ datagram ─► UDP
//!          ◄─ message ─ codec ◄─ bytes ─ open ◄─ datagram ─ UDP
//!                                         └─ refusals: counted by reason, logged now and then
//! ```

mod codec;
mod refusals;
mod replay;
mod seal;
mod socket;

pub use refusals::{Refusal, Refusals};
pub(crate) use socket::SealedTransport;
