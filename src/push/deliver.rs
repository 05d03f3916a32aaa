//! Answers other nodes' requests on connections of this one. A push is in its connection's socket or
//! outbox before `handle` returns, which keeps the order of arrival.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{ready, BoxFuture, FutureExt};
use wsgateway_cluster::{NodeId, PeerService};

use super::forward::{cause, kinds, CloseRequest, ManyTarget, Target};
use super::LocalConnections;
use crate::model::delivery::{ConnectionView, PushOutcome, Recipients, Tally};

type Answer = BoxFuture<'static, Result<Bytes, String>>;

/// This node's side of forwarded pushes.
pub struct PeerPushes {
    local: Arc<dyn LocalConnections>,
}

impl PeerPushes {
    pub fn new(local: Arc<dyn LocalConnections>) -> PeerPushes {
        PeerPushes { local }
    }

    fn push(&self, request: &[u8]) -> Answer {
        let (target, payload) = match postcard::take_from_bytes::<Target>(request) {
            Ok(taken) => taken,
            Err(err) => return refuse(err),
        };
        if target.generation != self.local.generation() {
            return answer(&PushOutcome::Gone);
        }
        answer(&self.local.push(target.key, payload))
    }

    fn push_many(&self, request: &[u8]) -> Answer {
        match postcard::take_from_bytes::<ManyTarget>(request) {
            Ok((ManyTarget { endpoint, to }, payload)) => {
                let (local, payload) = (self.local.clone(), Bytes::copy_from_slice(payload));
                async move { encode(&push_many(local, endpoint, to, payload).await?) }.boxed()
            }
            Err(err) => refuse(err),
        }
    }

    fn describe(&self, request: &[u8]) -> Answer {
        let target: Target = match postcard::from_bytes(request) {
            Ok(target) => target,
            Err(err) => return refuse(err),
        };
        if target.generation != self.local.generation() {
            return answer(&None::<ConnectionView>);
        }
        let described = self.local.describe(target.key);
        async move { encode(&described.await?) }.boxed()
    }

    fn close(&self, request: &[u8]) -> Answer {
        let CloseRequest { target, code, reason } = match postcard::from_bytes(request) {
            Ok(request) => request,
            Err(err) => return refuse(err),
        };
        if target.generation != self.local.generation() {
            return answer(&false);
        }
        let closed = self.local.close(target.key, cause(code, reason));
        async move { encode(&closed.await?) }.boxed()
    }
}

impl PeerService for PeerPushes {
    fn handle(&self, _from: NodeId, kind: u16, payload: Bytes) -> Answer {
        match kind {
            kinds::PUSH => self.push(&payload),
            kinds::DESCRIBE => self.describe(&payload),
            kinds::PUSH_MANY => self.push_many(&payload),
            kinds::CLOSE => self.close(&payload),
            other => ready(Err(format!("request kind {other} is not known here"))).boxed(),
        }
    }
}

/// Many sockets, and a template for each: not on a thread that has other nodes' heartbeats to answer.
pub(super) async fn push_many(
    local: Arc<dyn LocalConnections>,
    endpoint: String,
    to: Recipients,
    payload: Bytes,
) -> Result<Tally, String> {
    let written = tokio::task::spawn_blocking(move || local.push_many(&endpoint, &to, &payload)).await;
    written.map_err(|err| format!("a push to many did not end: {err}"))
}

fn encode<T: serde::Serialize>(value: &T) -> Result<Bytes, String> {
    postcard::to_stdvec(value).map(Bytes::from).map_err(|err| err.to_string())
}

fn answer<T: serde::Serialize>(value: &T) -> Answer {
    ready(encode(value)).boxed()
}

fn refuse(err: postcard::Error) -> Answer {
    ready(Err(format!("malformed request: {err}"))).boxed()
}
