//! Answers other nodes' requests on connections of this one. A push is in its connection's socket or
//! outbox before `handle` returns, which keeps the order of arrival.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{ready, BoxFuture, FutureExt};
use wsgateway_cluster::{NodeId, PeerService};

use super::forward::{cause, kinds, CloseRequest, LabelRequest, PushRequest, Target};
use super::LocalConnections;
use crate::model::connection_query::ConnectionQuery;
use crate::model::delivery::{ConnectionView, Labelled, PushOutcome, Selection};
use crate::model::receipt::Receipt;
use crate::model::resume::{Claim, NotResumed};

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

    fn push_many(&self, request: &Bytes) -> Answer {
        let (selection, message) = match postcard::take_from_bytes::<Selection>(request) {
            Ok((selection, message)) => (selection, request.slice_ref(message)),
            Err(err) => return refuse(err),
        };
        let written = self.local.push_many(selection, message);
        async move { encode(&written.await?) }.boxed()
    }

    fn push_with(&self, request: &Bytes) -> Answer {
        let (PushRequest { target, options }, message) = match postcard::take_from_bytes::<PushRequest>(request) {
            Ok((head, message)) => (head, request.slice_ref(message)),
            Err(err) => return refuse(err),
        };
        if target.generation != self.local.generation() {
            return answer(&Receipt::Outcome(PushOutcome::Gone));
        }
        let pushed = self.local.push_with(target.key, message, options);
        async move { encode(&pushed.await) }.boxed()
    }

    fn query(&self, request: &[u8]) -> Answer {
        let query: ConnectionQuery = match postcard::from_bytes(request) {
            Ok(query) => query,
            Err(err) => return refuse(err),
        };
        let page = self.local.query(query);
        async move { encode(&page.await?) }.boxed()
    }

    fn label(&self, request: &[u8]) -> Answer {
        let LabelRequest { target, change } = match postcard::from_bytes(request) {
            Ok(request) => request,
            Err(err) => return refuse(err),
        };
        match target.generation == self.local.generation() {
            true => answer(&self.local.label(target.key, &change)),
            false => answer(&Labelled::Gone),
        }
    }

    /// Whether a client that is at another node may be brought here.
    fn examine(&self, request: &[u8]) -> Answer {
        let claim: Claim = match postcard::from_bytes(request) {
            Ok(claim) => claim,
            Err(err) => return refuse(err),
        };
        if claim.token.connection.generation != self.local.generation() {
            return answer(&Err::<(), _>(NotResumed::NodeLost));
        }
        answer(&self.local.examine(&claim))
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
            kinds::PUSH_WITH => self.push_with(&payload),
            kinds::QUERY => self.query(&payload),
            kinds::LABEL => self.label(&payload),
            kinds::CLOSE => self.close(&payload),
            kinds::RESUME => self.examine(&payload),
            other => ready(Err(format!("request kind {other} is not known here"))).boxed(),
        }
    }
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
