//! The keeping side: replicas of other nodes' wills, and the watch over whether those nodes live.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::{ready, BoxFuture, FutureExt};
use futures::StreamExt;
use tokio::sync::Notify;
use tokio::time::sleep;
use wsgateway_cluster::{kinds, Channel, NodeId, PeerService};

use super::fate::{is_witness, known, Known};
use super::{Heirs, Letter, Surroundings, Will, FORGET, LEAVE};

/// Between two looks at the nodes whose wills are here.
const LOOK: Duration = Duration::from_secs(1);
/// A node that lives and can be reached answers at once.
const ASK_DEADLINE: Duration = Duration::from_secs(1);
/// Wills that are carried out at the same time. Each backend has its own bound; this many, so that one that hangs does not
/// hold up the others.
const CARRIED_OUT_AT_ONCE: usize = 512;
/// Of all wills here: some hundred thousand connections. What is beyond is not kept.
const KEPT_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Of one: a handshake with more is none of a usual client, and must not take the others' room.
const WILL_BYTES_MAX: usize = 16 * 1024;
/// Between two words in the log about wills that are not kept.
const WORDS_EVERY: Duration = Duration::from_secs(60);

/// The wills of one life of one node.
struct Replica {
    generation: u64,
    wills: HashMap<u128, Will>,
    /// What takes their place once it is whole.
    incoming: Option<HashMap<u128, Will>>,
}

/// Keeps the wills of other nodes.
pub struct Keeper {
    around: Surroundings,
    heirs: Arc<dyn Heirs>,
    kept: Mutex<Kept>,
    /// Something is due.
    due: Notify,
    /// Due or being carried out.
    owed: AtomicUsize,
    carried_out: AtomicU64,
}

#[derive(Default)]
struct Kept {
    replicas: HashMap<NodeId, Replica>,
    /// Of nodes that are dead.
    due: Vec<Will>,
    /// Of all of these, and of those that are being carried out.
    bytes: usize,
    refused: u64,
    refused_said: Option<Instant>,
}

impl Kept {
    fn take(&mut self, from: NodeId, letter: Letter) -> Result<(), String> {
        let known = self.replicas.get(&from).map(|replica| replica.generation);
        match known {
            Some(known) if known > letter.generation => return Err("of a life that is over".to_owned()),
            // It lives again: what it had before is gone.
            Some(known) if known < letter.generation => self.dies(from),
            _ => {}
        }
        let Kept { replicas, bytes, refused, .. } = self;
        if letter.first {
            let new = || Replica { generation: letter.generation, wills: HashMap::new(), incoming: None };
            let replica = replicas.entry(from).or_insert_with(new);
            let given_up = replica.incoming.replace(HashMap::new());
            *bytes -= given_up.iter().flat_map(HashMap::values).map(Will::bytes).sum::<usize>();
        }
        // A keeper that has started anew has to be told everything.
        let replica = replicas.get_mut(&from).ok_or("not known here: leave all of them anew")?;
        let wills = replica.incoming.as_mut().unwrap_or(&mut replica.wills);
        for will in letter.left {
            if *bytes + will.bytes() > KEPT_BYTES_MAX || will.bytes() > WILL_BYTES_MAX {
                *refused += 1;
                continue;
            }
            *bytes += will.bytes();
            if let Some(before) = wills.insert(will.key, will) {
                *bytes -= before.bytes();
            }
        }
        for key in letter.taken_back {
            if let Some(before) = wills.remove(&key) {
                *bytes -= before.bytes();
            }
        }
        if let Some(whole) = replica.incoming.take_if(|_| letter.last) {
            let before = std::mem::replace(&mut replica.wills, whole);
            *bytes -= before.values().map(Will::bytes).sum::<usize>();
        }
        Ok(())
    }

    /// That life has told of all its connections itself, or another keeper has them.
    fn forget(&mut self, node: NodeId, generation: u64) {
        if self.replicas.get(&node).is_some_and(|replica| replica.generation == generation) {
            let Some(Replica { wills, incoming, .. }) = self.replicas.remove(&node) else { return };
            let incoming = incoming.unwrap_or_default();
            self.bytes -= wills.values().chain(incoming.values()).map(Will::bytes).sum::<usize>();
        }
    }

    fn dies(&mut self, node: NodeId) {
        let Some(Replica { mut wills, incoming, .. }) = self.replicas.remove(&node) else { return };
        // Not whole, but newer.
        for will in incoming.into_iter().flat_map(HashMap::into_values) {
            if let Some(before) = wills.insert(will.key, will) {
                self.bytes -= before.bytes();
            }
        }
        self.due.extend(wills.into_values());
    }

    /// The node's life with this number, no later one, is over.
    fn dies_of(&mut self, node: NodeId, generation: u64) -> usize {
        let waiting = self.due.len();
        if self.replicas.get(&node).is_some_and(|replica| replica.generation == generation) {
            self.dies(node);
        }
        self.due.len() - waiting
    }

    /// How many were not kept, now and then.
    fn word_of_refusals(&mut self) -> Option<u64> {
        let due = self.refused_said.is_none_or(|said| said.elapsed() >= WORDS_EVERY);
        if self.refused == 0 || !due {
            return None;
        }
        self.refused_said = Some(Instant::now());
        Some(std::mem::take(&mut self.refused))
    }
}

impl Keeper {
    pub fn new(around: Surroundings, heirs: Arc<dyn Heirs>) -> Arc<Keeper> {
        Arc::new(Keeper {
            around,
            heirs,
            kept: Mutex::default(),
            due: Notify::new(),
            owed: AtomicUsize::new(0),
            carried_out: AtomicU64::new(0),
        })
    }

    /// Wills that are here for other nodes' connections.
    pub fn kept(&self) -> usize {
        self.kept_now().replicas.values().map(|replica| replica.wills.len()).sum()
    }

    /// Wills of dead nodes that are not carried out yet.
    pub fn owed(&self) -> usize {
        self.owed.load(Ordering::Relaxed) + self.kept_now().due.len()
    }

    /// Wills that were carried out.
    pub fn carried_out(&self) -> u64 {
        self.carried_out.load(Ordering::Relaxed)
    }

    fn kept_now(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs for as long as the node lives.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(self.watch(), self.carry_out());
    }

    async fn watch(&self) {
        loop {
            self.look().await;
            if let Some(refused) = self.kept_now().word_of_refusals() {
                tracing::warn!(
                    refused,
                    "disconnect events of other nodes' connections are not kept here: no room, or too large"
                );
            }
            sleep(LOOK).await;
        }
    }

    /// Apart from the watch: services that are slow, or hang, do not keep it from noticing the next death.
    async fn carry_out(&self) {
        loop {
            self.due.notified().await;
            let due = {
                let mut kept = self.kept_now();
                self.owed.fetch_add(kept.due.len(), Ordering::Relaxed);
                std::mem::take(&mut kept.due)
            };
            if due.is_empty() {
                continue;
            }
            tracing::info!(connections = due.len(), "telling services of the connections of a node that is dead");
            let carried_out = futures::stream::iter(due).for_each_concurrent(CARRIED_OUT_AT_ONCE, |will| async {
                let bytes = will.bytes();
                if self.heirs.carry_out(will).await {
                    self.carried_out.fetch_add(1, Ordering::Relaxed);
                }
                self.owed.fetch_sub(1, Ordering::Relaxed);
                self.kept_now().bytes -= bytes;
            });
            carried_out.await;
        }
    }

    async fn look(&self) {
        let lives: Vec<(NodeId, u64)> =
            self.kept_now().replicas.iter().map(|(node, replica)| (*node, replica.generation)).collect();
        for (node, generation) in lives {
            let gossip = self.around.gossip.borrow().clone();
            let dead = match known(node, generation, &gossip, (self.around.is_removed)(node)) {
                Known::Lives => false,
                Known::Dead => true,
                Known::Silent => self.is_absent(node).await,
            };
            if dead {
                let due = self.kept_now().dies_of(node, generation);
                tracing::warn!(node = format!("{node:016x}"), connections = due, "a node is dead");
                self.due.notify_one();
            }
        }
    }

    async fn is_absent(&self, node: NodeId) -> bool {
        let Some(peer) = self.around.address(node) else { return false };
        let asked = self.around.transport.call(&peer, Channel::Control, kinds::PING, Bytes::new(), ASK_DEADLINE).await;
        is_witness(&asked)
    }
}

impl PeerService for Keeper {
    fn handle(&self, from: NodeId, kind: u16, payload: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let answer = match kind {
            LEAVE => match postcard::from_bytes::<Letter>(&payload) {
                Ok(letter) => self.kept_now().take(from, letter).map(|()| Bytes::new()),
                Err(err) => Err(err.to_string()),
            },
            FORGET => match payload.as_ref().try_into().map(u64::from_be_bytes) {
                Ok(generation) => {
                    self.kept_now().forget(from, generation);
                    Ok(Bytes::new())
                }
                Err(_) => Err("which life?".to_owned()),
            },
            unknown => Err(format!("kind {unknown} is not known to this version of the gateway")),
        };
        if !self.kept_now().due.is_empty() {
            self.due.notify_one();
        }
        ready(answer).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn will(key: u128) -> Will {
        Will { key, endpoint: "ep-1".into(), connected_at_millis: 1, description: "{}".into() }
    }

    fn letter(generation: u64, whole: bool, left: &[u128], taken_back: &[u128]) -> Letter {
        let left = left.iter().copied().map(will).collect();
        Letter { generation, first: whole, last: whole, left, taken_back: taken_back.to_vec() }
    }

    fn keys(kept: &Kept, node: NodeId) -> Vec<u128> {
        let mut keys: Vec<u128> =
            kept.replicas.get(&node).into_iter().flat_map(|it| it.wills.keys().copied()).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn wills_are_left_taken_back_and_left_anew() {
        let mut kept = Kept::default();
        kept.take(7, letter(1, false, &[1], &[])).unwrap_err();
        kept.take(7, letter(1, true, &[1, 2], &[])).unwrap();
        kept.take(7, letter(1, false, &[3, 3, 4], &[1, 4, 9])).unwrap();
        assert_eq!(keys(&kept, 7), [2, 3]);
        kept.take(8, letter(5, true, &[2], &[])).unwrap();
        kept.take(7, letter(1, true, &[6], &[])).unwrap();
        assert_eq!((keys(&kept, 7), keys(&kept, 8)), (vec![6], vec![2]));
        assert_eq!(kept.bytes, 2 * will(1).bytes());
        kept.forget(7, 2);
        assert_eq!(keys(&kept, 7), [6], "that is another life");
        kept.forget(7, 1);
        kept.forget(8, 5);
        assert_eq!((kept.bytes, kept.due.len()), (0, 0));
    }

    #[test]
    fn what_was_left_holds_until_the_new_is_whole() {
        let mut kept = Kept::default();
        kept.take(7, letter(1, true, &[1, 2], &[])).unwrap();
        kept.take(7, Letter { first: true, ..letter(1, false, &[2, 3], &[]) }).unwrap();
        assert_eq!(keys(&kept, 7), [1, 2]);
        // Begun again, since the second letter was lost.
        kept.take(7, Letter { first: true, ..letter(1, false, &[2, 3], &[]) }).unwrap();
        kept.take(7, Letter { last: true, ..letter(1, false, &[4], &[]) }).unwrap();
        assert_eq!((keys(&kept, 7), kept.bytes), (vec![2, 3, 4], 3 * will(1).bytes()));
        kept.take(7, Letter { first: true, ..letter(1, false, &[4, 5], &[]) }).unwrap();
        assert_eq!(kept.dies_of(7, 1), 4, "both, each once");
        assert_eq!(kept.bytes, 4 * will(1).bytes(), "until they are carried out");
    }

    #[test]
    fn a_life_that_is_over_is_told_of_once() {
        let mut kept = Kept::default();
        kept.take(7, letter(1, true, &[1, 2], &[])).unwrap();
        assert_eq!(kept.dies_of(7, 2), 0, "that is another life");
        kept.take(7, letter(2, true, &[3], &[])).unwrap();
        assert_eq!(kept.due.len(), 2, "it has started anew");
        kept.take(7, letter(1, true, &[9], &[])).unwrap_err();
        assert_eq!(keys(&kept, 7), [3]);
        assert_eq!((kept.dies_of(7, 1), kept.dies_of(7, 2), kept.dies_of(7, 2)), (0, 1, 0));
        kept.take(7, letter(2, false, &[4], &[])).unwrap_err();
    }

    #[test]
    fn what_is_too_much_is_not_kept_and_the_rest_is() {
        let mut kept = Kept::default();
        let large = |key| Will { description: "x".repeat(WILL_BYTES_MAX).into(), ..will(key) };
        kept.take(7, Letter { left: vec![will(1), large(2), will(3)], ..letter(1, true, &[], &[]) }).unwrap();
        assert_eq!((keys(&kept, 7), kept.refused), (vec![1, 3], 1));
        kept.bytes = KEPT_BYTES_MAX - will(1).bytes();
        kept.take(8, letter(1, true, &[1, 2, 3], &[])).unwrap();
        assert_eq!((keys(&kept, 8), kept.refused), (vec![1], 3));
        assert_eq!((kept.word_of_refusals(), kept.word_of_refusals()), (Some(3), None));
    }
}
