//! `wsgateway check`: validates endpoint documents without a cluster.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::config::compile::compile;
use crate::config::validate::{validate, NodeFacts};

#[derive(Args)]
#[command(after_help = "Example:\n  wsgateway check chat.json orders.json")]
pub struct Check {
    /// Endpoint documents (JSON)
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Brokers that the nodes will have, so that Kafka backends without brokers of their own are not warned about
    #[arg(long)]
    kafka_bootstrap_servers: Option<String>,
}

impl Check {
    pub fn run(self) -> anyhow::Result<()> {
        let facts = NodeFacts { kafka_bootstrap_servers: self.kafka_bootstrap_servers };
        let mut wrong = 0;
        for file in &self.files {
            let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
            let checked = validate(&text, &facts)
                .and_then(|validated| compile("check", 0, &validated.document).map(|_| validated.warnings));
            match checked {
                Ok(warnings) => {
                    println!("{}: ok", file.display());
                    for warning in warnings {
                        println!("  warning: {}: {}", warning.path, warning.message);
                    }
                }
                Err(findings) => {
                    wrong += 1;
                    println!("{}: not valid", file.display());
                    for finding in findings {
                        println!(
                            "  {}: {}",
                            if finding.path.is_empty() { "(document)" } else { &finding.path },
                            finding.message
                        );
                    }
                }
            }
        }
        if wrong > 0 {
            anyhow::bail!("{wrong} of {} documents are not valid", self.files.len());
        }
        Ok(())
    }
}
