//! `wsgateway audit`: who did what, newest first.

use clap::Args;
use serde_json::Value;

use super::api::{encoded, text, Connect, Output};
use super::block_on;
use super::table::table;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  wsgateway audit\n  wsgateway audit --author ci --limit 20\n  wsgateway audit --target ep-88d37f9f5813ea3a --output json"
)]
pub struct Audit {
    /// How many entries
    #[arg(long, default_value = "50", value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Only what was done with the token of this name
    #[arg(long)]
    author: Option<String>,
    /// Only what was about this endpoint, token or connection (its id)
    #[arg(long)]
    target: Option<String>,
    #[command(flatten)]
    connect: Connect,
}

impl Audit {
    pub fn run(self) -> anyhow::Result<()> {
        block_on(async {
            let mut path = format!("/api/v1/audit?limit={}", self.limit);
            for (name, value) in [("author", &self.author), ("target", &self.target)] {
                if let Some(value) = value {
                    path.push_str(&format!("&{name}={}", encoded(value)));
                }
            }
            let found = self.connect.api()?.get(&path).await?;
            if self.connect.output == Output::Json {
                println!("{:#}", found["items"]);
                return Ok(());
            }
            let rows = found["items"].as_array().into_iter().flatten().map(row).collect();
            print!("{}", table(&["TIME", "AUTHOR", "WHAT", "TARGET", "VERSION", "OUTCOME", "FROM"], rows));
            Ok(())
        })
    }
}

fn row(entry: &Value) -> Vec<String> {
    let outcome = match entry["detail"].as_str() {
        Some(detail) => format!("{}: {detail}", text(entry, "outcome")),
        None => text(entry, "outcome").to_owned(),
    };
    vec![
        text(entry, "at").to_owned(),
        text(entry, "author").to_owned(),
        format!("{} {}", text(entry, "method"), text(entry, "route").trim_start_matches("/api/v1")),
        text(entry, "target").to_owned(),
        entry["version"].as_u64().map_or_else(String::new, |version| version.to_string()),
        outcome,
        text(entry, "address").to_owned(),
    ]
}
