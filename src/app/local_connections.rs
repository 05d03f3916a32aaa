//! This node's connections as the push room asks for them: the two rooms do not know each other.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};

use crate::connections::Hub;
use crate::model::delivery::{CloseCause, ConnectionView, PushOutcome, Recipients, Tally};
use crate::push::LocalConnections;

pub(super) struct OwnConnections(pub Arc<Hub>);

impl LocalConnections for OwnConnections {
    fn node_id(&self) -> u64 {
        self.0.node_id
    }

    fn generation(&self) -> u64 {
        self.0.generation
    }

    fn push(&self, key: u128, payload: &[u8]) -> PushOutcome {
        self.0.push(key, payload)
    }

    fn push_many(&self, endpoint: &str, to: &Recipients, payload: &[u8]) -> Tally {
        self.0.push_many(endpoint, to, payload)
    }

    fn close(&self, key: u128, cause: CloseCause) -> BoxFuture<'static, Result<bool, String>> {
        let hub = self.0.clone();
        async move { hub.close(key, cause).await.map_err(|err| err.to_string()) }.boxed()
    }

    fn describe(&self, key: u128) -> BoxFuture<'static, Result<Option<ConnectionView>, String>> {
        let hub = self.0.clone();
        async move { hub.describe(key).await.map_err(|err| err.to_string()) }.boxed()
    }
}
