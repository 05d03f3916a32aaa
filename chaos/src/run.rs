//! One run of one scenario: its cluster, service, history, and what was found. Scenarios act through it. Imports all but
//! scenarios.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context};
use rand::rngs::StdRng;
use serde_json::{json, Value};

use crate::cluster::{Cluster, Entrances};
use crate::figures::Figure;
use crate::history::{History, Op};
use crate::http::{self, Request};
use crate::invariants;
use crate::network::{Cuts, Network};
use crate::readback;
use crate::service::Service;
use crate::small_disks::SmallDisks;
use crate::view::{self, View};
use crate::workload::{self, sampler};

/// A cluster of three has three voters within 5 s; a busy machine takes longer.
const START_WITHIN: Duration = Duration::from_secs(90);
/// Everything that is up has the same state within this time after the last write.
pub const HEALED_WITHIN: Duration = Duration::from_secs(60);
const CREATED_WITHIN: Duration = Duration::from_secs(10);
/// Of each invariant's breaks, so many are printed.
const BREAKS_SHOWN: usize = 5;

/// What is the same for all scenarios of one call.
#[derive(Clone)]
pub struct Options {
    pub binary: PathBuf,
    /// An older one of the gateway.
    pub old_binary: Option<PathBuf>,
    pub seed: u64,
    pub cycles: u32,
    pub deadline: Option<Instant>,
    /// How long `random` makes faults.
    pub seconds: u64,
    /// Where nodes can be cut off from each other; without it they are on loopback.
    pub network: Option<Arc<Network>>,
    /// The library that goes in front of the nodes' libc.
    pub shim: Option<PathBuf>,
    /// Where each node's disk can be full.
    pub small_disks: Option<Arc<SmallDisks>>,
}

pub struct Run {
    pub scenario: &'static str,
    pub options: Options,
    pub history: Arc<History>,
    pub cluster: Cluster,
    pub entrances: Arc<Entrances>,
    pub service: Service,
    /// Settings of the endpoint that clients talk on.
    pub talk_settings: Value,
    pub figures: Vec<Figure>,
    /// Names of the invariants that were checked.
    pub checked: BTreeSet<&'static str>,
    /// What broke, in words.
    pub breaks: Vec<String>,
}

impl Run {
    /// Prepares everything; no node runs yet.
    pub async fn prepare(scenario: &'static str, options: &Options, folder: &Path, size: usize) -> anyhow::Result<Run> {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let history = Arc::new(History::new());
        let network = options.network.clone();
        if let Some(network) = &network {
            network.change(|cuts| *cuts = Cuts::default())?;
        }
        let at = network.as_ref().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |network| network.switch());
        let mut cluster = Cluster::plan(&options.binary, folder, size, network)?;
        if let Some(shim) = &options.shim {
            cluster.set_shim(shim)?;
        }
        if let Some(disks) = &options.small_disks {
            cluster.set_small_disks(disks.clone())?;
        }
        let service = Service::start(at, history.clone()).await?;
        Ok(Run {
            scenario,
            options: options.clone(),
            entrances: cluster.entrances.clone(),
            history,
            cluster,
            service,
            talk_settings: json!({}),
            figures: Vec::new(),
            checked: BTreeSet::new(),
            breaks: Vec::new(),
        })
    }

    /// Starts all nodes and waits until they are one cluster in which each one votes.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.start_all()?;
        self.formed().await
    }

    pub fn start_all(&mut self) -> anyhow::Result<()> {
        for node in 0..self.cluster.len() {
            self.cluster.start(node)?;
            self.entrances.set_usable(node, true);
        }
        Ok(())
    }

    /// Waits until the nodes are one cluster in which each one votes.
    pub async fn formed(&self) -> anyhow::Result<()> {
        let all = self.all_nodes();
        for node in &all {
            view::ready(&self.entrances, *node, START_WITHIN).await?;
        }
        let size = all.len();
        let formed = |views: &[View]| {
            view::same_state(views)
                && views.iter().all(|view| view.raft.voters.len() == size && view.raft.learners.is_empty())
        };
        view::until(&self.entrances, &all, START_WITHIN, "all nodes vote", formed).await?;
        self.history.note("the cluster is formed");
        Ok(())
    }

    /// Creates the endpoint that clients talk on, and waits until every node serves it.
    pub async fn serve_talkers(&self) -> anyhow::Result<()> {
        let mut document = self.service.endpoint("/talk");
        document["settings"] = self.talk_settings.clone();
        let document = document.to_string();
        let request = Request { method: "POST", path: "/api/v1/endpoints", headers: &[], body: document.as_bytes() };
        let answer = http::send(self.entrances.address(0).admin, &request, CREATED_WITHIN).await?;
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        ensure!(answer.status == 201, "the endpoint of the talkers: {} {said}", answer.status);
        self.healed(&self.all_nodes()).await.map(|_views| ())
    }

    pub fn all_nodes(&self) -> Vec<usize> {
        (0..self.cluster.len()).collect()
    }

    /// Waits until the nodes have applied the same and know the same leader; samples them once more.
    pub async fn healed(&self, nodes: &[usize]) -> anyhow::Result<Vec<View>> {
        let views =
            view::until(&self.entrances, nodes, HEALED_WITHIN, "the same state everywhere", view::same_state).await?;
        for node in nodes {
            sampler::sample(&self.entrances, *node, &self.history).await;
        }
        Ok(views)
    }

    /// Random numbers of one actor; `actor` names it within the scenario.
    pub fn rng(&self, actor: &str) -> StdRng {
        workload::rng(self.options.seed, &format!("{} {actor}", self.scenario))
    }

    /// Whether another cycle begins.
    pub fn goes_on(&self, cycle: u32) -> bool {
        let late = self.options.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        cycle < self.options.cycles && self.breaks.is_empty() && !(late && cycle > 0)
    }

    /// Reports an invariant as checked.
    pub fn hold(&mut self, invariant: &'static str, breaks: Vec<String>) {
        self.checked.insert(invariant);
        let hidden = breaks.len().saturating_sub(BREAKS_SHOWN);
        self.breaks.extend(breaks.into_iter().take(BREAKS_SHOWN).map(|text| format!("{invariant}: {text}")));
        if hidden > 0 {
            self.breaks.push(format!("{invariant}: and {hidden} more"));
        }
    }

    pub fn figure(&mut self, what: impl Into<String>, seen: impl Into<String>, to_hold: Option<(&str, bool)>) {
        let to_hold = to_hold.map(|(text, held)| (text.to_owned(), held));
        self.figures.push(Figure { scenario: self.scenario, what: what.into(), seen: seen.into(), to_hold });
    }

    /// Reads the configuration back from the nodes and compares it with what was acknowledged. `label` limits it to one
    /// round of writers; empty: everything.
    pub async fn check_configuration(&mut self, nodes: &[usize], label: &str) -> anyhow::Result<()> {
        let stored = readback::read(&self.entrances, nodes, label).await?;
        let mut records = self.history.records();
        records.retain(|record| !matches!(&record.op, Op::Write { marker, .. } if !marker.starts_with(label)));
        self.hold(
            "no_acknowledged_write_lost",
            invariants::no_acknowledged_write_lost::check(&records, &stored, nodes),
        );
        self.hold("writes_apply_once", invariants::writes_apply_once::check(&records, &stored));
        self.hold("register_is_linearizable", invariants::register_is_linearizable::check(&records, &stored));
        Ok(())
    }

    /// Checks what must hold in every scenario.
    pub fn check_always(&mut self) {
        let records = self.history.records();
        self.hold("state_hash_equal", invariants::state_hash_equal::check(&records));
        self.hold("terms_never_go_back", invariants::terms_never_go_back::check(&records));
        self.hold("one_cluster_id", invariants::one_cluster_id::check(&records));
        self.hold("cut_off_nodes_acknowledge_nothing", invariants::cut_off_nodes_acknowledge_nothing::check(&records));
        self.hold("no_voter_is_removed", invariants::no_voter_is_removed::check(&records));
        self.hold("linearizable_reads_are_fresh", invariants::linearizable_reads_are_fresh::check(&records));
        let (ended, logs) = (self.cluster.ended_by_themselves(), self.cluster.logs());
        self.hold("no_node_fails_by_itself", invariants::no_node_fails_by_itself::check(ended, &logs));
    }
}
