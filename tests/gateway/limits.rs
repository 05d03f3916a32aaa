//! Limits of the machine: how many files a process may open.

use crate::document::document;
use crate::sandbox::{own_cluster_turn, unique_path, Cluster, Plan};
use crate::ws::Client;

#[tokio::test]
async fn a_node_says_at_its_start_what_the_open_files_limit_allows() {
    let _turn = own_cluster_turn().await;
    for max in [256_u64, 20_000] {
        let cluster = Cluster::start_with(1, Plan { open_files_max: Some(max), ..Plan::default() }).await;
        let node = &cluster.nodes[0];
        let endpoint = cluster.create(&document(&unique_path("limits"), &[])).await;
        Client::connect(node, &endpoint.path).await;
        let log = node.log();
        let spelled = [max.to_string(), "20,000".into()];
        let says = |line: &&str| {
            let line = line.to_lowercase();
            (line.contains("file") || line.contains("descriptor")) && spelled.iter().any(|max| line.contains(max))
        };
        let line =
            log.lines().find(says).unwrap_or_else(|| panic!("nothing about {max} open files\n{}", node.log_tail()));
        println!("{line}");
    }
}
