//! An endpoint as it stands now: the cell that holds its active version. Connections keep the cell, not the version, so
//! that a change is theirs from the next event on. Written by config, read by every room; imports its neighbours only.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};

use super::endpoint::CompiledEndpoint;
use super::throttle::Throttle;

/// One endpoint of this node.
#[derive(Debug)]
pub struct LiveEndpoint {
    id: Arc<str>,
    current: ArcSwap<CompiledEndpoint>,
    deleted: AtomicBool,
    /// Open connections on this node.
    pub connections: AtomicU64,
    /// What is used of its limits on this node.
    pub throttle: Arc<Throttle>,
}

impl LiveEndpoint {
    /// `now` is where its clock of limits begins.
    pub fn new(compiled: CompiledEndpoint, now: Instant) -> Arc<LiveEndpoint> {
        Arc::new(LiveEndpoint {
            id: compiled.id.clone(),
            current: ArcSwap::from_pointee(compiled),
            deleted: AtomicBool::new(false),
            connections: AtomicU64::new(0),
            throttle: Throttle::new(now),
        })
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// The active version; a short-lived borrow without a lock.
    pub fn current(&self) -> Guard<Arc<CompiledEndpoint>> {
        self.current.load()
    }

    /// The active version, to keep.
    pub fn current_owned(&self) -> Arc<CompiledEndpoint> {
        self.current.load_full()
    }

    pub fn replace(&self, compiled: CompiledEndpoint) {
        self.current.store(Arc::new(compiled));
    }

    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
    }
}
