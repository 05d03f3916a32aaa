//! The bytes of somebody who dials, as a node reads them: what the fuzz target `peer_frames` drives. No part of the API.

use std::io;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::StreamExt;
use tokio::io::{join, sink};

use super::frame::{decode, read_frames};
use super::handshake::{accept, initiate, Keys, Way};
use crate::identity::{ClusterId, Identity};
use crate::transport::Channel;

fn me() -> Identity {
    let cluster_id = Arc::new(OnceLock::from(ClusterId(7)));
    Identity { node_id: 1, generation: 1, name: "n1".to_owned(), cluster_id }
}

/// Whether these bytes alone prove a peer, as the one who was dialled and as the one who dials. They never do.
pub async fn proves(bytes: &[u8]) -> bool {
    let keys = Keys::new(vec![b"the secret of the cluster".to_vec()]);
    for way in [Way::Plain { tls_here: false }, Way::Plain { tls_here: true }, Way::Tls([7; 32])] {
        let dialled = accept(&mut join(bytes, sink()), &keys, &me(), &way).await.is_ok();
        let dials = initiate(&mut join(bytes, sink()), &keys, &me(), Channel::Push, None, &way).await.is_ok();
        if dialled || dials {
            return true;
        }
    }
    false
}

/// The frames of a link that has passed its handshake, up to the first that is none: number, kind, payload.
pub async fn frames(bytes: &[u8], channel: Channel) -> Vec<io::Result<(u64, u16, Bytes)>> {
    let mut read = read_frames(bytes, channel);
    let mut found = Vec::new();
    while let Some(frame) = read.next().await {
        let decoded = frame.and_then(decode::<(u64, u16)>).map(|((id, kind), payload)| (id, kind, payload));
        let ends = decoded.is_err();
        found.push(decoded);
        if ends {
            break;
        }
    }
    found
}
