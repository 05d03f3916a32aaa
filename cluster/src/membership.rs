//! Who is said to be here: gossip over UDP. With `gossip`, the only place that imports chitchat. Started by the
//! gateway's wiring, read by raft-store (who is dead) and the gateway (who is there, and where). May import `identity`,
//! `gossip` and the rules of secrets.
//!
//! Everything in here is a *hint*. With a cluster secret, datagrams are sealed, and only what a node of the cluster has
//! said is heard; but it may have said so earlier: a datagram that was caught can be played to a node that has just
//! started. Admission, addresses that matter and removal are decided over authenticated links; whether a peer can be
//! reached is decided by its link, not by `live`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chitchat::transport::{Transport, UdpTransport};
use chitchat::{
    spawn_chitchat, Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, NodeState,
    ProtocolVersion,
};
use tokio::sync::{watch, Mutex, Notify};
use tokio::task::JoinHandle;

use crate::gossip::{Refusals, SealedTransport};
use crate::identity::{ClusterId, Identity, NodeId};
use crate::tcp::{check_listen, check_secrets};
use crate::transport::PeerAddress;

/// How often each node gossips.
pub const GOSSIP_INTERVAL: Duration = Duration::from_secs(1);
/// A node that said nothing for about this many of its usual intervals is not live (the φ of the accrual detector).
pub const PHI_THRESHOLD: f64 = 8.0;
/// All of a node's keys and values. The digest of all nodes travels in single datagrams, so each has to be small.
pub const FACTS_BYTES_MAX: usize = 1_024;
/// Pauses that count as a node's usual rhythm, in intervals; longer ones are gaps.
const RHYTHM_INTERVALS_MAX: u32 = 10;
const RHYTHM_SAMPLES: usize = 100;
/// Dead nodes stay visible (as not live) for this long.
const DEAD_NODE_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Keys are overwritten, never deleted, so nothing waits for this; it is chitchat's own example.
const DELETED_KEY_KEPT: Duration = Duration::from_secs(60 * 60);
/// Leaving is told to this many peers directly; they tell the others.
const FAREWELLS_MAX: usize = 8;
/// One exchange of three datagrams.
const FAREWELL_TIME: Duration = Duration::from_millis(200);

/// How to start gossiping.
#[derive(Clone)]
pub struct MembershipOptions {
    pub identity: Identity,
    /// UDP, on the same port number as the cluster's TCP listener.
    pub gossip_listen: SocketAddr,
    /// Where others send their gossip to.
    pub advertise: SocketAddr,
    /// `host:port` each; names are looked up again every minute.
    pub seeds: Vec<String>,
    /// Nodes with different labels ignore each other. Not the cluster id, which is unknown before the bootstrap.
    pub cluster_label: String,
    /// Those of the links: the first seals what is sent, every one opens what comes. None: in the clear, loopback only.
    pub secrets: Vec<Vec<u8>>,
    /// [`GOSSIP_INTERVAL`], except in tests.
    pub interval: Duration,
}

/// What a node says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalFacts {
    /// `host:port` of the cluster listener.
    pub cluster_addr: String,
    pub admin_addr: String,
    pub client_addr: String,
    /// Where people's browsers and clients reach it; empty: a program that does not say.
    pub admin_url: String,
    pub client_url: String,
    pub ready: bool,
    /// Of the program.
    pub version: String,
    /// Of the Raft log.
    pub applied_index: u64,
    pub active_connections: u64,
    pub cluster_id: Option<ClusterId>,
    /// The label for people.
    pub name: String,
}

/// What is known about a node, this one included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFacts {
    pub node_id: NodeId,
    pub generation: u64,
    pub gossip_addr: SocketAddr,
    /// Heard of lately, and not leaving.
    pub live: bool,
    pub facts: LocalFacts,
}

/// All known nodes, dead ones included, each in its latest generation.
pub type Members = BTreeMap<NodeId, PeerFacts>;

/// Every other node that may have something to say: the members of the cluster, whether they gossip or not, and those that
/// gossip without being members yet. `members` has the addresses that were agreed on; gossip's are newer.
pub fn peers_of(me: NodeId, gossip: &Members, mut members: BTreeMap<NodeId, String>) -> Vec<PeerAddress> {
    for peer in gossip.values().filter(|peer| !peer.facts.cluster_addr.is_empty()) {
        if peer.live || members.contains_key(&peer.node_id) {
            members.insert(peer.node_id, peer.facts.cluster_addr.clone());
        }
    }
    members.remove(&me);
    members.into_iter().map(|(node, addr)| PeerAddress { node_id: Some(node), addr }).collect()
}

/// What people call a node; its id as long as nothing else is known.
pub fn name_of(node: NodeId, gossip: &Members) -> String {
    let name = gossip.get(&node).map(|peer| peer.facts.name.clone()).filter(|name| !name.is_empty());
    name.unwrap_or_else(|| format!("{node:016x}"))
}

/// One difference between two [`Members`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Added(PeerFacts),
    /// Anything differs: facts, generation (it restarted) or `live` (it died or came back).
    Updated {
        before: Box<PeerFacts>,
        after: Box<PeerFacts>,
    },
    /// Forgotten, a day after its death.
    Removed(PeerFacts),
}

/// Gossip could not start, ended, or was asked to carry too much.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("gossip: {0}")]
pub struct MembershipError(String);

/// A running gossip. Dropping it ends it without a farewell.
pub struct Membership {
    chitchat: ChitchatHandle,
    members: watch::Receiver<Arc<Members>>,
    refusals: Arc<Refusals>,
    refresh: Arc<Notify>,
    refreshing: JoinHandle<()>,
}

impl Membership {
    /// Opens the UDP port and starts gossiping, on the runtime of the caller.
    pub async fn start(options: MembershipOptions) -> Result<Membership, MembershipError> {
        let refusals = Arc::new(Refusals::default());
        let transport = transport(&options, &refusals)?;
        Self::start_on(&*transport, refusals, options).await
    }

    /// The same over any transport; `options.secrets` are not looked at. For simulations, which have no UDP.
    #[doc(hidden)]
    pub async fn start_on(
        transport: &dyn Transport,
        refusals: Arc<Refusals>,
        options: MembershipOptions,
    ) -> Result<Membership, MembershipError> {
        let MembershipOptions { identity, gossip_listen, advertise, seeds, cluster_label, interval, .. } = options;
        let me = ChitchatId::new(format!("{:016x}", identity.node_id), identity.generation, advertise);
        let config = ChitchatConfig {
            chitchat_id: me,
            cluster_id: cluster_label,
            gossip_interval: interval,
            listen_addr: gossip_listen,
            seed_nodes: seeds,
            failure_detector_config: FailureDetectorConfig {
                phi_threshold: PHI_THRESHOLD,
                sampling_window_size: RHYTHM_SAMPLES,
                max_interval: interval * RHYTHM_INTERVALS_MAX,
                initial_interval: interval,
                dead_node_grace_period: DEAD_NODE_KEPT,
            },
            marked_for_deletion_grace_period: DELETED_KEY_KEPT,
            catchup_callback: None,
            extra_liveness_predicate: None,
            protocol_version: ProtocolVersion::V1,
        };
        let first = LocalFacts {
            cluster_addr: advertise.to_string(),
            cluster_id: identity.cluster_id.get().copied(),
            name: identity.name,
            ..LocalFacts::default()
        };
        let chitchat = spawn_chitchat(config, checked_pairs(&first)?, transport).await.map_err(failed)?;
        let shared = chitchat.chitchat();
        let (sender, members) = watch::channel(Arc::new(read_members(&*shared.lock().await)));
        let refresh = Arc::new(Notify::new());
        let refreshing = tokio::spawn(keep_fresh(shared, sender, refresh.clone(), interval));
        Ok(Membership { chitchat, members, refusals, refresh, refreshing })
    }

    /// Replaces what this node says about itself. Fails, and changes nothing, over [`FACTS_BYTES_MAX`].
    pub async fn local_update(&self, facts: LocalFacts) -> Result<(), MembershipError> {
        let pairs = checked_pairs(&facts)?;
        self.chitchat
            .with_chitchat(|chitchat| {
                let me = chitchat.self_node_state();
                for (key, value) in &pairs {
                    me.set(key, value);
                }
            })
            .await;
        self.refresh.notify_one();
        Ok(())
    }

    /// All known nodes, this one included; changes are seen within an interval.
    pub fn watch(&self) -> watch::Receiver<Arc<Members>> {
        self.members.clone()
    }

    /// How many datagrams were not let in, and why. All zero without a secret.
    pub fn refusals(&self) -> Arc<Refusals> {
        self.refusals.clone()
    }

    /// Waits until gossip ends by itself, which it should not: its socket failed. The node should then exit.
    pub async fn terminated(&self) -> Result<(), MembershipError> {
        self.chitchat.termination_watcher().await.map_err(failed)
    }

    /// Tells some peers that this node leaves, so that nobody has to wait for φ, then closes the port.
    pub async fn shutdown(mut self) {
        let goodbye = |chitchat: &mut Chitchat| {
            let me = chitchat.self_chitchat_id().clone();
            chitchat.self_node_state().set(keys::LEAVING, true);
            let others = chitchat.live_nodes().filter(|id| **id != me).map(|id| id.gossip_advertise_addr);
            others.take(FAREWELLS_MAX).collect::<Vec<_>>()
        };
        let told = self.chitchat.with_chitchat(goodbye).await;
        let sent = told.iter().filter(|addr| self.chitchat.gossip(**addr).is_ok()).count();
        if sent > 0 {
            tokio::time::sleep(FAREWELL_TIME).await;
        }
        if self.chitchat.initiate_shutdown().is_ok() {
            // A failure was told by `terminated`; here it only means that gossip has ended, as wanted.
            let _ = self.chitchat.termination_watcher().await;
        }
        self.refreshing.abort();
        let _ = (&mut self.refreshing).await;
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.refreshing.abort();
        self.chitchat.abort();
    }
}

/// Sealed, or without a secret in the clear.
fn transport(options: &MembershipOptions, refusals: &Arc<Refusals>) -> Result<Box<dyn Transport>, MembershipError> {
    let MembershipOptions { secrets, cluster_label, gossip_listen, .. } = options;
    check_secrets(secrets).map_err(failed)?;
    check_listen(secrets.is_empty(), *gossip_listen).map_err(failed)?;
    if secrets.is_empty() {
        return Ok(Box::new(UdpTransport));
    }
    Ok(Box::new(SealedTransport::new(secrets, cluster_label, refusals.clone()).map_err(failed)?))
}

/// What became of the members between two looks, in the order of their ids.
pub fn diff(before: &Members, after: &Members) -> Vec<Change> {
    let mut changes: Vec<(NodeId, Change)> = Vec::new();
    for (id, old) in before {
        match after.get(id) {
            None => changes.push((*id, Change::Removed(old.clone()))),
            Some(new) if new != old => {
                changes.push((*id, Change::Updated { before: Box::new(old.clone()), after: Box::new(new.clone()) }));
            }
            Some(_) => {}
        }
    }
    let added = after.iter().filter(|(id, _)| !before.contains_key(id));
    changes.extend(added.map(|(id, new)| (*id, Change::Added(new.clone()))));
    changes.sort_by_key(|(id, _)| *id);
    changes.into_iter().map(|(_, change)| change).collect()
}

async fn keep_fresh(
    chitchat: Arc<Mutex<Chitchat>>,
    members: watch::Sender<Arc<Members>>,
    refresh: Arc<Notify>,
    interval: Duration,
) {
    let mut live = chitchat.lock().await.live_nodes_watcher();
    loop {
        tokio::select! {
            () = refresh.notified() => {}
            changed = live.changed() => if changed.is_err() { return },
            // chitchat tells of changes to live nodes only.
            () = tokio::time::sleep(interval) => {}
        }
        let now = read_members(&*chitchat.lock().await);
        members.send_if_modified(|known| {
            let modified = **known != now;
            if modified {
                *known = Arc::new(now);
            }
            modified
        });
    }
}

fn read_members(chitchat: &Chitchat) -> Members {
    let live: std::collections::HashSet<&ChitchatId> = chitchat.live_nodes().collect();
    let seen = chitchat.node_states().iter().filter_map(|(id, state)| peer_facts(id, state, live.contains(id)));
    latest_generations(seen)
}

/// The highest generation of each node; of the same one under two addresses, the live one.
fn latest_generations(seen: impl Iterator<Item = PeerFacts>) -> Members {
    let mut members = Members::new();
    for peer in seen {
        match members.get(&peer.node_id) {
            Some(known) if (known.generation, known.live) >= (peer.generation, peer.live) => {}
            _ => {
                members.insert(peer.node_id, peer);
            }
        }
    }
    members
}

/// `None` for an id that no node of this program would use.
fn peer_facts(id: &ChitchatId, state: &NodeState, live: bool) -> Option<PeerFacts> {
    let node_id = NodeId::from_str_radix(&id.node_id, 16).ok()?;
    let text = |key| state.get(key).unwrap_or_default().to_owned();
    let facts = LocalFacts {
        cluster_addr: text(keys::CLUSTER_ADDR),
        admin_addr: text(keys::ADMIN_ADDR),
        client_addr: text(keys::CLIENT_ADDR),
        admin_url: text(keys::ADMIN_URL),
        client_url: text(keys::CLIENT_URL),
        ready: parsed(state, keys::READY),
        version: text(keys::VERSION),
        applied_index: parsed(state, keys::APPLIED_INDEX),
        active_connections: parsed(state, keys::ACTIVE_CONNECTIONS),
        cluster_id: state.get(keys::CLUSTER_ID).and_then(|hex| u128::from_str_radix(hex, 16).ok()).map(ClusterId),
        name: text(keys::NAME),
    };
    let leaving: bool = parsed(state, keys::LEAVING);
    let gossip_addr = id.gossip_advertise_addr;
    Some(PeerFacts { node_id, generation: id.generation_id, gossip_addr, live: live && !leaving, facts })
}

/// What another version writes differently counts as not said.
fn parsed<T: FromStr + Default>(state: &NodeState, key: &str) -> T {
    state.get(key).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Keys are wire format: nodes of different versions read them.
mod keys {
    pub const CLUSTER_ADDR: &str = "cluster_addr";
    pub const ADMIN_ADDR: &str = "admin_addr";
    pub const CLIENT_ADDR: &str = "client_addr";
    pub const ADMIN_URL: &str = "admin_url";
    pub const CLIENT_URL: &str = "client_url";
    pub const READY: &str = "ready";
    pub const VERSION: &str = "version";
    pub const APPLIED_INDEX: &str = "applied_index";
    pub const ACTIVE_CONNECTIONS: &str = "active_connections";
    pub const CLUSTER_ID: &str = "cluster_id";
    pub const NAME: &str = "name";
    pub const LEAVING: &str = "leaving";
}

fn checked_pairs(facts: &LocalFacts) -> Result<Vec<(String, String)>, MembershipError> {
    let pairs = [
        (keys::CLUSTER_ADDR, facts.cluster_addr.clone()),
        (keys::ADMIN_ADDR, facts.admin_addr.clone()),
        (keys::CLIENT_ADDR, facts.client_addr.clone()),
        (keys::ADMIN_URL, facts.admin_url.clone()),
        (keys::CLIENT_URL, facts.client_url.clone()),
        (keys::READY, facts.ready.to_string()),
        (keys::VERSION, facts.version.clone()),
        (keys::APPLIED_INDEX, facts.applied_index.to_string()),
        (keys::ACTIVE_CONNECTIONS, facts.active_connections.to_string()),
        (keys::CLUSTER_ID, facts.cluster_id.map(|id| id.to_string()).unwrap_or_default()),
        (keys::NAME, facts.name.clone()),
    ];
    let bytes: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > FACTS_BYTES_MAX {
        return Err(MembershipError(format!("the node's facts take {bytes} bytes, at most {FACTS_BYTES_MAX} may")));
    }
    Ok(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn failed(error: impl std::fmt::Display) -> MembershipError {
    MembershipError(format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(node_id: NodeId, generation: u64, live: bool) -> PeerFacts {
        let gossip_addr = "127.0.0.1:1".parse().unwrap();
        PeerFacts { node_id, generation, gossip_addr, live, facts: LocalFacts::default() }
    }

    fn members(peers: &[PeerFacts]) -> Members {
        peers.iter().map(|peer| (peer.node_id, peer.clone())).collect()
    }

    #[test]
    fn highest_generation_wins_and_then_the_live_one() {
        let seen = [peer(1, 2, false), peer(1, 1, true), peer(2, 5, false), peer(2, 5, true), peer(2, 5, false)];
        for turn in 0..seen.len() {
            let mut seen = seen.to_vec();
            seen.rotate_left(turn);
            assert_eq!(latest_generations(seen.into_iter()), members(&[peer(1, 2, false), peer(2, 5, true)]));
        }
    }

    #[test]
    fn differences_are_told_once_each() {
        let before = members(&[peer(1, 1, true), peer(2, 1, true), peer(3, 1, true)]);
        let after = members(&[peer(1, 1, true), peer(2, 1, false), peer(4, 1, true)]);
        let expected = vec![
            Change::Updated { before: Box::new(peer(2, 1, true)), after: Box::new(peer(2, 1, false)) },
            Change::Removed(peer(3, 1, true)),
            Change::Added(peer(4, 1, true)),
        ];
        assert_eq!(diff(&before, &after), expected);
        assert!(diff(&after, &after).is_empty());
    }

    #[test]
    fn facts_are_kept_small() {
        let small = LocalFacts { name: "n".repeat(700), ..LocalFacts::default() };
        assert!(checked_pairs(&small).is_ok());
        let big = LocalFacts { name: "n".repeat(1_024), ..LocalFacts::default() };
        assert!(checked_pairs(&big).is_err());
    }
}
