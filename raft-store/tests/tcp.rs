//! The store over real peer links: what the in-process sandbox cannot show, the handshake and the frames.

use std::sync::Arc;
use std::time::Duration;

use wsgateway_cluster::tcp::{TcpOptions, TcpTransport};
use wsgateway_cluster::Services;
use wsgateway_raft_store::types::{Authorship, Command, Reply};
use wsgateway_raft_store::{Disk, RaftStore, StoreOptions};

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_become_one_cluster_over_tcp() {
    let mut started = Vec::new();
    for name in ["one", "two", "three"] {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path(), name).unwrap();
        let services = Services::default();
        let options = TcpOptions::new("127.0.0.1:0".parse().unwrap(), vec![b"a secret of some length".to_vec()]);
        let transport = TcpTransport::start(options, disk.identity(), services.clone()).unwrap();
        started.push((dir, disk, services, transport));
    }
    let seeds: Vec<String> = started.iter().map(|(_, _, _, transport)| transport.local_addr().to_string()).collect();
    let mut nodes = Vec::new();
    for ((dir, disk, services, transport), addr) in started.into_iter().zip(&seeds) {
        let options = StoreOptions {
            seeds: seeds.clone(),
            bootstrap_expect: 3,
            advertise: addr.clone(),
            promote_after: Duration::from_millis(200),
            autopilot_interval: Duration::from_millis(100),
            probe_interval: Duration::from_millis(100),
            ..StoreOptions::default()
        };
        let store = RaftStore::start(disk, transport.clone(), &services, options).await.unwrap();
        nodes.push((dir, store, transport));
    }
    let in_time = async {
        while !nodes.iter().all(|(_, store, _)| store.status().voters.len() == 3 && store.status().leader.is_some()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), in_time).await.expect("three voters");
    for (number, (_, store, _)) in nodes.iter().enumerate() {
        let by = Authorship { author: "test".into(), message: String::new(), at: 1 };
        // Larger than a replication batch, so that one entry fills a request.
        let (kind, id, key, document) =
            ("endpoint".into(), format!("n{number}"), format!("/n{number}"), "x".repeat(1 << 20));
        let reply = store.propose(String::new(), Command::Create { kind, id, key, document, by }).await.unwrap();
        assert!(matches!(reply, Reply::Done { .. }), "{reply:?}");
    }
    for (_, store, _) in &nodes {
        store.linearize().await.unwrap();
        assert_eq!(store.heads("endpoint").len(), 3);
    }
    for (_, store, transport) in nodes {
        store.shutdown().await;
        Arc::clone(&transport).shutdown().await;
    }
}
