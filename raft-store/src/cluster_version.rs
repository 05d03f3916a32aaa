//! What every node of the cluster understands: a number that is part of the state. A command that came with a later program
//! is proposed only when the number says that no node would have to halt at it, and who understands less is not let in.
//! The leader raises it, never lowers it. Used by `autopilot` (raises), `propose` (asks) and `bootstrap` (whom to let in);
//! imports `types` and `node`.
//!
//! Invariant: while the number is raised and while somebody is let in, `membership_change` is held, so that nobody comes
//! in between the look at the members and the number.

use std::collections::BTreeMap;

use wsgateway_cluster::NodeId;

use crate::node::Node;
use crate::removed::{self, AUTOPILOT};
use crate::rpc::ProposeRequest;
use crate::types::{Authorship, Command, ProposeError, Reply};

/// The kind of the one document that holds it.
pub const KIND: &str = "cluster-version";
const ID: &str = "cluster";
/// What programs from before there was such a number understand.
pub const FIRST: u32 = 2;

impl Node {
    /// The newest version of [`crate::raft_types::Proposal`] that all nodes understand.
    pub fn cluster_version(&self) -> u32 {
        let Some(head) = self.view.head(KIND, ID) else { return FIRST };
        match self.view.version(KIND, ID, head.active_version) {
            Ok(Some(version)) => version.document.parse().unwrap_or(FIRST),
            // It is asked before something that only it allows.
            Ok(None) | Err(_) => FIRST,
        }
    }

    /// Whether a proposal of this version may be made.
    pub fn may_propose(&self, v: u32) -> Result<(), ProposeError> {
        if v <= FIRST || v <= self.cluster_version() {
            return Ok(());
        }
        let text = format!(
            "this needs version {v}, and nodes of the cluster understand {} only, as far as is known; when all of them run \
             a newer program, wait a moment",
            self.cluster_version()
        );
        Err(ProposeError::MixedVersions(text))
    }

    /// A node alone asks nobody: what it needs is what it understands, and from then on who understands less stays out.
    pub async fn raise_if_alone(&self, v: u32) {
        if v <= FIRST || v <= self.cluster_version() {
            return;
        }
        // Somebody is coming in: the autopilot asks them.
        let Ok(_nobody_comes_in) = self.membership_change.try_lock() else { return };
        self.raise_cluster_version(&BTreeMap::new()).await;
    }

    /// Why a node that is no member yet, and understands so much, is not let in.
    pub fn too_old(&self, understands: u32) -> Option<String> {
        let needed = self.cluster_version();
        (understands < needed).then(|| {
            format!(
                "its program is too old: it understands version {understands} of the cluster's commands, and this \
                 cluster has come to version {needed}; upgrade it"
            )
        })
    }

    /// Raises it to what all members have said that they understand. `membership_change` is held by the caller.
    pub async fn raise_cluster_version(&self, understood: &BTreeMap<NodeId, u32>) {
        let metrics = self.metrics();
        let mut members = metrics.membership_config.membership().nodes().map(|(id, _)| *id);
        let all = members.try_fold(self.options.understands, |least, id| {
            let its = if id == self.id() { Some(&self.options.understands) } else { understood.get(&id) };
            its.map(|its| least.min(*its))
        });
        let (Some(all), known) = (all, self.cluster_version()) else { return };
        if all <= known {
            return;
        }
        let (kind, id) = (KIND.to_owned(), ID.to_owned());
        let by = Authorship { author: AUTOPILOT.to_owned(), message: String::new(), at: removed::now() };
        let document = all.to_string();
        let command = match self.view.head(KIND, ID) {
            None => Command::Create { kind, id: id.clone(), key: id, document, by },
            Some(head) => {
                let expected = Some(head.active_version);
                Command::Update { kind, id: id.clone(), key: id, document, activate: true, expected, by }
            }
        };
        let request = ProposeRequest { request_id: format!("cluster-version:{all}"), command, note: None };
        match self.propose(request).await {
            Ok(Reply::Done { .. }) => tracing::info!(version = all, "all nodes understand a newer version"),
            Ok(Reply::Rejected { rejection }) => {
                tracing::debug!(%rejection, "the version of the cluster was raised already")
            }
            Err(error) => tracing::debug!(%error, "the version of the cluster cannot be raised now"),
        }
    }
}
