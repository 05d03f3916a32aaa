//! `wsgateway check`: validates endpoint files without a cluster, runs the tests in them, and says line by line what
//! is wrong.

use std::path::PathBuf;

use clap::Args;

use super::file_tests;
use super::files::{self, EndpointFile};
use crate::config::compile::compile;
use crate::config::findings::Finding;
use crate::config::validate::{validate, NodeFacts};

#[derive(Args)]
#[command(after_help = "Examples:\n  wsgateway check chat.yaml orders.json\n  wsgateway check endpoints/")]
pub struct Check {
    /// Endpoint files (JSON or YAML), and folders of them; - is standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Brokers that the nodes will have, so that Kafka backends without brokers of their own are not warned about
    #[arg(long)]
    kafka_bootstrap_servers: Option<String>,
}

impl Check {
    pub fn run(self) -> anyhow::Result<()> {
        let facts = NodeFacts { kafka_bootstrap_servers: self.kafka_bootstrap_servers, ..NodeFacts::default() };
        let files = files::expand(&self.files)?;
        let mut wrong = 0;
        for path in &files {
            let lines = match files::read(path)? {
                Ok(file) => check(&file, &facts),
                Err(line) => Err(vec![line]),
            };
            match lines {
                Ok(warnings) => {
                    println!("{}: ok", path.display());
                    warnings.iter().for_each(|line| println!("  {line}"));
                }
                Err(lines) => {
                    wrong += 1;
                    println!("{}: not valid", path.display());
                    lines.iter().for_each(|line| println!("  {line}"));
                }
            }
        }
        if wrong > 0 {
            anyhow::bail!("{wrong} of {} files are not valid", files.len());
        }
        Ok(())
    }
}

/// What is to be said of a sound file, or what is wrong with it.
fn check(file: &EndpointFile, facts: &NodeFacts) -> Result<Vec<String>, Vec<String>> {
    let checked = validate(&file.source.json, facts)
        .and_then(|validated| compile("check", 0, &validated.document).map(|_| validated.warnings));
    let warning = |finding: &Finding| {
        file.located(&Finding { path: finding.path.clone(), message: format!("warning: {}", finding.message) })
    };
    match checked {
        Ok(warnings) => {
            let (passed, wrong) = file_tests::run(file, facts);
            if !wrong.is_empty() {
                return Err(wrong);
            }
            let mut lines: Vec<_> = warnings.iter().map(warning).collect();
            match passed {
                0 => {}
                1 => lines.push("1 test passed".to_owned()),
                _ => lines.push(format!("{passed} tests passed")),
            }
            Ok(lines)
        }
        Err(findings) => Err(findings.iter().map(|finding| file.located(finding)).collect()),
    }
}
