//! Limits of scope cluster: each node tells the others twice a second what it has of each limited endpoint, and takes its
//! part of the limits from what all have told. Called by app's wiring, and by peers; imports model and the cluster floor.
//!
//! Who is there is gossip's word, among the cluster's members. A dead node's part goes to the live ones; but a node that
//! sees no majority of the voters cannot know who is dead, and keeps its parts. Decided in ADR 0014.

mod identities;
mod report;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::{join_all, ready, BoxFuture, FutureExt};
use tokio::sync::watch;
use wsgateway_cluster::membership::Members;
use wsgateway_cluster::{Channel, NodeId, PeerAddress, PeerService, PeerTransport};

use crate::model::live_endpoint::LiveEndpoint;
use crate::model::shares::{connection_parts, connection_rate_parts, message_parts, next_connection_part, Load};
use crate::model::throttling::{Scope, Throttling};
use report::{EndpointReport, Report};

/// How often shares move.
const INTERVAL: Duration = Duration::from_millis(500);

/// An answer that comes later is used the next time.
const DEADLINE: Duration = Duration::from_millis(400);

/// Request kinds between gateways: part of the wire format, never renumbered. A report of another shape is another kind.
pub mod kinds {
    use std::ops::RangeInclusive;
    pub const ALL: RangeInclusive<u16> = 110..=119;
    pub(super) const REPORT: u16 = 110;
}

/// Who belongs to the cluster.
pub struct Membership {
    /// Voters and learners.
    pub nodes: Vec<NodeId>,
    pub voters: Vec<NodeId>,
}

/// What the exchange asks of rooms that it does not know.
pub struct Surroundings {
    pub node_id: NodeId,
    pub endpoints: Box<dyn Fn() -> Vec<Arc<LiveEndpoint>> + Send + Sync>,
    pub membership: Box<dyn Fn() -> Membership + Send + Sync>,
    pub gossip: watch::Receiver<Arc<Members>>,
    pub transport: Arc<dyn PeerTransport>,
}

/// The exchange of one node.
pub struct Shares {
    around: Surroundings,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What this node tells, and told last.
    mine: Report,
    encoded: Bytes,
    /// What others told last, dead ones too.
    peers: BTreeMap<NodeId, Report>,
    /// What was tried of each endpoint whose limits are divided.
    tried: HashMap<String, Tried>,
    /// When that was last looked at.
    looked: Option<Instant>,
}

/// Of what was tried, so much counts the next time.
const TRIED_KEPT: f64 = 0.6;

/// Handshakes and messages a second: up at once, down more slowly.
#[derive(Clone, Copy, Default)]
struct Tried {
    opening: f64,
    messages: f64,
}

impl Tried {
    fn follow(&mut self, (opening, messages): (u64, u64), seconds: f64) {
        let follow = |before: f64, count: u64| {
            let now = count as f64 / seconds;
            now.max(before * TRIED_KEPT)
        };
        self.opening = follow(self.opening, opening);
        self.messages = follow(self.messages, messages);
    }
}

fn divided(endpoint: &LiveEndpoint) -> Option<Throttling> {
    endpoint.current().throttling.clone().filter(|limits| limits.scope == Scope::Cluster)
}

impl Shares {
    pub fn new(around: Surroundings) -> Arc<Shares> {
        Arc::new(Shares { around, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An endpoint is new, or has changed. One whose limits are divided from now on begins with an equal part.
    pub fn reread(&self, endpoint: &LiveEndpoint) {
        let mut state = self.lock();
        if divided(endpoint).is_none() || endpoint.is_deleted() {
            state.tried.remove(endpoint.id());
        } else if !state.tried.contains_key(endpoint.id()) {
            state.tried.insert(endpoint.id().to_owned(), Tried::default());
            let nodes = (self.around.membership)().nodes.len().max(1);
            endpoint.throttle.parts.set_all(1.0 / nodes as f64);
        }
    }

    /// Exchanges and divides for as long as the node runs.
    pub async fn run(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let endpoints: Vec<_> = (self.around.endpoints)()
                .into_iter()
                .filter_map(|endpoint| divided(&endpoint).map(|limits| (endpoint, limits)))
                .collect();
            if endpoints.is_empty() && self.lock().mine.endpoints.is_empty() {
                continue;
            }
            let live = self.live();
            self.look(&endpoints, live.len());
            self.exchange(&live).await;
            if self.sees_majority(&live) {
                self.divide(&endpoints, &live);
            }
        }
    }

    /// Members that gossip says are there, with their addresses; this node too.
    fn live(&self) -> BTreeMap<NodeId, String> {
        let members = (self.around.membership)().nodes;
        let gossip = self.around.gossip.borrow();
        let is_there =
            |id: &NodeId| gossip.get(id).filter(|peer| peer.live).map(|peer| peer.facts.cluster_addr.clone());
        let mut live: BTreeMap<_, _> = members.iter().filter_map(|id| Some((*id, is_there(id)?))).collect();
        live.entry(self.around.node_id).or_default();
        live
    }

    fn sees_majority(&self, live: &BTreeMap<NodeId, String>) -> bool {
        let voters = (self.around.membership)().voters;
        let there = voters.iter().filter(|voter| live.contains_key(voter)).count();
        there * 2 > voters.len() || voters.is_empty()
    }

    /// Reads what was used since the last time, and makes this node's report of it.
    fn look(&self, endpoints: &[(Arc<LiveEndpoint>, Throttling)], nodes: usize) {
        let now = Instant::now();
        let mut state = self.lock();
        let seconds = state.looked.map_or(INTERVAL, |looked| now.duration_since(looked)).as_secs_f64().max(0.1);
        state.looked = Some(now);
        let mut mine = Report::default();
        for (endpoint, limits) in endpoints {
            let throttle = &endpoint.throttle;
            let tried = state.tried.entry(endpoint.id().to_owned()).or_default();
            tried.follow(throttle.take_tried(), seconds);
            let load = Load {
                open: throttle.admitted(),
                opening: tried.opening,
                messages: tried.messages,
                part: throttle.parts.connections.get(),
            };
            let identities = match &limits.per_identity {
                Some((_, rate)) => identities::busy(&throttle.identities, rate.per_second, nodes, seconds),
                None => Vec::new(),
            };
            mine.endpoints.insert(endpoint.id().to_owned(), EndpointReport::new(load, identities));
        }
        // An endpoint's limits that are not divided any more begin anew, should they be again.
        state.tried.retain(|id, _| mine.endpoints.contains_key(id));
        state.encoded = mine.encode();
        state.mine = mine;
    }

    /// Tells every live node what this one has, and hears what they have.
    async fn exchange(&self, live: &BTreeMap<NodeId, String>) {
        let report = self.lock().encoded.clone();
        let others = live.iter().filter(|(id, addr)| **id != self.around.node_id && !addr.is_empty());
        let calls = others.map(|(id, addr)| {
            let peer = PeerAddress { node_id: Some(*id), addr: addr.clone() };
            let report = report.clone();
            async move {
                let call = self.around.transport.call(&peer, Channel::Control, kinds::REPORT, report, DEADLINE);
                match call.await.map_err(|err| err.to_string()).and_then(|answer| Report::decode(&answer)) {
                    Ok(answer) => self.heard(*id, answer),
                    Err(err) => tracing::debug!(peer = %peer.addr, "shares of limits not exchanged: {err}"),
                }
            }
        });
        join_all(calls).await;
    }

    fn heard(&self, from: NodeId, report: Report) {
        self.lock().peers.insert(from, report);
    }

    /// Takes this node's parts of what all live nodes have told.
    fn divide(&self, endpoints: &[(Arc<LiveEndpoint>, Throttling)], live: &BTreeMap<NodeId, String>) {
        let mut state = self.lock();
        state.peers.retain(|id, _| live.contains_key(id));
        let mut given = Vec::new();
        for (endpoint, limits) in endpoints {
            let unheard = Load { part: 1.0 / live.len() as f64, ..Load::default() };
            let of = |id: &NodeId| {
                let report = if *id == self.around.node_id { Some(&state.mine) } else { state.peers.get(id) };
                report.and_then(|report| report.endpoints.get(endpoint.id()))
            };
            let loads: Vec<Load> = live.keys().map(|id| of(id).map_or(unheard, EndpointReport::load)).collect();
            let Some(me) = live.keys().position(|id| *id == self.around.node_id) else { continue };
            let parts = &endpoint.throttle.parts;
            if let Some(max) = limits.max_connections {
                let wanted = connection_parts(max, &loads)[me];
                let others = loads.iter().enumerate().filter(|(node, _)| *node != me);
                let others: f64 = others.map(|(_, load)| load.part.max(load.open as f64 / max as f64)).sum();
                let part = next_connection_part(parts.connections.get(), wanted, others);
                parts.connections.set(part);
                // Clients that came in since the report was made have their places: those are not given up.
                let taken = endpoint.throttle.admitted() as f64 / max as f64;
                given.push((endpoint.id().to_owned(), part.max(taken)));
            }
            if let Some(rate) = limits.connections_per_second {
                parts.connection_rate.set(connection_rate_parts(rate.per_second, &loads)[me]);
            }
            if let Some(rate) = limits.messages_per_second {
                parts.message_rate.set(message_parts(rate.per_second, &loads)[me]);
            }
            if let Some((_, rate)) = limits.per_identity {
                let others = live.keys().filter(|id| **id != self.around.node_id).filter_map(of);
                identities::divide(&endpoint.throttle.identities, rate.per_second, others);
            }
        }
        // What was given up is told to whoever asks next.
        for (id, part) in given {
            if let Some(mine) = state.mine.endpoints.get_mut(&id) {
                mine.part = part;
            }
        }
        state.encoded = state.mine.encode();
    }
}

impl PeerService for Shares {
    fn handle(&self, from: NodeId, kind: u16, payload: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let answer = match kind {
            kinds::REPORT => Report::decode(&payload).map(|report| {
                self.heard(from, report);
                self.lock().encoded.clone()
            }),
            other => Err(format!("request kind {other} is not known here")),
        };
        ready(answer).boxed()
    }
}
