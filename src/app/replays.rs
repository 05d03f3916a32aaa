//! Lets the admin surface send events again by the inbound side of the worker that it runs on: the two doors do not know
//! each other, and share their workers' threads.

use std::cell::RefCell;
use std::rc::Rc;

use futures::future::{FutureExt, LocalBoxFuture};

use crate::admin::{Replayed, Replays};
use crate::inbound::replay::{resend, NotThere};
use crate::inbound::InboundWorker;
use crate::model::dead_letter::Resent;

thread_local! {
    /// A worker's thread belongs to one node for its life.
    static INBOUND: RefCell<Option<Rc<InboundWorker>>> = const { RefCell::new(None) };
}

/// On a worker's thread, once.
pub(super) fn set_worker(worker: &Rc<InboundWorker>) {
    INBOUND.set(Some(worker.clone()));
}

/// The inbound side of the calling thread, if it is a worker's.
pub(super) fn worker() -> Option<Rc<InboundWorker>> {
    INBOUND.with_borrow(Clone::clone)
}

pub(super) struct OwnReplays;

impl Replays for OwnReplays {
    fn resend(&self, endpoint_id: String, event: Resent) -> LocalBoxFuture<'static, Replayed> {
        let worker = worker();
        async move {
            let Some(worker) = worker else { return Replayed::NotHere };
            match resend(&worker, &endpoint_id, event).await {
                Ok(Ok(delivered)) => Replayed::Delivered { status: delivered.status },
                Ok(Err(failed)) => Replayed::Failed {
                    outcome: failed.failure.outcome(),
                    status: failed.failure.status(),
                    reason: failed.to_string(),
                },
                Err(NotThere::Endpoint) => Replayed::NoEndpoint,
                Err(NotThere::Backend) => Replayed::NoBackend,
            }
        }
        .boxed_local()
    }
}
