//! A question about the connections of all nodes: each is asked for its part of the page, and the parts become one.

use futures::future::join_all;
use wsgateway_cluster::PeerError;

use super::many::{Asked, Unreached};
use super::{forward, PushError, Pushes};
use crate::model::connection_query::{ConnectionPage, ConnectionQuery};

/// The page, and who has not been heard.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    pub page: ConnectionPage,
    /// That have answered, this one included.
    pub nodes: u64,
    pub unreachable: Vec<Unreached>,
}

impl Pushes {
    /// Asks every node, or only the one that is called this by its name or its id.
    pub async fn query(&self, query: &ConnectionQuery, node: Option<&str>) -> Result<Listed, PushError> {
        let is_asked = |id: u64| node.is_none_or(|wanted| wanted == self.name_of(id) || wanted == format!("{id:016x}"));
        let here = async {
            match is_asked(self.local.node_id()) {
                true => Some(self.local.query(query.clone()).await),
                false => None,
            }
        };
        let mut peers = self.peers();
        peers.retain(|Asked { node, .. }| node.node_id.is_some_and(is_asked));
        let there = join_all(peers.iter().map(|peer| forward::query(self, &peer.node, query)));
        let (here, there) = futures::join!(here, there);
        let mut listed = Listed::default();
        if let Some(here) = here {
            listed.page.merge(here.map_err(PushError::Overloaded)?, query.limit);
            listed.nodes += 1;
        }
        for (peer, answer) in peers.into_iter().zip(there) {
            match answer {
                Ok(page) => {
                    listed.page.merge(page, query.limit);
                    listed.nodes += 1;
                }
                Err(err) if forward::is_dead(self, peer.node.node_id, &err) => {}
                Err(err) => {
                    let perhaps = matches!(err, PeerError::Timeout { .. });
                    listed.unreachable.push(self.unreached(&peer.node, err.to_string(), perhaps));
                }
            }
        }
        Ok(listed)
    }
}
