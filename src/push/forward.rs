//! Asks the owner's node, over the peer links. That an owner cannot be reached is never a silent success.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use wsgateway_cluster::{Channel, NodeId, PeerAddress, PeerError};
use wsgateway_raft_store::planted::{is_planted, one_in, Bug};

use super::{PushError, Pushes};
use crate::model::connection_id::ConnectionId;
use crate::model::connection_query::{ConnectionPage, ConnectionQuery};
use crate::model::delivery::{
    CloseCause, ConnectionView, Initiator, Labelled, Labelling, PushOutcome, Selection, Tally,
};
use crate::model::receipt::{PushOptions, Receipt};

/// An owner that has not answered by then is reported as unreachable.
const DEADLINE: Duration = Duration::from_secs(3);
/// The same for a message to many: templates of thousands of connections take their time.
const MANY_DEADLINE: Duration = Duration::from_secs(5);

/// Request kinds between gateways: part of the wire format, never renumbered.
pub(super) mod kinds {
    pub const PUSH: u16 = 100;
    pub const DESCRIBE: u16 = 101;
    pub const CLOSE: u16 = 102;
    // 103 was a push to many without groups and filters.
    pub const PUSH_MANY: u16 = 104;
    pub const LABEL: u16 = 105;
    pub const QUERY: u16 = 106;
    pub const PUSH_WITH: u16 = 107;
    pub const RESUME: u16 = 130;
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

/// In front of a push with wishes; the message follows raw.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PushRequest {
    pub target: Target,
    pub options: PushOptions,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LabelRequest {
    pub target: Target,
    pub change: Labelling,
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
    if is_planted(Bug::LostForward) && one_in(10) {
        return Ok(PushOutcome::Queued);
    }
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

pub(super) async fn push_with(
    pushes: &Pushes,
    peer: &PeerAddress,
    id: &ConnectionId,
    payload: &[u8],
    options: PushOptions,
) -> Result<Receipt, PushError> {
    let deadline = DEADLINE + Duration::from_millis(options.wait_millis.into());
    let mut request = postcard::to_stdvec(&PushRequest { target: target(id), options }).map_err(malformed)?;
    request.extend_from_slice(payload);
    match pushes.transport.call(peer, Channel::Push, kinds::PUSH_WITH, request.into(), deadline).await {
        Ok(answer) => postcard::from_bytes(&answer).map_err(malformed),
        Err(err) if owner_is_dead(pushes, id, &err) => Ok(Receipt::Outcome(PushOutcome::Gone)),
        Err(err) => Err(unreachable(&err)),
    }
}

/// The request for a message to many: the selection, and behind it the message, raw.
pub(super) fn many(selection: &Selection, payload: &[u8]) -> Result<Bytes, String> {
    let mut request = postcard::to_stdvec(selection).map_err(|err| err.to_string())?;
    request.extend_from_slice(payload);
    Ok(request.into())
}

pub(super) async fn push_many(pushes: &Pushes, peer: &PeerAddress, request: Bytes) -> Result<Tally, PeerError> {
    let answer = pushes.transport.call(peer, Channel::Push, kinds::PUSH_MANY, request, MANY_DEADLINE).await?;
    // It has carried the request out; only what it says of that is lost.
    postcard::from_bytes(&answer).map_err(|err| PeerError::Unreachable {
        addr: peer.addr.clone(),
        reason: format!("its answer was not understood: {err}"),
        sent: true,
    })
}

pub(super) async fn query(
    pushes: &Pushes,
    peer: &PeerAddress,
    query: &ConnectionQuery,
) -> Result<ConnectionPage, PeerError> {
    let malformed = |err: postcard::Error| PeerError::Remote(err.to_string());
    let request = postcard::to_stdvec(query).map_err(malformed)?;
    let answer = pushes.transport.call(peer, Channel::Control, kinds::QUERY, request.into(), DEADLINE).await?;
    postcard::from_bytes(&answer).map_err(malformed)
}

pub(super) async fn label(
    pushes: &Pushes,
    peer: &PeerAddress,
    id: &ConnectionId,
    change: &Labelling,
) -> Result<Labelled, PushError> {
    let request = LabelRequest { target: target(id), change: change.clone() };
    let request = Bytes::from(postcard::to_stdvec(&request).map_err(malformed)?);
    // On the way of pushes: one that is sent after the answer finds it so.
    match pushes.transport.call(peer, Channel::Push, kinds::LABEL, request, DEADLINE).await {
        Ok(answer) => postcard::from_bytes(&answer).map_err(malformed),
        Err(err) if owner_is_dead(pushes, id, &err) => Ok(Labelled::Gone),
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
    is_dead(pushes, Some(id.node), err)
}

pub(super) fn is_dead(pushes: &Pushes, node: Option<NodeId>, err: &PeerError) -> bool {
    let gone = err.proves_absence();
    if is_planted(Bug::Wrong410) {
        return gone || matches!(err, PeerError::Timeout { .. } | PeerError::Unreachable { .. });
    }
    let gossip = pushes.gossip.borrow();
    let heard = node.and_then(|node| gossip.get(&node)).is_some_and(|peer| peer.live);
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
