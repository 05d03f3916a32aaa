//! Reads all configuration back from every node, version by version. Imports cluster, http and view.

use std::time::Duration;

use anyhow::{ensure, Context};
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;

use crate::cluster::{name, Entrances};
use crate::http;

const WITHIN: Duration = Duration::from_secs(10);
/// Requests to one node at once.
const AT_ONCE: usize = 8;

/// One version of one endpoint as one node has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub node: usize,
    pub endpoint: String,
    pub version: u64,
    /// The document's name: the marker of the write that made it.
    pub marker: String,
    /// The whole document, as text with sorted keys.
    pub document: String,
}

/// Everything that the named nodes have of endpoints whose path contains `label`. They must be up.
pub async fn read(entrances: &Entrances, nodes: &[usize], label: &str) -> anyhow::Result<Vec<Stored>> {
    let all = nodes.iter().map(|node| read_node(entrances, *node, label));
    Ok(futures::future::try_join_all(all).await?.into_iter().flatten().collect())
}

async fn read_node(entrances: &Entrances, node: usize, label: &str) -> anyhow::Result<Vec<Stored>> {
    let mut wanted = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = get(entrances, node, &format!("/api/v1/endpoints?limit=100&path={label}{cursor}")).await?;
        for endpoint in page["items"].as_array().into_iter().flatten() {
            let id = endpoint["id"].as_str().context("an endpoint without id")?;
            let latest = endpoint["latestVersion"].as_u64().context("an endpoint without latestVersion")?;
            wanted.extend((1..=latest).map(|version| (id.to_owned(), version)));
        }
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let reads = wanted.into_iter().map(|(endpoint, version)| read_version(entrances, node, endpoint, version));
    futures::stream::iter(reads).buffer_unordered(AT_ONCE).try_collect().await
}

pub async fn read_version(
    entrances: &Entrances,
    node: usize,
    endpoint: String,
    version: u64,
) -> anyhow::Result<Stored> {
    let read = get(entrances, node, &format!("/api/v1/endpoints/{endpoint}/versions/{version}")).await?;
    let document = &read["document"];
    let marker = document["name"].as_str().unwrap_or_default().to_owned();
    Ok(Stored { node, endpoint, version, marker, document: document.to_string() })
}

/// What a node serves now: of each endpoint the active version, as it answers without asking others. Nothing, where it
/// does not answer.
pub async fn served(entrances: &Entrances, node: usize) -> Vec<Stored> {
    let mut served = Vec::new();
    let mut cursor = String::new();
    while let Ok(page) = get(entrances, node, &format!("/api/v1/endpoints?limit=100{cursor}")).await {
        let ids = page["items"].as_array().into_iter().flatten().filter_map(|item| item["id"].as_str());
        let reads = ids.map(|id| async move {
            let read = get(entrances, node, &format!("/api/v1/endpoints/{id}")).await.ok()?;
            let version = read["activeVersion"].as_u64()?;
            let document = &read["document"];
            let marker = document["name"].as_str().unwrap_or_default().to_owned();
            Some(Stored { node, endpoint: id.to_owned(), version, marker, document: document.to_string() })
        });
        let read: Vec<Option<Stored>> = futures::stream::iter(reads).buffer_unordered(AT_ONCE).collect().await;
        served.extend(read.into_iter().flatten());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    served
}

async fn get(entrances: &Entrances, node: usize, path: &str) -> anyhow::Result<Value> {
    let answer = http::get(entrances.address(node).admin, path, WITHIN).await.with_context(|| path.to_owned())?;
    ensure!(answer.status == 200, "{} answered {path} with {}", name(node), answer.status);
    Ok(answer.json())
}
