//! The connections of each user, and of each group, on this node, so that a message for one need not look at every
//! connection. Kept by hub; a connection without user and groups costs nothing here.

use std::collections::hash_map::RandomState;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, PoisonError, RwLock};

use super::hub::OutletMap;
use super::outlet::Outlet;

/// Enough that names that come and go seldom meet.
const NAME_SHARDS: usize = 64;
/// A name's connections lie in so many parts: a lock is held for one of them only, however many connections there are, and
/// a look at all of a small one's is short.
const CONNECTION_SHARDS: usize = 16;

/// What decides where an entry lies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// All of a name's connections in one place: names with few connections each.
    Name,
    /// They are spread: names with many connections each.
    Connection,
}

/// By name, of all endpoints.
pub(super) struct Index {
    by: By,
    // Names are chosen by clients and their services: hashes must not be foreseeable.
    hasher: RandomState,
    shards: Vec<RwLock<HashMap<String, OutletMap>>>,
}

impl Index {
    fn new(by: By, shards: usize) -> Index {
        Index { by, hasher: RandomState::new(), shards: (0..shards).map(|_| RwLock::default()).collect() }
    }

    pub fn of_users() -> Index {
        Index::new(By::Name, NAME_SHARDS)
    }

    pub fn of_groups() -> Index {
        Index::new(By::Connection, CONNECTION_SHARDS)
    }

    fn shard(&self, name: &str, key: u128) -> &RwLock<HashMap<String, OutletMap>> {
        let place = match self.by {
            By::Name => self.hasher.hash_one(name),
            By::Connection => key as u64,
        };
        &self.shards[place as usize % self.shards.len()]
    }

    pub fn insert(&self, name: &str, key: u128, outlet: &Arc<Outlet>) {
        let mut shard = self.shard(name, key).write().unwrap_or_else(PoisonError::into_inner);
        match shard.get_mut(name) {
            Some(outlets) => drop(outlets.insert(key, outlet.clone())),
            None => drop(shard.insert(name.to_owned(), OutletMap::from_iter([(key, outlet.clone())]))),
        }
    }

    pub fn remove(&self, name: &str, key: u128) {
        let mut shard = self.shard(name, key).write().unwrap_or_else(PoisonError::into_inner);
        if let Some(outlets) = shard.get_mut(name) {
            outlets.remove(&key);
            if outlets.is_empty() {
                shard.remove(name);
            }
        }
    }

    /// Shows the name's connections, perhaps in parts. A shard's lock is held meanwhile: no writing to sockets.
    pub fn with_outlets(&self, name: &str, mut look: impl FnMut(&OutletMap)) {
        let mut look_into = |shard: &RwLock<HashMap<String, OutletMap>>| {
            if let Some(outlets) = shard.read().unwrap_or_else(PoisonError::into_inner).get(name) {
                look(outlets);
            }
        };
        match self.by {
            By::Name => look_into(self.shard(name, 0)),
            By::Connection => self.shards.iter().for_each(look_into),
        }
    }
}
