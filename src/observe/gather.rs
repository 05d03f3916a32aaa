//! Asks every node, and puts together what they say. Who cannot be asked is named, never left out in silence.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use wsgateway_cluster::membership::{self, Members};
use wsgateway_cluster::{Channel, NodeId, PeerAddress, PeerTransport};

use super::peers::{encode, StatsRequest, TailRequest, TrafficRequest, TAIL_WAIT_MAX};
use super::{kinds, NodeStats, NodeTraffic, Own};
use crate::telemetry::history::Range;
use crate::telemetry::tail::{Batch, Wanted};

/// A node looks its figures up in memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Before a node that could not be asked is asked again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How often the set of nodes is looked at.
const NODES_INTERVAL: Duration = Duration::from_secs(2);

/// Cluster addresses of Raft's members, by node.
pub type MemberAddresses = Box<dyn Fn() -> BTreeMap<u64, String> + Send + Sync>;

/// What one node says, or why it does not.
#[derive(Clone, Debug)]
pub struct Heard<T> {
    pub node_id: NodeId,
    /// Its name; its id as long as nothing else is known.
    pub name: String,
    pub said: Result<T, String>,
}

/// What a watcher hears of one node.
pub type Tailed = Heard<Batch>;

/// Looks at the whole cluster.
pub struct Observer {
    own: Arc<Own>,
    transport: Arc<dyn PeerTransport>,
    gossip: watch::Receiver<Arc<Members>>,
    members: MemberAddresses,
}

impl Observer {
    pub fn new(
        own: Arc<Own>,
        transport: Arc<dyn PeerTransport>,
        gossip: watch::Receiver<Arc<Members>>,
        members: MemberAddresses,
    ) -> Arc<Observer> {
        Arc::new(Observer { own, transport, gossip, members })
    }

    fn me(&self) -> NodeId {
        self.own.around.node_id
    }

    fn peers(&self) -> Vec<PeerAddress> {
        membership::peers_of(self.me(), &self.gossip.borrow(), (self.members)())
    }

    /// All that are asked, this one included.
    pub fn node_ids(&self) -> Vec<NodeId> {
        let peers = self.peers().into_iter().filter_map(|peer| peer.node_id);
        peers.chain([self.me()]).collect()
    }

    fn heard<T>(&self, node_id: NodeId, said: Result<T, String>) -> Heard<T> {
        Heard { node_id, name: membership::name_of(node_id, &self.gossip.borrow()), said }
    }

    /// Figures of steps that began at `since` (Unix seconds) or later, by node.
    pub async fn stats(&self, range: Range, since: u64) -> Vec<Heard<NodeStats>> {
        let here = self.own.stats(range, since);
        self.ask_all(kinds::STATS, encode(&StatsRequest { range, since }), here).await
    }

    /// What goes through every node now; of one endpoint if one is named.
    pub async fn traffic(&self, endpoint: Option<&str>) -> Vec<Heard<NodeTraffic>> {
        let here = self.own.traffic(endpoint);
        let request = TrafficRequest { endpoint: endpoint.map(str::to_owned) };
        self.ask_all(kinds::TRAFFIC, encode(&request), here).await
    }

    async fn ask_all<T: DeserializeOwned>(&self, kind: u16, request: Result<Bytes, String>, here: T) -> Vec<Heard<T>> {
        let peers = self.peers();
        let asked = peers.iter().map(|peer| async {
            let request = request.clone()?;
            self.ask(peer, kind, request, ANSWER_WITHIN).await
        });
        let answers = join_all(asked).await;
        let mut heard = vec![self.heard(self.me(), Ok(here))];
        heard.extend(peers.iter().zip(answers).map(|(peer, said)| self.heard(peer.node_id.unwrap_or_default(), said)));
        heard.sort_by(|a, b| (&a.name, a.node_id).cmp(&(&b.name, b.node_id)));
        heard
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        peer: &PeerAddress,
        kind: u16,
        request: Bytes,
        within: Duration,
    ) -> Result<T, String> {
        let answer = self.transport.call(peer, Channel::Control, kind, request, within).await;
        let answer = answer.map_err(|err| err.to_string())?;
        postcard::from_bytes(&answer).map_err(|err| format!("its answer was not understood: {err}"))
    }

    /// Watches what passes on every node, those that come later included, until nobody receives any more.
    pub fn tail(self: &Arc<Self>, wanted: &Wanted, told: mpsc::Sender<Tailed>) {
        let (observer, wanted, watch) = (self.clone(), wanted.clone(), rand::random());
        tokio::spawn(async move {
            let mut watched = BTreeMap::<NodeId, (Option<PeerAddress>, tokio::task::JoinHandle<()>)>::new();
            let mut ticks = tokio::time::interval(NODES_INTERVAL);
            while !told.is_closed() {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = told.closed() => break,
                }
                let mut peers: Vec<Option<PeerAddress>> = observer.peers().into_iter().map(Some).collect();
                peers.push(None);
                let id = |peer: &Option<PeerAddress>| {
                    peer.as_ref().map_or(observer.me(), |peer| peer.node_id.unwrap_or_default())
                };
                // A node that is gone for good, one that is elsewhere now, or whose task has ended, which only a panic does.
                watched.retain(|node, (known, task)| {
                    let stays = peers.iter().any(|peer| id(peer) == *node && peer == known) && !task.is_finished();
                    if !stays {
                        task.abort();
                    }
                    stays
                });
                for peer in peers {
                    watched.entry(id(&peer)).or_insert_with(|| {
                        let tailing = observer.clone().tail_one(peer.clone(), watch, wanted.clone(), told.clone());
                        (peer, tokio::spawn(tailing))
                    });
                }
            }
            for (_, (_, task)) in watched {
                // Each ends its watch.
                let _panicked = task.await;
            }
        });
    }

    /// `peer`: None is this node.
    async fn tail_one(
        self: Arc<Self>,
        peer: Option<PeerAddress>,
        watch: u64,
        wanted: Wanted,
        told: mpsc::Sender<Tailed>,
    ) {
        let node_id = peer.as_ref().map_or(self.me(), |peer| peer.node_id.unwrap_or_default());
        let mut left_out = 0;
        while !told.is_closed() {
            let said = match &peer {
                None => self.own.metrics.tail.watch((self.me(), watch), &wanted, TAIL_WAIT_MAX).await,
                Some(peer) => {
                    let wait_millis = TAIL_WAIT_MAX.as_millis() as u32;
                    match encode(&TailRequest { watch, wanted: wanted.clone(), wait_millis }) {
                        Ok(request) => self.ask(peer, kinds::TAIL, request, ANSWER_WITHIN).await,
                        Err(err) => Err(err),
                    }
                }
            };
            let failed = said.is_err();
            // Never waits for the reader: a watch that is not asked for is forgotten, with what it has counted.
            let said = said.map(|batch| Batch { skipped: batch.skipped + left_out, ..batch });
            left_out = match told.try_send(self.heard(node_id, said)) {
                Ok(()) => 0,
                Err(TrySendError::Closed(_)) => break,
                Err(TrySendError::Full(tailed)) => {
                    tailed.said.map_or(left_out, |batch| batch.skipped + batch.records.len() as u64)
                }
            };
            if failed {
                tokio::select! {
                    () = tokio::time::sleep(RETRY_PAUSE) => {}
                    () = told.closed() => break,
                }
            }
        }
        match &peer {
            None => self.own.metrics.tail.end((self.me(), watch)),
            Some(peer) => {
                // Should it not hear of it, it forgets the watch by itself.
                let Ok(request) = encode(&watch) else { return };
                let _forgotten =
                    self.transport.call(peer, Channel::Control, kinds::TAIL_END, request, ANSWER_WITHIN).await;
            }
        }
    }
}
