//! Lets the inbound side bring clients back to connections of other nodes, and takes those that others bring: inbound and
//! push do not know each other.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use rustls::pki_types::CertificateDer;
use wsgateway_cluster::stream::AcceptedStream;

use crate::connections::Hub;
use crate::inbound::resume::{arrive, Brought, OtherNodes, Stray};
use crate::inbound::Caller;
use crate::model::filters::Scheme;
use crate::model::resume::Claim;
use crate::push::{self, Arrivals, Opening, Pushes};

pub(super) struct OwnTunnels {
    pub pushes: Arc<Pushes>,
}

impl OtherNodes for OwnTunnels {
    fn bring(&self, claim: Claim, head: &[u8], caller: &Caller) -> BoxFuture<'static, Brought> {
        let opening = Opening {
            claim,
            head: head.to_vec(),
            ip: caller.ip,
            host: caller.host.clone(),
            https: caller.scheme.map(|scheme| scheme == Scheme::Https),
            certificates: caller.certificates.iter().map(|certificate| certificate.to_vec()).collect(),
        };
        let pushes = self.pushes.clone();
        async move {
            match pushes.bring(&opening).await {
                push::Brought::There(io) => Brought::There(io),
                push::Brought::Not(why) => Brought::Not(why),
                push::Brought::Unreachable(reason) => Brought::Unreachable(reason),
            }
        }
        .boxed()
    }
}

/// The far end, on this node.
pub(super) struct OwnArrivals(pub Arc<Hub>);

impl Arrivals for OwnArrivals {
    fn arrive(&self, opening: Opening, io: AcceptedStream) {
        let Opening { claim, head, ip, host, https, certificates } = opening;
        let scheme = https.map(|https| if https { Scheme::Https } else { Scheme::Http });
        let certificates = certificates.into_iter().map(CertificateDer::from).collect();
        let caller = Caller { ip, host, scheme, certificates };
        arrive(&self.0, claim, Stray { io: io.into(), head: head.into(), caller });
    }
}
