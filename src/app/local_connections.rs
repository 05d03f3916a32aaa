//! This node's connections as the push room asks for them: the two rooms do not know each other.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};

use crate::config::compile::connection_filter;
use crate::connections::Hub;
use crate::model::connection_filter::ConnectionFilter;
use crate::model::connection_query::{ConnectionPage, ConnectionQuery};
use crate::model::delivery::{CloseCause, ConnectionView, Labelled, Labelling, PushOutcome, Selection, Tally};
use crate::model::receipt::{PushOptions, Receipt};
use crate::model::resume::{Claim, NotResumed};
use crate::push::LocalConnections;

pub(super) struct OwnConnections(pub Arc<Hub>);

/// The condition of a selection. The node that sent it has checked it: an error is that of a node of another version.
fn compiled(selection: &Selection) -> Result<Option<ConnectionFilter>, String> {
    let compiled = selection.filter.as_ref().map(|text| connection_filter::compile(text, "filter")).transpose();
    compiled.map_err(|findings| format!("its filter is not understood: {findings:?}"))
}

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

    fn push_many(&self, selection: Selection, payload: Bytes) -> BoxFuture<'static, Result<Tally, String>> {
        let hub = self.0.clone();
        async move {
            let filter = compiled(&selection)?;
            hub.push_many(&selection, filter, payload).await.map_err(|err| err.to_string())
        }
        .boxed()
    }

    fn query(&self, query: ConnectionQuery) -> BoxFuture<'static, Result<ConnectionPage, String>> {
        let hub = self.0.clone();
        async move {
            let filter = compiled(&query.selection)?;
            hub.query(query, filter).await.map_err(|err| err.to_string())
        }
        .boxed()
    }

    fn push_with(&self, key: u128, payload: Bytes, options: PushOptions) -> BoxFuture<'static, Receipt> {
        self.0.clone().push_with(key, payload, options).boxed()
    }

    fn examine(&self, claim: &Claim) -> Result<(), NotResumed> {
        self.0.examine(claim)
    }

    fn label(&self, key: u128, change: &Labelling) -> Labelled {
        self.0.label(key, change)
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
