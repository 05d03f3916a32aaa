//! What is to be said of a connection when its node dies before it can: the disconnect event, by another node. Each node
//! leaves the wills of its connections with one other node, its keeper, and takes them back as connections end; the keeper
//! of a node that is dead carries them out. Called by the inbound side (a connection begins, has ended) and by peers;
//! imports the cluster's floors and the vocabulary.
//!
//! ```text
//! inbound → Wills (this node's) → leave → peer link → keep (replicas) → fate (is it dead?) → Heirs → inbound of the keeper
//! ```
//!
//! Best effort, in these bounds: a node that dies together with its keeper, or within the moments in which a change is
//! under way, takes its wills with it or leaves one too many.

mod fate;
mod keep;
mod leave;

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::{watch, Notify};
use wsgateway_cluster::membership::Members;
use wsgateway_cluster::{NodeId, PeerTransport};

pub use keep::Keeper;

/// Request kinds, within `wsgateway_cluster::kinds::GATEWAY`. Part of the wire format: never renumber.
pub const KINDS: RangeInclusive<u16> = 150..=159;
const LEAVE: u16 = 150;
const FORGET: u16 = 151;

/// Connections that have begun or ended and are not with the keeper yet. Beyond it all wills are left anew.
const CHANGES_WAITING_MAX: usize = 50_000;

/// One connection's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Will {
    /// The random part of its id.
    pub key: u128,
    /// Id of its endpoint.
    pub endpoint: Arc<str>,
    pub connected_at_millis: u64,
    /// The connection description.
    pub description: Arc<str>,
}

impl Will {
    fn bytes(&self) -> usize {
        size_of::<Will>() + self.description.len()
    }
}

/// What a keeper is sent, piece by piece.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Letter {
    /// The life of the sender that these connections belong to.
    generation: u64,
    /// The first of letters that have everything.
    first: bool,
    /// The last of them: what was left before is void.
    last: bool,
    left: Vec<Will>,
    taken_back: Vec<u128>,
}

/// Carries out a will: tells the services that the connection is gone.
pub trait Heirs: Send + Sync {
    /// `false`: it could not be, since this node is about to end.
    fn carry_out(&self, will: Will) -> BoxFuture<'static, bool>;
}

/// The nodes, as this one sees them.
#[derive(Clone)]
pub struct Surroundings {
    pub node_id: NodeId,
    pub generation: u64,
    pub gossip: watch::Receiver<Arc<Members>>,
    /// Members of the cluster, with their addresses.
    pub members: Arc<dyn Fn() -> BTreeMap<NodeId, String> + Send + Sync>,
    /// Whether a node was removed from the cluster for good.
    pub is_removed: Arc<dyn Fn(NodeId) -> bool + Send + Sync>,
    pub transport: Arc<dyn PeerTransport>,
}

/// The wills of this node's connections. Never waits.
#[derive(Default)]
pub struct Wills {
    own: Mutex<Own>,
    changed: Notify,
}

#[derive(Default)]
struct Own {
    /// Of every connection that has begun, and of which not everybody has heard that it has ended.
    wills: HashMap<u128, Will>,
    /// Keys whose state the keeper does not know.
    changed: Vec<u128>,
    /// Too many of them: everything is left anew.
    anew: bool,
    keeper: Option<NodeId>,
}

impl Wills {
    pub fn leave(&self, will: Will) {
        let mut own = self.own();
        let key = will.key;
        own.wills.insert(key, will);
        self.note(own, key);
    }

    /// The connection has ended, and whoever wanted to has heard of it.
    pub fn take_back(&self, key: u128) {
        let mut own = self.own();
        own.wills.remove(&key);
        self.note(own, key);
    }

    pub fn has(&self, key: u128) -> bool {
        self.own().wills.contains_key(&key)
    }

    fn note(&self, mut own: MutexGuard<'_, Own>, key: u128) {
        if own.changed.len() < CHANGES_WAITING_MAX {
            own.changed.push(key);
        } else {
            own.changed = Vec::new();
            own.anew = true;
        }
        drop(own);
        self.changed.notify_one();
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
