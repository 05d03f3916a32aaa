//! `wsgateway cluster backup | restore | inspect | recover`: what the cluster has agreed on, elsewhere; and the last resort.

use std::path::PathBuf;

use anyhow::{bail, Context};
use awc::http::Method;
use clap::Args;
use wsgateway_raft_store::recover::{inspect, recover, Inspected};

use super::api::{Connect, Output};
use super::block_on;

#[derive(Args)]
pub struct Backup {
    /// File to write, which must not be there yet; - for standard output
    file: PathBuf,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Args)]
pub struct Restore {
    /// What `backup` has written; - for standard input
    file: PathBuf,
    #[command(flatten)]
    connect: Connect,
}

/// A node's disk, while the node does not run.
#[derive(Args)]
pub struct Inspect {
    /// `node.data_dir` of the node
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// text for people, json for programs
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Args)]
pub struct Recover {
    /// `node.data_dir` of the node, which does not run
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// host:port where other nodes will reach it, if that has changed
    #[arg(long, value_name = "ADDRESS")]
    advertise: Option<String>,
    /// The majority is lost for good: no other node of the cluster runs or will run with its data
    #[arg(long)]
    the_others_are_lost: bool,
}

impl Backup {
    pub fn run(&self) -> anyhow::Result<()> {
        let answer = block_on(async { self.connect.api()?.call(Method::GET, "/api/v1/cluster/backup", None).await })?;
        if answer.status != 200 {
            bail!("{}", super::api::sentence(&answer));
        }
        if self.file.as_os_str() == "-" {
            print!("{}", answer.text);
            return Ok(());
        }
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let name = || self.file.display().to_string();
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.file).with_context(name)?;
        file.write_all(answer.text.as_bytes()).with_context(name)?;
        file.sync_all().with_context(name)?;
        let documents = answer.text.lines().count().saturating_sub(1);
        println!("{documents} documents are in {}", name());
        Ok(())
    }
}

impl Restore {
    pub fn run(&self) -> anyhow::Result<()> {
        let text = match self.file.as_os_str() == "-" {
            true => std::io::read_to_string(std::io::stdin()).context("standard input")?,
            false => std::fs::read_to_string(&self.file).with_context(|| self.file.display().to_string())?,
        };
        let sent = async { self.connect.api()?.expect(Method::POST, "/api/v1/cluster/restore", Some(text)).await };
        let restored = block_on(sent)?;
        match self.connect.output {
            Output::Json => println!("{restored:#}"),
            Output::Text => {
                println!("{} documents are restored, {} were there", restored["restored"], restored["unchanged"]);
            }
        }
        Ok(())
    }
}

impl Inspect {
    pub fn run(&self) -> anyhow::Result<()> {
        let found = inspect(&self.data_dir).with_context(|| self.data_dir.display().to_string())?;
        let members = |found: &Inspected| -> Vec<(String, String, bool)> {
            let member = |(id, addr): (&u64, &String)| (format!("{id:016x}"), addr.clone(), found.voters.contains(id));
            found.members.iter().map(member).collect()
        };
        if self.output == Output::Json {
            let member = |(id, addr, votes)| serde_json::json!({"nodeId": id, "clusterAddr": addr, "votes": votes});
            let shown = serde_json::json!({
                "nodeId": format!("{:016x}", found.node_id),
                "clusterId": found.cluster_id,
                "lastTerm": found.last_term,
                "lastLogIndex": found.last_log_index,
                "appliedIndex": found.applied_index,
                "members": members(&found).into_iter().map(member).collect::<Vec<_>>(),
                "removed": found.removed,
            });
            println!("{shown:#}");
            return Ok(());
        }
        println!("node {:016x} of cluster {}", found.node_id, found.cluster_id.as_deref().unwrap_or("none"));
        println!(
            "log ends at term {}, index {}; applied {}",
            found.last_term, found.last_log_index, found.applied_index
        );
        for (id, addr, votes) in members(&found) {
            println!("  {} {id} {addr}", if votes { "voter  " } else { "learner" });
        }
        if let Some(removed) = &found.removed {
            println!("{removed}");
        }
        Ok(())
    }
}

impl Recover {
    pub fn run(&self) -> anyhow::Result<()> {
        if !self.the_others_are_lost {
            bail!(
                "this makes a new cluster of one node from this disk. If a majority of the nodes can be brought back, do that \
                 instead: nothing is lost then. Otherwise compare the disks that are left with `wsgateway cluster inspect`, \
                 take the one that has most, and say --the-others-are-lost"
            );
        }
        let name = || self.data_dir.display().to_string();
        let before = inspect(&self.data_dir).with_context(name)?;
        let cluster_id = recover(&self.data_dir, self.advertise.as_deref()).with_context(name)?;
        println!("node {:016x} is cluster {cluster_id} now, with log index {}.", before.node_id, before.last_log_index);
        println!("Start it as ever. Empty the data folders of all other nodes before you start those: they join as new nodes.");
        Ok(())
    }
}
