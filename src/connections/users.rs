//! The connections of each user on this node, so that a message for a user need not look at every connection. Kept by hub;
//! a connection without a user costs nothing here.

use std::collections::hash_map::RandomState;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, PoisonError, RwLock};

use super::hub::OutletMap;
use super::outlet::Outlet;

/// Enough that users who come and go seldom meet.
const SHARDS: usize = 64;

/// By user, of all endpoints.
pub(super) struct Users {
    // Users are chosen by clients and their services: hashes must not be foreseeable.
    hasher: RandomState,
    shards: Vec<RwLock<HashMap<String, OutletMap>>>,
}

impl Default for Users {
    fn default() -> Users {
        Users { hasher: RandomState::new(), shards: (0..SHARDS).map(|_| RwLock::default()).collect() }
    }
}

impl Users {
    fn shard(&self, user: &str) -> &RwLock<HashMap<String, OutletMap>> {
        &self.shards[self.hasher.hash_one(user) as usize % SHARDS]
    }

    pub fn insert(&self, user: &str, key: u128, outlet: &Arc<Outlet>) {
        let mut shard = self.shard(user).write().unwrap_or_else(PoisonError::into_inner);
        match shard.get_mut(user) {
            Some(outlets) => drop(outlets.insert(key, outlet.clone())),
            None => drop(shard.insert(user.to_owned(), OutletMap::from_iter([(key, outlet.clone())]))),
        }
    }

    pub fn remove(&self, user: &str, key: u128) {
        let mut shard = self.shard(user).write().unwrap_or_else(PoisonError::into_inner);
        if let Some(outlets) = shard.get_mut(user) {
            outlets.remove(&key);
            if outlets.is_empty() {
                shard.remove(user);
            }
        }
    }

    /// What `look` makes of the user's connections. A shard's lock is held meanwhile: no writing to sockets.
    pub fn with_outlets<T: Default>(&self, user: &str, look: impl FnOnce(&OutletMap) -> T) -> T {
        let shard = self.shard(user).read().unwrap_or_else(PoisonError::into_inner);
        shard.get(user).map(look).unwrap_or_default()
    }
}
