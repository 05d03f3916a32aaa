//! Gives the room of wills what it asks of other rooms: this node's connections, and the inbound side that carries wills
//! out.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use wsgateway_cluster::membership::Membership;
use wsgateway_cluster::tcp::TcpTransport;
use wsgateway_cluster::{Identity, Services};
use wsgateway_raft_store::RaftStore;

use super::replays;
use crate::connections::connection::Facts;
use crate::connections::Hub;
use crate::inbound::bereaved;
use crate::model::live_endpoint::LiveEndpoint;
use crate::wills::{self, Heirs, Keeper, Surroundings, Will, Wills};

/// After a worker had no room for more work.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) fn around(
    identity: &Identity,
    store: &RaftStore,
    membership: &Membership,
    transport: &Arc<TcpTransport>,
) -> Surroundings {
    let (members_of, removed_of) = (store.clone(), store.clone());
    Surroundings {
        node_id: identity.node_id,
        generation: identity.generation,
        gossip: membership.watch(),
        members: Arc::new(move || members_of.members()),
        is_removed: Arc::new(move |node| removed_of.is_removed(node)),
        transport: transport.clone(),
    }
}

/// Both sides, on the runtime of the cluster.
pub(super) fn start(
    around: Surroundings,
    hub: &Arc<Hub>,
    services: &Services,
    runtime: &Handle,
) -> (Arc<Wills>, Arc<Keeper>) {
    let keeper = Keeper::new(around.clone(), Arc::new(OwnHeirs(hub.clone())));
    services.register(wills::KINDS, keeper.clone());
    runtime.spawn(keeper.clone().run());
    let own = Arc::new(Wills::default());
    runtime.spawn(own.clone().run(around));
    (own, keeper)
}

/// A version with a disconnect route is for connections as well that began under one without.
pub(super) fn reread(wills: &Arc<Wills>, hub: &Arc<Hub>, runtime: &Handle, endpoint: &LiveEndpoint) {
    if endpoint.current().routes.disconnect.is_none() || endpoint.connections.load(Ordering::Relaxed) == 0 {
        return;
    }
    let (wills, hub, id) = (wills.clone(), hub.clone(), endpoint.current().id.clone());
    runtime.spawn_blocking(move || {
        let mut number = 0;
        while let Some(part) = hub.part_of_connections(number) {
            number += 1;
            let without =
                |(facts, of): &&(Arc<Facts>, Arc<LiveEndpoint>)| of.current().id == id && !wills.has(facts.id.random);
            for (facts, of) in part.iter().filter(without) {
                wills.leave(bereaved::will(facts, of));
                // It may have ended meanwhile, and taken back what was not here yet.
                if !hub.is_open(facts.id.random) {
                    wills.take_back(facts.id.random);
                }
            }
        }
    });
}

struct OwnHeirs(Arc<Hub>);

impl Heirs for OwnHeirs {
    fn carry_out(&self, will: Will) -> BoxFuture<'static, bool> {
        let hub = self.0.clone();
        async move {
            loop {
                let (done, carried_out) = oneshot::channel::<()>();
                let again = will.clone();
                let work = move || {
                    let Some(worker) = replays::worker() else { return };
                    actix_rt::spawn(async move {
                        bereaved::carry_out(&worker, &again).await;
                        // Whoever waits for it is there: it holds the other end.
                        let _heard = done.send(());
                    });
                };
                match hub.run_on_worker_of(will.key, Box::new(work)) {
                    // An error: the worker has ended, and the work with it.
                    Ok(()) => return carried_out.await.is_ok(),
                    Err(_overloaded) => tokio::time::sleep(PAUSE).await,
                }
            }
        }
        .boxed()
    }
}
