//! Asks the owner's node, over the peer links. That an owner cannot be reached is never a silent success.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use wsgateway_cluster::{Channel, PeerAddress, PeerError};

use super::{PushError, Pushes};
use crate::model::connection_id::ConnectionId;
use crate::model::delivery::{CloseCause, ConnectionView, Initiator, PushOutcome, Recipients, Tally};

/// An owner that has not answered by then is reported as unreachable.
const DEADLINE: Duration = Duration::from_secs(3);

/// Request kinds between gateways: part of the wire format, never renumbered.
pub(super) mod kinds {
    pub const PUSH: u16 = 100;
    pub const DESCRIBE: u16 = 101;
    pub const CLOSE: u16 = 102;
    pub const PUSH_MANY: u16 = 103;
}

/// Names a connection of the receiver; in front of each request. The payload of a push follows raw.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Target {
    pub generation: u64,
    pub key: u128,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CloseRequest {
    pub target: Target,
    pub code: u16,
    pub reason: String,
}

/// In front of a push to several connections; the payload follows raw.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ManyTarget {
    pub endpoint: String,
    pub to: Recipients,
}

fn target(id: &ConnectionId) -> Target {
    Target { generation: id.generation, key: id.random }
}

pub(super) async fn push(
    pushes: &Pushes,
    peer: &PeerAddress,
    id: &ConnectionId,
    payload: &[u8],
) -> Result<PushOutcome, PushError> {
    let mut head = [0; 40];
    let head = postcard::to_slice(&target(id), &mut head).map_err(malformed)?;
    let mut request = BytesMut::with_capacity(head.len() + payload.len());
    request.extend_from_slice(head);
    request.extend_from_slice(payload);
    let answer = pushes.transport.call(peer, Channel::Push, kinds::PUSH, request.freeze(), DEADLINE).await;
    match answer {
        Ok(answer) => postcard::from_bytes(&answer).map_err(malformed),
        Err(err) if owner_is_dead(pushes, id, &err) => Ok(PushOutcome::Gone),
        Err(err) => Err(unreachable(&err)),
    }
}

pub(super) async fn push_many(
    pushes: &Pushes,
    peer: &PeerAddress,
    endpoint: &str,
    to: &Recipients,
    payload: &[u8],
) -> Result<Tally, PushError> {
    let head = ManyTarget { endpoint: endpoint.to_owned(), to: to.clone() };
    let mut request = postcard::to_stdvec(&head).map_err(malformed)?;
    request.extend_from_slice(payload);
    match pushes.transport.call(peer, Channel::Push, kinds::PUSH_MANY, request.into(), DEADLINE).await {
        Ok(answer) => postcard::from_bytes(&answer).map_err(malformed),
        Err(err) => Err(unreachable(&err)),
    }
}

pub(super) async fn close(
    pushes: &Pushes,
    peer: &PeerAddress,
    id: &ConnectionId,
    cause: &CloseCause,
) -> Result<bool, PushError> {
    let request = CloseRequest { target: target(id), code: cause.code, reason: cause.reason.clone() };
    let request = Bytes::from(postcard::to_stdvec(&request).map_err(malformed)?);
    match pushes.transport.call(peer, Channel::Control, kinds::CLOSE, request, DEADLINE).await {
        Ok(answer) => postcard::from_bytes(&answer).map_err(malformed),
        Err(err) if owner_is_dead(pushes, id, &err) => Ok(false),
        Err(err) => Err(unreachable(&err)),
    }
}

pub(super) async fn describe(
    pushes: &Pushes,
    peer: &PeerAddress,
    id: &ConnectionId,
) -> Result<Option<ConnectionView>, PushError> {
    let request = Bytes::from(postcard::to_stdvec(&target(id)).map_err(malformed)?);
    match pushes.transport.call(peer, Channel::Control, kinds::DESCRIBE, request, DEADLINE).await {
        Ok(answer) => postcard::from_bytes(&answer).map_err(malformed),
        Err(err) if owner_is_dead(pushes, id, &err) => Ok(None),
        Err(err) => Err(unreachable(&err)),
    }
}

/// A process that is gone has taken its connections with it. That it is gone takes two witnesses: its machine says that
/// nothing listens at its address (or another node does), and nobody has heard it gossip lately. A machine that does not answer at all may be
/// cut off with its connections alive: that is "unreachable".
fn owner_is_dead(pushes: &Pushes, id: &ConnectionId, err: &PeerError) -> bool {
    let gone = match err {
        PeerError::Unreachable { reason, .. } => reason.contains("refused"),
        // Another node lives at its address now: its disk was wiped or replaced.
        PeerError::Refused { reason, .. } => reason.contains("was expected there"),
        _ => false,
    };
    let gossip = pushes.gossip.borrow();
    let heard = gossip.get(&id.node).is_some_and(|peer| peer.live);
    !heard && gone
}

fn unreachable(err: &PeerError) -> PushError {
    match err {
        PeerError::QueueFull { .. } => PushError::Overloaded(err.to_string()),
        PeerError::Timeout { .. } | PeerError::Unreachable { sent: true, .. } => {
            PushError::OwnerUnreachable(format!("{err}; whether the message arrived is unknown"))
        }
        _ => PushError::OwnerUnreachable(err.to_string()),
    }
}

fn malformed(err: postcard::Error) -> PushError {
    PushError::OwnerUnreachable(format!("its answer was not understood: {err}"))
}

/// The cause of a close that a peer asked for.
pub(super) fn cause(code: u16, reason: String) -> CloseCause {
    CloseCause { code, reason, initiator: Initiator::Service }
}
