//! The sending side: brings changes to the keeper, and all wills anew when that is another one, or has lost some.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};
use wsgateway_cluster::{Channel, NodeId, PeerAddress, PeerError};

use super::fate::keeper_of;
use super::{Letter, Surroundings, Wills, FORGET, LEAVE};

/// Changes are gathered for so long: how late a keeper may be.
const GATHER: Duration = Duration::from_millis(50);
/// How often the keeper is looked at when nothing changes.
const LOOK: Duration = Duration::from_secs(1);
const DEADLINE: Duration = Duration::from_secs(3);
/// After a keeper could not be reached.
const PAUSE: Duration = Duration::from_secs(1);
/// Of one letter, about: what travels on that link besides is not held up.
const LETTER_BYTES: usize = 64 * 1024;
/// Keys that are looked up under one lock.
const KEYS_AT_ONCE: usize = 500;
/// A node that leaves has little time.
const FAREWELL_DEADLINE: Duration = Duration::from_secs(2);

impl Wills {
    /// Runs for as long as the node lives.
    pub async fn run(self: Arc<Self>, around: Surroundings) {
        let mut keeper = None;
        // Whether the keeper has everything up to here.
        let mut whole = false;
        let mut former = None;
        loop {
            // Either is a reason to look.
            let _waited = timeout(LOOK, self.changed.notified()).await;
            sleep(GATHER).await;
            // A keeper that has started anew knows nothing any more.
            let chosen = around.keeper();
            if chosen != keeper {
                former = former.or(keeper.map(|(node, _)| node));
                (keeper, whole) = (chosen, false);
                self.own().keeper = chosen.map(|(node, _)| node);
            }
            let Some((node, _)) = keeper else { continue };
            let sent = self.bring(&around, node, &mut whole).await;
            match (sent, former) {
                (Err(err), _) => {
                    let keeper = format!("{node:016x}");
                    tracing::debug!(keeper, "disconnect events are not safe with another node now: {err}");
                    sleep(PAUSE).await;
                }
                // Only now: until the new one has them, the former one's are better than none.
                (Ok(()), Some(other)) => {
                    former = None;
                    if other != node {
                        around.forget(other).await;
                    }
                }
                (Ok(()), None) => {}
            }
        }
    }

    async fn bring(&self, around: &Surroundings, keeper: NodeId, whole: &mut bool) -> Result<(), PeerError> {
        let (keys, all) = {
            let mut own = self.own();
            let all = std::mem::take(&mut own.anew) || !*whole;
            let changed = std::mem::take(&mut own.changed);
            // What changes from here on is brought the next time.
            if all {
                (own.wills.keys().copied().collect(), true)
            } else {
                (changed, false)
            }
        };
        *whole = false;
        if !keys.is_empty() || all {
            self.send(around, keeper, &keys, all).await?;
        }
        *whole = true;
        Ok(())
    }

    async fn send(&self, around: &Surroundings, keeper: NodeId, keys: &[u128], all: bool) -> Result<(), PeerError> {
        let mut letter = Letter { first: all, ..Letter::default() };
        let mut bytes = 0;
        for keys in keys.chunks(KEYS_AT_ONCE) {
            let states: Vec<_> = {
                let own = self.own();
                keys.iter().map(|key| (*key, own.wills.get(key).cloned())).collect()
            };
            for (key, will) in states {
                match will {
                    Some(will) => {
                        bytes += will.bytes();
                        letter.left.push(will);
                    }
                    None if all => {}
                    None => {
                        bytes += size_of::<u128>();
                        letter.taken_back.push(key);
                    }
                }
                if bytes >= LETTER_BYTES {
                    bytes = 0;
                    around.send(keeper, &mut letter).await?;
                }
            }
        }
        letter.last = all;
        if all || bytes > 0 {
            around.send(keeper, &mut letter).await?;
        }
        Ok(())
    }

    /// This node ends in order: its keeper forgets what it has told itself, and knows what it has not.
    pub async fn farewell(&self, around: &Surroundings) {
        let Some(keeper) = self.own().keeper else { return };
        let keys: Vec<u128> = self.own().wills.keys().copied().collect();
        let told = async {
            match keys.is_empty() {
                true => around.call(keeper, FORGET, around.own_life()).await,
                false => self.send(around, keeper, &keys, true).await,
            }
        };
        match timeout(FAREWELL_DEADLINE, told).await {
            Ok(Ok(())) => {}
            Ok(Err(err)) => tracing::warn!("disconnect events may be told twice, the node that keeps them: {err}"),
            Err(_) => tracing::warn!("disconnect events may be told twice, the node that keeps them does not answer"),
        }
    }
}

impl Surroundings {
    /// With the number of its life.
    fn keeper(&self) -> Option<(NodeId, u64)> {
        let gossip = self.gossip.borrow().clone();
        let keeper = keeper_of(self.node_id, &gossip, &(self.members)())?;
        Some((keeper, gossip.get(&keeper)?.generation))
    }

    fn own_life(&self) -> Bytes {
        Bytes::copy_from_slice(&self.generation.to_be_bytes())
    }

    pub(super) fn address(&self, node: NodeId) -> Option<PeerAddress> {
        let gossiped = self.gossip.borrow().get(&node).map(|peer| peer.facts.cluster_addr.clone());
        let addr = gossiped.filter(|addr| !addr.is_empty()).or_else(|| (self.members)().remove(&node))?;
        Some(PeerAddress { node_id: Some(node), addr })
    }

    async fn call(&self, node: NodeId, kind: u16, payload: Bytes) -> Result<(), PeerError> {
        let unknown = || PeerError::Unreachable {
            addr: format!("{node:016x}"),
            reason: "no address is known".to_owned(),
            sent: false,
        };
        let peer = self.address(node).ok_or_else(unknown)?;
        self.transport.call(&peer, Channel::Control, kind, payload, DEADLINE).await.map(|_| ())
    }

    async fn send(&self, keeper: NodeId, letter: &mut Letter) -> Result<(), PeerError> {
        letter.generation = self.generation;
        let payload = postcard::to_stdvec(letter).map_err(|err| PeerError::Remote(err.to_string()))?;
        *letter = Letter::default();
        self.call(keeper, LEAVE, payload.into()).await
    }

    /// Another node keeps them now. One that cannot be told is dead, or keeps what may be told twice.
    async fn forget(&self, former: NodeId) {
        if let Err(err) = self.call(former, FORGET, self.own_life()).await {
            tracing::debug!(keeper = format!("{former:016x}"), "a former keeper cannot be told: {err}");
        }
    }
}
