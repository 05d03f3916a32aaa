//! One message for many connections of this node: who gets it, and the writing. A frame is encoded once and shared; many
//! receivers are written by several threads that carry no connections, so that no worker is held up. Part of the hub;
//! called through it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use futures::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::hub::{Hub, OutletMap, Overloaded};
use super::outbox::{frame, Opcode};
use super::outlet::Outlet;
use crate::model::connection_filter::ConnectionFilter;
use crate::model::delivery::{Recipients, Selection, Tally};
use crate::model::expression::RouteScratch;

/// So few are written by the thread that asks: less work than waking another.
const WRITTEN_AT_ONCE_MAX: usize = 16;
/// A thread is worth waking for so many.
const OF_A_THREAD_MIN: usize = 128;
/// Messages for many that wait or are being written, and lists that are being made, by node; more are answered 503. Each holds a list of its receivers.
const UNDER_WAY_MAX: usize = 256;

/// What bounds the fan-outs of a node.
pub(super) struct FanOuts {
    under_way: AtomicUsize,
    /// One for each thread that may write at once.
    threads: Arc<Semaphore>,
    threads_count: usize,
}

impl Default for FanOuts {
    fn default() -> FanOuts {
        let threads_count = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        FanOuts { under_way: AtomicUsize::new(0), threads: Arc::new(Semaphore::new(threads_count)), threads_count }
    }
}

impl FanOuts {
    /// One more, if there may be one.
    pub fn begin(&self) -> Result<UnderWay<'_>, Overloaded> {
        let under_way = UnderWay(&self.under_way);
        match self.under_way.fetch_add(1, Ordering::Relaxed) < UNDER_WAY_MAX {
            true => Ok(under_way),
            false => Err(Overloaded),
        }
    }

    /// Leave to use one of the threads, while it is held.
    pub async fn thread(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        self.threads.clone().acquire_owned().await.ok()
    }
}

/// Counts one while it lasts.
pub(super) struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A message, and whom of those it is shown to it is for.
struct Message {
    payload: Bytes,
    frame: Bytes,
    filter: Option<ConnectionFilter>,
}

impl Message {
    fn deliver(&self, outlets: &[Arc<Outlet>]) -> Tally {
        let mut tally = Tally::default();
        let mut scratch = RouteScratch::default();
        for outlet in outlets {
            let meant = self.filter.as_ref().is_none_or(|filter| outlet.fulfils(filter, &mut scratch));
            if meant {
                tally.count(&outlet.deliver_shared(&self.payload, &self.frame));
            }
        }
        tally
    }
}

impl Hub {
    /// Sends a message to several connections. Its frame is shared by all whose endpoint has no outbound template. No lock
    /// is held while a socket is written.
    pub async fn push_many(
        &self,
        selection: &Selection,
        filter: Option<ConnectionFilter>,
        payload: Bytes,
    ) -> Result<Tally, Overloaded> {
        let under_way = self.fan_outs.begin()?;
        let receivers = self.receivers(selection);
        let message = Message { frame: frame(Opcode::Text, &payload), payload, filter };
        let few = receivers.len() <= WRITTEN_AT_ONCE_MAX && message.filter.is_none();
        if few && !receivers.iter().any(|outlet| outlet.transforms()) {
            return Ok(message.deliver(&receivers));
        }
        let tally = self.spread(Arc::new(message), receivers).await;
        drop(under_way);
        Ok(tally)
    }

    async fn spread(&self, message: Arc<Message>, mut receivers: Vec<Arc<Outlet>>) -> Tally {
        let of_a_thread = receivers.len().div_ceil(self.fan_outs.threads_count).max(OF_A_THREAD_MIN);
        let mut writing = Vec::new();
        while !receivers.is_empty() {
            let part = receivers.split_off(receivers.len().saturating_sub(of_a_thread));
            let message = message.clone();
            writing.push(async move {
                let permit = self.fan_outs.thread().await;
                tokio::task::spawn_blocking(move || {
                    let _while_it_writes = permit;
                    message.deliver(&part)
                })
                .await
            });
        }
        let mut tally = Tally::default();
        for written in join_all(writing).await {
            match written {
                Ok(part) => tally.add(&part),
                Err(err) => tracing::error!("a message for many did not reach some: {err}"),
            }
        }
        tally
    }

    /// Those whom a message may be for; its filter has not been asked.
    pub(super) fn receivers(&self, selection: &Selection) -> Vec<Arc<Outlet>> {
        let mut receivers = Vec::new();
        let mut collect = |outlets: &OutletMap| {
            let concerned = |outlet: &&Arc<Outlet>| match &selection.endpoint {
                Some(endpoint) => outlet.endpoint_id() == endpoint,
                None => true,
            };
            receivers.extend(outlets.values().filter(concerned).cloned());
        };
        match &selection.to {
            Recipients::User(user) => self.users.with_outlets(user, collect),
            Recipients::Group(group) => self.groups.with_outlets(group, collect),
            Recipients::All => {
                for shard in &self.outlets {
                    collect(&shard.read().unwrap_or_else(PoisonError::into_inner));
                }
            }
        }
        receivers
    }
}
