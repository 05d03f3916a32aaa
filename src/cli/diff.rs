//! `wsgateway diff`: a file against what runs, or one version against another.

use std::path::PathBuf;

use awc::http::Method;
use clap::Args;
use serde_json::Value;

use super::api::{encoded, findings, sentence, text, Connect, Output};
use super::apply::path_of;
use super::{block_on, files, Failed};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  wsgateway diff -f shop.yaml\n  wsgateway diff /shop --from 3 --to 5\n\nExit codes: 0 no difference, 1 failed, 2 wrong usage, or there are differences."
)]
pub struct Diff {
    /// Id or path of a running endpoint; default: the path in the file
    #[arg(required_unless_present = "file")]
    endpoint: Option<String>,
    /// Endpoint file, compared with the active version or --from
    #[arg(short, long, conflicts_with = "to")]
    file: Option<PathBuf>,
    /// Older version; default: the active one
    #[arg(long)]
    from: Option<u64>,
    /// Newer version; default: the active one
    #[arg(long)]
    to: Option<u64>,
    #[command(flatten)]
    connect: Connect,
}

impl Diff {
    pub fn run(self) -> anyhow::Result<()> {
        block_on(self.compare())
    }

    async fn compare(&self) -> anyhow::Result<()> {
        let file = self.file.as_deref().map(files::read).transpose()?;
        let file = file.transpose().map_err(|line| anyhow::anyhow!("{line}"))?;
        let name = match (&self.endpoint, &file) {
            (Some(name), _) => name.clone(),
            (None, Some(file)) => path_of(file),
            (None, None) => String::new(),
        };
        let api = self.connect.api()?;
        let found = api.find(&name).await?;
        let mut target = format!("/api/v1/endpoints/{}/diff?", encoded(text(&found, "id")));
        for (option, version) in [("from", self.from), ("to", self.to)] {
            if let Some(version) = version {
                target.push_str(&format!("{option}={version}&"));
            }
        }
        let target = target.trim_end_matches(['?', '&']);
        let answer = match &file {
            Some(file) => api.call(Method::POST, target, Some(file.source.json.clone())).await?,
            None => api.call(Method::GET, target, None).await?,
        };
        if answer.status != 200 {
            let lines = findings(&answer);
            let lines: Vec<_> = file.iter().flat_map(|file| lines.iter().map(|it| file.located(it))).collect();
            anyhow::bail!("{}", [vec![sentence(&answer)], lines].concat().join("\n"));
        }
        let lines = change_lines(&answer.body["changes"]);
        match self.connect.output {
            Output::Json => println!("{}", answer.text),
            Output::Text if lines.is_empty() => println!("no difference"),
            Output::Text => lines.iter().for_each(|line| println!("{line}")),
        }
        match lines.len() {
            0 => Ok(()),
            1 => Err(Failed::drift("1 difference").into()),
            count => Err(Failed::drift(format!("{count} differences")).into()),
        }
    }
}

/// Changes of the API for people: `~ routes[3].key: "a" -> "b"`.
pub fn change_lines(changes: &Value) -> Vec<String> {
    let line = |change: &Value| {
        let (path, from, to) = (text(change, "path"), &change["from"], &change["to"]);
        match text(change, "change") {
            "added" => format!("+ {path}: {to}"),
            "removed" => format!("- {path}: {from}"),
            "moved" => format!("> {path}: was {}", from.as_str().unwrap_or_default()),
            _ => format!("~ {path}: {from} -> {to}"),
        }
    };
    changes.as_array().into_iter().flatten().map(line).collect()
}
