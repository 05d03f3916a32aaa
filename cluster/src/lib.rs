//! Who is here and how to talk to them: node identity, gossip membership and authenticated peer links. The lowest
//! floor: imports no other crate of this workspace. The only place that imports chitchat.

pub mod bootstrap;
pub mod gossip;
pub mod identity;
pub mod membership;
pub mod memory;
mod spacing;
pub mod stream;
pub mod tcp;
pub mod transport;

pub use identity::{ClusterId, Identity, NodeId};
pub use transport::{kinds, Channel, PeerAddress, PeerError, PeerService, PeerTransport, Services, TunnelService};
