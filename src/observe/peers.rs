//! Answers other nodes that look at this one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{ready, BoxFuture, FutureExt};
use serde::{Deserialize, Serialize};
use wsgateway_cluster::{NodeId, PeerService};

use super::{kinds, Own};
use crate::telemetry::history::Range;
use crate::telemetry::tail::Wanted;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StatsRequest {
    pub range: Range,
    /// Unix seconds.
    pub since: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TrafficRequest {
    /// Only of this endpoint.
    pub endpoint: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TailRequest {
    /// The watch, among those of the node that asks.
    pub watch: u64,
    pub wait_millis: u32,
    pub wanted: Wanted,
}

/// A record is waited for this long at most: the link answers others meanwhile, but only so many at once.
pub(super) const TAIL_WAIT_MAX: Duration = Duration::from_millis(500);

type Answer = BoxFuture<'static, Result<Bytes, String>>;

/// This node's side.
pub struct PeerObservations(pub Arc<Own>);

impl PeerService for PeerObservations {
    fn handle(&self, from: NodeId, kind: u16, payload: Bytes) -> Answer {
        match kind {
            kinds::STATS => match postcard::from_bytes::<StatsRequest>(&payload) {
                Ok(request) => answer(&self.0.stats(request.range, request.since)),
                Err(err) => refuse(err),
            },
            kinds::TRAFFIC => match postcard::from_bytes::<TrafficRequest>(&payload) {
                Ok(request) => answer(&self.0.traffic(request.endpoint.as_deref())),
                Err(err) => refuse(err),
            },
            kinds::TAIL => match postcard::from_bytes::<TailRequest>(&payload) {
                Ok(request) => tail(self.0.clone(), from, request).boxed(),
                Err(err) => refuse(err),
            },
            kinds::TAIL_END => match postcard::from_bytes::<u64>(&payload) {
                Ok(watch) => {
                    self.0.metrics.tail.end((from, watch));
                    ready(Ok(Bytes::new())).boxed()
                }
                Err(err) => refuse(err),
            },
            other => ready(Err(format!("request kind {other} is not known here"))).boxed(),
        }
    }
}

async fn tail(own: Arc<Own>, from: NodeId, request: TailRequest) -> Result<Bytes, String> {
    let wait = Duration::from_millis(request.wait_millis.into()).min(TAIL_WAIT_MAX);
    let batch = own.metrics.tail.watch((from, request.watch), &request.wanted, wait).await?;
    encode(&batch)
}

pub(super) fn encode<T: Serialize>(value: &T) -> Result<Bytes, String> {
    postcard::to_stdvec(value).map(Bytes::from).map_err(|err| err.to_string())
}

fn answer<T: Serialize>(value: &T) -> Answer {
    ready(encode(value)).boxed()
}

fn refuse(err: postcard::Error) -> Answer {
    ready(Err(format!("malformed request: {err}"))).boxed()
}
