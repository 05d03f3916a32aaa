//! Writes and linearizable reads: find the leader, ask it, wait, give up in time. Called by `store` (for callers on this
//! node) and `service` (for other nodes).
//!
//! Every request ends: within two seconds when there is no leader or no quorum, within [`DEADLINE`] otherwise. "No
//! leader" is said only when nothing was written; whenever something may have been, the answer is "unknown". A retry is
//! safe since the request id goes with it.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::error::{CheckIsLeaderError, ClientWriteError, RaftError};
use openraft::ServerState;
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};
use wsgateway_cluster::{NodeId, PeerAddress, PeerError};

use crate::node::{Node, SILENCE_MAX};
use crate::planted::{is_planted, Bug};
use crate::raft_types::Proposal;
use crate::rpc::{self, kind, LeaderAnswer, ProposeAnswer, ProposeRequest, ReadIndexAnswer};
use crate::status::Metrics;
use crate::types::{ProposeError, Reply};

/// The longest that any request takes, with a leader that lives.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// Between two looks at whether the leader is still there, and between two tries.
const PAUSE: Duration = Duration::from_millis(50);

impl Node {
    /// Commits a command, on whichever node leads.
    pub async fn propose(&self, request: ProposeRequest) -> Result<Reply, ProposeError> {
        let payload = rpc::to_json(&request).map_err(|error| ProposeError::Storage(error.to_string()))?;
        self.ask_leader(kind::PROPOSE, payload, || self.propose_here(&request)).await
    }

    /// Waits until this node has applied everything that was committed anywhere before the call; the index.
    pub async fn linearize(&self) -> Result<u64, ProposeError> {
        let started = Instant::now();
        if is_planted(Bug::StaleRead) {
            return Ok(*self.view.applied().borrow());
        }
        let index = self.ask_leader(kind::READ_INDEX, Bytes::new(), || self.read_index_here()).await?;
        let mut applied = self.view.applied();
        let left = DEADLINE.saturating_sub(started.elapsed());
        let caught_up = tokio::select! {
            caught_up = timeout(left, applied.wait_for(|applied| *applied >= index)) => matches!(caught_up, Ok(Ok(_))),
            () = self.leader_silent(started) => false,
        };
        if caught_up {
            return Ok(index);
        }
        Err(ProposeError::NoLeader(format!("this node has not caught up with log index {index}")))
    }

    /// Commits a command if this node leads.
    pub async fn propose_here(&self, request: &ProposeRequest) -> ProposeAnswer {
        if let Some(answer) = self.cannot_lead() {
            return answer;
        }
        if self.storage.is_low_on_room() {
            let text = format!("node {:016x}, which leads, has no room for changes", self.id());
            return LeaderAnswer::Failed(ProposeError::Full(text));
        }
        let proposal = match Proposal::new(request.request_id.clone(), &request.command) {
            Ok(proposal) => proposal.with_note(request.note.clone()),
            Err(error) => return LeaderAnswer::Failed(ProposeError::Storage(error.to_string())),
        };
        // Boxed, since it proposes too.
        Box::pin(self.raise_if_alone(proposal.v)).await;
        if let Err(error) = self.may_propose(proposal.v) {
            return LeaderAnswer::Failed(error);
        }
        let started = Instant::now();
        let written = tokio::select! {
            written = timeout(DEADLINE, self.raft.client_write(proposal)) => written,
            () = self.quorum_silent(started) => {
                let text = "the leader lost its quorum while the write was under way".to_owned();
                return LeaderAnswer::Failed(ProposeError::Unknown(text));
            }
        };
        match written {
            Ok(Ok(response)) => match response.data.0 {
                Some(reply) => LeaderAnswer::Done(reply),
                None => LeaderAnswer::Failed(ProposeError::Storage("a command was applied without a reply".to_owned())),
            },
            // Refused, or its log entry was replaced by another leader's: not executed either way.
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => LeaderAnswer::NotLeader,
            Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error)))) => {
                LeaderAnswer::Failed(ProposeError::Storage(error.to_string()))
            }
            Ok(Err(RaftError::Fatal(fatal))) => LeaderAnswer::Failed(ProposeError::Storage(fatal.to_string())),
            Err(_) => LeaderAnswer::Failed(ProposeError::Unknown(format!("not committed within {DEADLINE:?}"))),
        }
    }

    /// The index up to which a reader has to wait, if this node leads and a quorum confirms it.
    pub async fn read_index_here(&self) -> ReadIndexAnswer {
        if let Some(answer) = self.cannot_lead() {
            return answer;
        }
        match timeout(SILENCE_MAX, self.raft.get_read_log_id()).await {
            Ok(Ok((read, _))) => LeaderAnswer::Done(read.map_or(0, |log_id| log_id.index)),
            Ok(Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(_)))) => LeaderAnswer::NotLeader,
            Ok(Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(error)))) => {
                LeaderAnswer::Failed(ProposeError::NoLeader(error.to_string()))
            }
            Ok(Err(RaftError::Fatal(fatal))) => LeaderAnswer::Failed(ProposeError::Storage(fatal.to_string())),
            Err(_) => LeaderAnswer::Failed(ProposeError::NoLeader("no quorum confirms the leader".to_owned())),
        }
    }

    /// Why this node would not take a leader's request now.
    fn cannot_lead<T>(&self) -> Option<LeaderAnswer<T>> {
        let metrics = self.metrics();
        if metrics.state != ServerState::Leader || self.handing_over.load(Ordering::Relaxed) {
            return Some(LeaderAnswer::NotLeader);
        }
        let silent = Duration::from_millis(metrics.millis_since_quorum_ack.unwrap_or(0));
        if silent > SILENCE_MAX {
            let text = format!("this node leads, but no quorum has answered for {} ms", silent.as_millis());
            return Some(LeaderAnswer::Failed(ProposeError::NoLeader(text)));
        }
        None
    }

    async fn ask_leader<T, F, H>(&self, kind: u16, payload: Bytes, here: H) -> Result<T, ProposeError>
    where
        T: DeserializeOwned,
        F: Future<Output = LeaderAnswer<T>>,
        H: Fn() -> F,
    {
        let started = Instant::now();
        // Set once the request may have been executed somewhere without an answer.
        let mut lost: Option<String> = None;
        loop {
            let metrics = self.metrics();
            if let Err(fatal) = &metrics.running_state {
                return Err(ProposeError::Storage(fatal.to_string()));
            }
            let reason = match metrics.current_leader {
                None => "no leader is known".to_owned(),
                Some(leader) if leader == self.id() => match here().await {
                    LeaderAnswer::Done(answer) => return Ok(answer),
                    LeaderAnswer::Failed(error) => return Err(worse(lost, error)),
                    LeaderAnswer::NotLeader => "this node stops leading".to_owned(),
                },
                Some(leader) => match self.member_address(&metrics, leader) {
                    None => format!("the address of the leader {leader:016x} is not known yet"),
                    Some(address) => match self.ask_peer(leader, &address, kind, &payload, started).await {
                        Ok(LeaderAnswer::Done(answer)) => return Ok(answer),
                        Ok(LeaderAnswer::NotLeader) => format!("node {leader:016x} does not lead any more"),
                        Ok(LeaderAnswer::Failed(ProposeError::Storage(text))) => lost.insert(text).clone(),
                        Ok(LeaderAnswer::Failed(error)) => return Err(worse(lost, error)),
                        Err(failed) if failed.executed => lost.insert(failed.reason).clone(),
                        Err(failed) => failed.reason,
                    },
                },
            };
            if started.elapsed() > DEADLINE || self.leader_silent_now(started) {
                return Err(match lost {
                    Some(lost) => ProposeError::Unknown(lost),
                    None => ProposeError::NoLeader(reason),
                });
            }
            sleep(PAUSE).await;
        }
    }

    async fn ask_peer<T: DeserializeOwned>(
        &self,
        leader: NodeId,
        address: &PeerAddress,
        kind: u16,
        payload: &Bytes,
        started: Instant,
    ) -> Result<LeaderAnswer<T>, FailedCall> {
        let left = DEADLINE.saturating_sub(started.elapsed());
        let called = tokio::select! {
            called = self.peers.call(address, kind, payload.clone(), left) => called,
            () = self.leader_silent(started) => {
                let reason = "the leader fell silent while the request was under way".to_owned();
                return Err(FailedCall { reason, executed: true });
            }
            () = self.another_leader(leader) => {
                let reason = "another node leads before the leader's answer came".to_owned();
                return Err(FailedCall { reason, executed: true });
            }
        };
        match called {
            Ok(answer) => {
                rpc::from_json(&answer).map_err(|error| FailedCall { reason: error.to_string(), executed: true })
            }
            Err(error) => {
                let executed = match &error {
                    PeerError::Unreachable { sent, .. } => *sent,
                    PeerError::QueueFull { .. } | PeerError::Refused { .. } => false,
                    PeerError::Timeout { .. } | PeerError::Remote(_) => true,
                };
                Err(FailedCall { reason: error.to_string(), executed })
            }
        }
    }

    /// No sign of a leader, neither since the request began nor within the last moments before.
    fn leader_silent_now(&self, started: Instant) -> bool {
        started.elapsed().min(self.contact.silent_for()) > SILENCE_MAX
    }

    async fn leader_silent(&self, started: Instant) {
        while !self.leader_silent_now(started) {
            sleep(PAUSE).await;
        }
    }

    /// Ends when this node knows of another leader than this one.
    async fn another_leader(&self, than: NodeId) {
        let mut metrics = self.raft.metrics();
        let is_another = |metrics: &Metrics| metrics.current_leader.is_some_and(|leader| leader != than);
        let stopped = metrics.wait_for(is_another).await.is_err();
        if stopped {
            // Raft has stopped; the other branches come to their end.
            std::future::pending::<()>().await;
        }
    }

    /// Ends when this node, as the leader, has not heard from a quorum for too long, or is not the leader any more and
    /// hears of no other.
    async fn quorum_silent(&self, started: Instant) {
        loop {
            sleep(PAUSE).await;
            let metrics = self.metrics();
            let silent = match metrics.state {
                ServerState::Leader => Duration::from_millis(metrics.millis_since_quorum_ack.unwrap_or(0)),
                _ => self.contact.silent_for(),
            };
            if started.elapsed().min(silent) > SILENCE_MAX {
                return;
            }
        }
    }
}

/// A call to the leader without an answer.
struct FailedCall {
    reason: String,
    /// The leader may have carried it out.
    executed: bool,
}

/// Once a try may have been executed, "no leader" (nothing written) would be a lie.
fn worse(lost: Option<String>, error: ProposeError) -> ProposeError {
    match (lost, error) {
        (Some(lost), ProposeError::NoLeader(text) | ProposeError::Full(text) | ProposeError::MixedVersions(text)) => {
            ProposeError::Unknown(format!("{lost}; then: {text}"))
        }
        (_, error) => error,
    }
}
