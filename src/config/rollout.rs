//! How far an endpoint's active version has come: what each node of the cluster serves, as it says itself over its peer
//! link. Both sides are here, the node that asks and those that answer. Called by the admin side and by peers; imports the
//! cluster's floors.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::{join_all, ready, BoxFuture, FutureExt};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use wsgateway_cluster::membership::Members;
use wsgateway_cluster::{Channel, NodeId, PeerAddress, PeerService, PeerTransport};
use wsgateway_raft_store::types::{Head, ProposeError};

use super::store::{ConfigError, ConfigStore};

/// Request kinds of rollouts, within `wsgateway_cluster::kinds::GATEWAY`. Part of the wire format: never renumber.
pub const KINDS: RangeInclusive<u16> = 120..=129;
const LOOK: u16 = 120;

/// A node that does not say what it serves within this is not reachable; it looks something up in memory.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Between two rounds of asking.
const PAUSE: Duration = Duration::from_millis(100);

/// What one node says about an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// The log index whose configuration it serves.
    pub applied_index: u64,
    /// The version that its connections use; None: the endpoint is not served there.
    pub version: Option<u64>,
    /// The newest version that it has stored.
    pub latest_version: Option<u64>,
    /// Why the active version does not work there.
    pub degraded: Option<String>,
}

/// One node's place in a rollout.
#[derive(Clone, Debug)]
pub struct NodeRollout {
    pub node_id: NodeId,
    /// Its name; unknown for a node that has not gossiped since this one started.
    pub name: Option<String>,
    /// It has just answered, or gossip has it so: gossip alone is a hint.
    pub live: bool,
    /// What it says, or why it cannot be asked.
    pub served: Result<Served, String>,
    pub complete: bool,
}

/// How far an endpoint has come.
#[derive(Clone, Debug)]
pub struct Rollout {
    pub head: Head,
    pub nodes: Vec<NodeRollout>,
}

impl Rollout {
    /// Every live node serves the active version.
    pub fn is_complete(&self) -> bool {
        self.nodes.iter().all(|node| node.complete || !node.live)
    }

    /// Whether waiting may help: a node that has applied the version and cannot serve it will not change its mind.
    fn may_go_on(&self) -> bool {
        let stuck = |served: &Served| served.degraded.is_some() && served.applied_index >= self.head.modified_index;
        self.nodes.iter().any(|node| !node.complete && node.live && !node.served.as_ref().is_ok_and(stuck))
    }
}

/// Whether a node has come as far as `head` says.
fn has(served: &Served, head: &Head) -> bool {
    let wanted = Some(head.active_version).filter(|version| *version > 0);
    served.applied_index >= head.modified_index && served.version == wanted && served.degraded.is_none()
}

/// Asks the nodes.
pub struct Rollouts {
    config: Arc<ConfigStore>,
    transport: Arc<dyn PeerTransport>,
    gossip: watch::Receiver<Arc<Members>>,
}

impl Rollouts {
    pub fn new(
        config: Arc<ConfigStore>,
        transport: Arc<dyn PeerTransport>,
        gossip: watch::Receiver<Arc<Members>>,
    ) -> Rollouts {
        Rollouts { config, transport, gossip }
    }

    /// How far the endpoint has come now.
    pub async fn of(&self, id: &str) -> Result<Rollout, ConfigError> {
        self.look(id, ANSWER_WITHIN).await
    }

    /// The same, once every live node has what was committed before the call, or as far as it came within that time.
    pub async fn wait(&self, id: &str, within: Duration) -> Result<Rollout, ConfigError> {
        let deadline = Instant::now() + within;
        let left = || deadline.saturating_duration_since(Instant::now());
        // This node may be the one that is behind.
        while let Err(err) = self.learn(left()).await {
            if left().is_zero() {
                return Err(err);
            }
            sleep(PAUSE.min(left())).await;
        }
        loop {
            // The last look has a little time too, or it would find nobody.
            let rollout = self.look(id, ANSWER_WITHIN.min(left().max(PAUSE))).await?;
            if rollout.is_complete() || !rollout.may_go_on() || left().is_zero() {
                return Ok(rollout);
            }
            sleep(PAUSE.min(left())).await;
        }
    }

    async fn learn(&self, within: Duration) -> Result<(), ConfigError> {
        match timeout(within, self.config.raft().linearize()).await {
            Ok(learned) => learned.map(|_| ()).map_err(ConfigError::from),
            Err(_) => Err(ProposeError::NoLeader("no leader has answered in time".to_owned()).into()),
        }
    }

    async fn look(&self, id: &str, within: Duration) -> Result<Rollout, ConfigError> {
        let head = self.config.head(id)?;
        let store = self.config.raft();
        let me = store.identity().node_id;
        let gossip = self.gossip.borrow().clone();
        // Members of the cluster, not everybody who gossips; one that is not in a cluster yet is alone.
        let mut members = store.members();
        members.entry(me).or_default();
        let asked = members.into_iter().map(|(node_id, addr)| {
            let facts = gossip.get(&node_id);
            let name = facts.map(|peer| peer.facts.name.clone()).filter(|name| !name.is_empty());
            let gossiped = facts.is_some_and(|peer| peer.live);
            let addr =
                facts.map(|peer| peer.facts.cluster_addr.clone()).filter(|addr| !addr.is_empty()).unwrap_or(addr);
            let head = &head;
            async move {
                let served = match node_id == me {
                    true => Ok(served_here(&self.config, id)),
                    false => self.ask(PeerAddress { node_id: Some(node_id), addr }, id, within).await,
                };
                let complete = served.as_ref().is_ok_and(|served| has(served, head));
                let live = gossiped || served.is_ok();
                NodeRollout { node_id, name, live, served, complete }
            }
        });
        let nodes = join_all(asked).await;
        Ok(Rollout { head, nodes })
    }

    async fn ask(&self, peer: PeerAddress, id: &str, within: Duration) -> Result<Served, String> {
        let request = Bytes::copy_from_slice(id.as_bytes());
        let answer = self.transport.call(&peer, Channel::Control, LOOK, request, within).await;
        let answer = answer.map_err(|err| err.to_string())?;
        postcard::from_bytes(&answer).map_err(|err| format!("its answer was not understood: {err}"))
    }
}

fn served_here(config: &ConfigStore, id: &str) -> Served {
    // The index first: what is live then is at least as new.
    let applied_index = config.applied_index();
    Served {
        applied_index,
        version: config.registry().by_id(id).map(|endpoint| endpoint.current().version),
        latest_version: config.head(id).ok().map(|head| head.latest_version),
        degraded: config.degraded().remove(id),
    }
}

/// Answers other nodes.
pub struct PeerRollouts {
    config: Arc<ConfigStore>,
}

impl PeerRollouts {
    pub fn new(config: Arc<ConfigStore>) -> PeerRollouts {
        PeerRollouts { config }
    }
}

impl PeerService for PeerRollouts {
    fn handle(&self, _from: NodeId, kind: u16, payload: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let answer = match (kind, std::str::from_utf8(&payload)) {
            (LOOK, Ok(id)) => {
                postcard::to_stdvec(&served_here(&self.config, id)).map(Bytes::from).map_err(|err| err.to_string())
            }
            (LOOK, Err(err)) => Err(format!("malformed request: {err}")),
            (other, _) => Err(format!("request kind {other} is not known here")),
        };
        ready(answer).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(active_version: u64) -> Head {
        let (kind, id, key) = ("endpoint".to_owned(), "ep".to_owned(), "/a".to_owned());
        let (latest_version, created_at, updated_at, modified_index) = (3, 1, 2, 20);
        Head { kind, id, key, active_version, latest_version, created_at, updated_at, modified_index }
    }

    fn served(applied_index: u64, version: Option<u64>, degraded: Option<&str>) -> Served {
        Served { applied_index, version, latest_version: Some(3), degraded: degraded.map(str::to_owned) }
    }

    #[test]
    fn a_node_has_it_when_it_serves_the_active_version_of_that_index() {
        assert!(has(&served(20, Some(2), None), &head(2)));
        assert!(!has(&served(19, Some(2), None), &head(2)), "the same version, before it was activated again");
        assert!(!has(&served(25, Some(3), None), &head(2)));
        assert!(!has(&served(25, Some(2), Some("reason")), &head(2)));
        assert!(has(&served(20, None, None), &head(0)), "nothing is active");
    }

    #[test]
    fn waiting_ends_when_only_degraded_and_dead_nodes_are_left() {
        let node = |live, served: Result<Served, String>| NodeRollout {
            node_id: 1,
            name: None,
            live,
            complete: served.as_ref().is_ok_and(|served| has(served, &head(2))),
            served,
        };
        let good = || node(true, Ok(served(20, Some(2), None)));
        let rollout = |other| Rollout { head: head(2), nodes: vec![good(), other] };
        let facts = |rollout: Rollout| (rollout.is_complete(), rollout.may_go_on());
        assert_eq!(facts(rollout(good())), (true, false));
        assert_eq!(facts(rollout(node(false, Err("dead".to_owned())))), (true, false));
        assert_eq!(facts(rollout(node(true, Err("silent".to_owned())))), (false, true));
        assert_eq!(facts(rollout(node(true, Ok(served(19, Some(1), None))))), (false, true));
        assert_eq!(facts(rollout(node(true, Ok(served(19, Some(1), Some("an older fault")))))), (false, true));
        assert_eq!(facts(rollout(node(true, Ok(served(20, Some(1), Some("does not compile")))))), (false, false));
    }
}
