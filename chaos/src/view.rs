//! The cluster as its nodes describe it (`GET /api/v1/cluster`), and waiting until they agree. Imports cluster and http.

use std::time::{Duration, Instant};

use anyhow::{bail, Context};
use serde::Deserialize;

use crate::cluster::{name, Entrances};
use crate::http;

const WITHIN: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);

/// One node's answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    #[serde(default)]
    pub cluster_id: Option<String>,
    pub node_id: String,
    /// What gossip has.
    #[serde(default)]
    pub nodes: Vec<Member>,
    pub leader: Option<String>,
    pub term: u64,
    pub state_hash: String,
    pub state_index: u64,
    pub raft: Raft,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Raft {
    pub voters: Vec<String>,
    pub learners: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    pub node_id: String,
    pub name: String,
    pub live: bool,
}

impl View {
    fn leads(&self) -> bool {
        self.leader.as_deref() == Some(&self.node_id)
    }

    /// The leader's label, if gossip knows it; else its id.
    pub fn leader_name(&self) -> Option<String> {
        let leader = self.leader.as_ref()?;
        let member = self.nodes.iter().find(|member| member.node_id == *leader);
        Some(member.map_or(leader, |member| &member.name).clone())
    }

    /// Labels of those that gossip has for dead.
    pub fn not_live(&self) -> Vec<String> {
        self.nodes.iter().filter(|member| !member.live).map(|member| member.name.clone()).collect()
    }
}

pub async fn ask(entrances: &Entrances, node: usize) -> anyhow::Result<View> {
    let answer = http::get(entrances.address(node).admin, "/api/v1/cluster", WITHIN).await?;
    serde_json::from_slice(&answer.body).with_context(|| format!("{}: {}", name(node), answer.status))
}

/// All of the named nodes' answers; an error when one does not answer.
pub async fn ask_all(entrances: &Entrances, nodes: &[usize]) -> anyhow::Result<Vec<View>> {
    let asked = nodes.iter().map(|node| ask(entrances, *node));
    futures::future::try_join_all(asked).await
}

/// The leader: the usable node that says so itself, in the latest term.
pub async fn leader(entrances: &Entrances, within: Duration) -> anyhow::Result<usize> {
    let deadline = Instant::now() + within;
    loop {
        let nodes = entrances.usable();
        let answers = futures::future::join_all(nodes.iter().map(|node| ask(entrances, *node))).await;
        let views = nodes.iter().zip(answers).filter_map(|(node, view)| Some((*node, view.ok()?)));
        if let Some((node, _)) = views.filter(|(_, view)| view.leads()).max_by_key(|(_, view)| view.term) {
            return Ok(node);
        }
        if Instant::now() > deadline {
            bail!("no leader within {within:?}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until all named nodes are ready and every node's view satisfies `wanted`; the views.
pub async fn until(
    entrances: &Entrances,
    nodes: &[usize],
    within: Duration,
    what: &str,
    wanted: impl Fn(&[View]) -> bool,
) -> anyhow::Result<Vec<View>> {
    let deadline = Instant::now() + within;
    loop {
        let seen = match ask_all(entrances, nodes).await {
            Ok(views) if wanted(&views) => return Ok(views),
            Ok(views) => views.iter().map(brief).collect::<Vec<_>>().join("; "),
            Err(err) => format!("{err:#}"),
        };
        if Instant::now() > deadline {
            bail!("not within {within:?}: {what}; last seen: {seen}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn brief(view: &View) -> String {
    let (leader, voters) = (view.leader.as_deref().unwrap_or("none"), view.raft.voters.len());
    format!("{} index {} leader {leader} voters {voters}", view.node_id, view.state_index)
}

/// The nodes have applied the same.
pub fn same_state(views: &[View]) -> bool {
    views.windows(2).all(|two| two[0].state_index == two[1].state_index && two[0].leader == two[1].leader)
        && views.first().is_some_and(|view| view.leader.is_some())
}

/// Whether it says so now.
pub async fn is_ready(entrances: &Entrances, node: usize) -> bool {
    http::get(entrances.address(node).admin, "/readyz", WITHIN).await.is_ok_and(|answer| answer.status == 200)
}

pub async fn ready(entrances: &Entrances, node: usize, within: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + within;
    loop {
        let answer = http::get(entrances.address(node).admin, "/readyz", WITHIN).await;
        match answer {
            Ok(answer) if answer.status == 200 => return Ok(()),
            _ if Instant::now() > deadline => bail!("{} is not ready within {within:?}: {answer:?}", name(node)),
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}
