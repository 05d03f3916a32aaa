//! `wsgateway cluster`: shows the nodes, has one leave, removes one. What is about its data is in `cluster_data`.

use anyhow::bail;
use awc::http::Method;
use clap::{Args, Subcommand};
use serde_json::Value;

use super::api::{encoded, text, Api, Connect, Output};
use super::block_on;
use super::cluster_data::{Backup, Inspect, Recover, Restore};
use super::table::table;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  wsgateway cluster status\n  wsgateway cluster drain n2\n  wsgateway cluster remove n3 --message \"its machine is gone\""
)]
pub struct Cluster {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Subcommand)]
enum Deed {
    /// Show the nodes as one of them sees them.
    #[command(after_help = "Example:\n  wsgateway cluster status --server http://127.0.0.1:9002")]
    Status {
        /// Also nodes that are members no more: they stay listed for a day
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        connect: Connect,
    },
    /// Have a node leave in order: it closes its connections one after the other, finishes what is under way, and ends.
    #[command(
        after_help = "It stays a member: start it again and it goes on.\n\nExample:\n  wsgateway cluster drain n2"
    )]
    Drain(OfNode),
    /// Remove a node for good, at once: another one takes its vote.
    #[command(
        after_help = "A node that is gone is removed by itself after cluster.remove_dead_after_seconds, or ten seconds after it was last heard of when another one answers at its address. One that lives leaves as with drain. A removed node does not start again with its data.\n\nExample:\n  wsgateway cluster remove n3 --message \"its machine is gone\""
    )]
    Remove(OfNode),
    /// Write all endpoints with their versions, and the tokens, into a file.
    #[command(after_help = "Example:\n  wsgateway cluster backup wsgateway-$(date +%F).ndjson")]
    Backup(Backup),
    /// Bring a backup back, into an empty cluster or one that has the same.
    #[command(after_help = "Example:\n  wsgateway cluster restore wsgateway-2026-11-30.ndjson")]
    Restore(Restore),
    /// Say what the disk of a node holds that does not run.
    #[command(after_help = "Example:\n  wsgateway cluster inspect --data-dir /var/lib/wsgateway")]
    Inspect(Inspect),
    /// The last resort: make a new cluster from one disk when the majority is lost for good.
    #[command(
        after_help = "Example:\n  wsgateway cluster recover --data-dir /var/lib/wsgateway --the-others-are-lost"
    )]
    Recover(Recover),
}

#[derive(Args)]
struct OfNode {
    /// Name or id of a node
    node: String,
    /// Why; for the audit log
    #[arg(short, long)]
    message: Option<String>,
    #[command(flatten)]
    connect: Connect,
}

impl Cluster {
    pub fn run(self) -> anyhow::Result<()> {
        match self.deed {
            Deed::Status { all, connect } => block_on(status(&connect, all)),
            Deed::Drain(of) => block_on(of.call(Method::POST, "/drain", "leaves")),
            Deed::Remove(of) => block_on(of.call(Method::DELETE, "", "is removed")),
            Deed::Backup(backup) => backup.run(),
            Deed::Restore(restore) => restore.run(),
            Deed::Inspect(inspect) => inspect.run(),
            Deed::Recover(recover) => recover.run(),
        }
    }
}

/// What the voters' states mean for changes. A node goes on naming the leader that it had last, or itself.
fn verdict(cluster: &Value) -> String {
    let voters = || {
        let nodes = cluster["nodes"].as_array().into_iter().flatten();
        nodes.filter(|node| matches!(node["role"].as_str(), Some("leader" | "voter")))
    };
    let (all, gone) = (voters().count(), voters().filter(|node| node["live"] != true).count());
    match (all, gone) {
        (0, _) => "this node is in no cluster yet: its log says what it waits for".to_owned(),
        (_, 0) => format!("{all} voters, all of them there"),
        _ if 2 * (all - gone) <= all => format!("{gone} of {all} voters are gone: no majority, changes are refused"),
        _ => format!("{gone} of {all} voters are gone"),
    }
}

async fn status(connect: &Connect, all: bool) -> anyhow::Result<()> {
    let cluster = connect.api()?.get("/api/v1/cluster").await?;
    if connect.output == Output::Json {
        println!("{cluster:#}");
        return Ok(());
    }
    let leader = cluster["leader"].as_str().unwrap_or("none known");
    println!("cluster {}, term {}, leader {leader}", cluster["clusterId"].as_str().unwrap_or("none"), cluster["term"]);
    println!("as {} sees it: {}", text(&cluster, "node"), verdict(&cluster));
    let is = |node: &Value, field: &str| node[field] == true;
    let row = |node: &Value| {
        let state = match (is(node, "live"), is(node, "ready")) {
            (true, true) => "ready",
            (true, false) => "not ready",
            (false, _) => "gone",
        };
        let mut row: Vec<String> = ["name", "nodeId", "role"].map(|field| text(node, field).to_owned()).into();
        row.push(state.to_owned());
        row.extend(["activeConnections", "appliedIndex"].map(|field| node[field].to_string()));
        row.extend(["version", "clusterAddr", "adminAddr"].map(|field| text(node, field).to_owned()));
        row
    };
    let is_shown = |node: &&Value| all || is(node, "live") || node["role"] != "none";
    let mut nodes: Vec<&Value> = cluster["nodes"].as_array().into_iter().flatten().filter(is_shown).collect();
    nodes.sort_by_key(|node| text(node, "name"));
    let rows = nodes.into_iter().map(row).collect();
    let header = ["NAME", "ID", "ROLE", "STATE", "CONNECTIONS", "APPLIED", "VERSION", "CLUSTER", "ADMIN"];
    print!("{}", table(&header, rows));
    Ok(())
}

impl OfNode {
    async fn call(&self, method: Method, what: &str, done: &str) -> anyhow::Result<()> {
        let api = self.connect.api()?;
        let node = self.find(&api).await?;
        let id = text(&node, "nodeId");
        let message = self.message.as_ref().map(|message| format!("?message={}", encoded(message)));
        let path = format!("/api/v1/cluster/nodes/{}{what}{}", encoded(id), message.unwrap_or_default());
        api.expect(method, &path, None).await?;
        match self.connect.output {
            Output::Json => println!("{node:#}"),
            Output::Text => println!("{} ({id}) {done}", text(&node, "name")),
        }
        Ok(())
    }

    /// By id, or by the name of a member: a node that is none any more may have had the same.
    async fn find(&self, api: &Api) -> anyhow::Result<Value> {
        let cluster = api.get("/api/v1/cluster").await?;
        let nodes = || cluster["nodes"].as_array().into_iter().flatten();
        if let Some(node) = nodes().find(|node| node["nodeId"] == self.node.as_str()) {
            return Ok(node.clone());
        }
        // One that nobody has heard of since a node was started, or that was removed already.
        if self.node.len() == 16 && self.node.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(serde_json::json!({"nodeId": self.node, "name": "node"}));
        }
        let named: Vec<&Value> =
            nodes().filter(|node| node["name"] == self.node.as_str() && node["role"] != "none").collect();
        match named.as_slice() {
            [node] => Ok((*node).clone()),
            [] => bail!("there is no node {}; `wsgateway cluster status` lists them all", self.node),
            several => {
                let ids: Vec<&str> = several.iter().map(|node| text(node, "nodeId")).collect();
                bail!("{} nodes are called {}: say which one by its id ({})", ids.len(), self.node, ids.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_voters_say_whether_changes_are_taken() {
        let said = |nodes: &[(&str, bool)]| {
            let nodes: Vec<Value> = nodes.iter().map(|(role, live)| json!({"role": role, "live": live})).collect();
            verdict(&json!({"nodes": nodes}))
        };
        assert_eq!(
            said(&[("leader", true), ("voter", true), ("voter", true), ("none", false)]),
            "3 voters, all of them there"
        );
        assert_eq!(said(&[("leader", true), ("voter", true), ("voter", false)]), "1 of 3 voters are gone");
        let lost = said(&[("leader", true), ("voter", false), ("voter", false), ("learner", true)]);
        assert_eq!(lost, "2 of 3 voters are gone: no majority, changes are refused");
        assert!(said(&[("none", true)]).contains("in no cluster yet"));
    }
}
