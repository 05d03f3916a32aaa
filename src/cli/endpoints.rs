//! `wsgateway get`, `rollback` and `push`: reading what runs, going back to a version, sending to a connection.

use anyhow::bail;
use awc::http::Method;
use clap::Args;
use serde_json::Value;

use super::api::{encoded, sentence, text, Connect, Output};
use super::rollout::wait_for_endpoint;
use super::table::table;
use super::{block_on, files, Failed};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  wsgateway get\n  wsgateway get /shop\n  wsgateway get /shop --version 3\n  wsgateway get /shop --versions"
)]
pub struct Get {
    /// Id or path of an endpoint; default: list all
    endpoint: Option<String>,
    /// A stored version; default: the active one
    #[arg(long, requires = "endpoint")]
    version: Option<u64>,
    /// List the versions
    #[arg(long, requires = "endpoint", conflicts_with = "version")]
    versions: bool,
    #[command(flatten)]
    connect: Connect,
}

impl Get {
    pub fn run(self) -> anyhow::Result<()> {
        block_on(self.read())
    }

    async fn read(&self) -> anyhow::Result<()> {
        let api = self.connect.api()?;
        let json = self.connect.output == Output::Json;
        let Some(name) = &self.endpoint else {
            let all = api.endpoints().await?;
            if json {
                println!("{:#}", Value::from(all));
            } else {
                let row = |it: &Value| {
                    vec![
                        text(it, "path").into(),
                        text(it, "id").into(),
                        it["activeVersion"].as_u64().map_or_else(|| "draft".to_owned(), |version| version.to_string()),
                        text(it, "updatedAt").into(),
                    ]
                };
                print!("{}", table(&["PATH", "ID", "VERSION", "UPDATED"], all.iter().map(row).collect()));
            }
            return Ok(());
        };
        let found = api.find(name).await?;
        let target = format!("/api/v1/endpoints/{}/versions", encoded(text(&found, "id")));
        if self.versions {
            let versions = api.get(&target).await?;
            if json {
                println!("{versions:#}");
            } else {
                let row = |it: &Value| {
                    let active = if it["active"] == true { "*" } else { "" };
                    let author = format!("{} {}", text(it, "author"), text(it, "message"));
                    vec![format!("{}{active}", it["version"]), text(it, "createdAt").into(), author.trim().to_owned()]
                };
                let rows = versions["items"].as_array().into_iter().flatten().map(row).collect();
                print!("{}", table(&["VERSION", "CREATED", "AUTHOR AND MESSAGE"], rows));
            }
            return Ok(());
        }
        let shown = match self.version {
            Some(version) => api.get(&format!("{target}/{version}")).await?,
            None => found,
        };
        if json {
            println!("{shown:#}");
        } else {
            println!("{:#}", shown["document"]);
        }
        Ok(())
    }
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  wsgateway rollback /shop\n  wsgateway rollback /shop --to 3 --message 'the new prices were wrong' --wait"
)]
pub struct Rollback {
    /// Id or path of an endpoint
    endpoint: String,
    /// The version to activate; default: the one before the active one
    #[arg(long)]
    to: Option<u64>,
    /// Why; kept with the change
    #[arg(short, long, default_value = "")]
    message: String,
    /// Wait until every live node has applied it
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    connect: Connect,
}

impl Rollback {
    pub fn run(self) -> anyhow::Result<()> {
        block_on(self.activate())
    }

    async fn activate(&self) -> anyhow::Result<()> {
        let api = self.connect.api()?;
        let found = api.find(&self.endpoint).await?;
        let (id, active) = (encoded(text(&found, "id")), found["activeVersion"].as_u64().unwrap_or(0));
        let to = match self.to {
            Some(to) => to,
            None if active == 0 => bail!("{} has no active version; say with --to which one", self.endpoint),
            None if active == 1 => bail!("{} is at version 1: there is none before it", self.endpoint),
            None => active - 1,
        };
        let target = format!("/api/v1/endpoints/{id}/versions/{to}/activate?message={}", encoded(&self.message));
        let answer = api.call_expecting(Method::POST, &target, None, Some(active)).await?;
        if answer.status != 200 {
            bail!("{}", sentence(&answer));
        }
        if self.wait {
            eprintln!("{}", wait_for_endpoint(&api, text(&found, "id"), text(&found, "path")).await?);
        }
        match self.connect.output {
            Output::Json => println!("{}", answer.text),
            Output::Text => println!("{}: version {active} -> {to}", text(&found, "path")),
        }
        Ok(())
    }
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  wsgateway push AWCg6Txq… '{\"text\": \"hello\"}'\n  echo '{\"n\": 1}' | wsgateway push AWCg6Txq… -"
)]
pub struct Push {
    /// Id of a connection, as connect events and replies carry it
    connection: String,
    /// The message, JSON; - is standard input
    message: String,
    #[command(flatten)]
    connect: Connect,
}

impl Push {
    pub fn run(self) -> anyhow::Result<()> {
        let message = match self.message.as_str() {
            "-" => files::read_text("-".as_ref())?,
            message => message.to_owned(),
        };
        if let Err(err) = serde_json::from_str::<serde::de::IgnoredAny>(&message) {
            return Err(Failed::usage(format!("the message is no JSON: {err}")).into());
        }
        block_on(async {
            let target = format!("/api/v1/connections/{}", encoded(&self.connection));
            let body = self.connect.api()?.expect(Method::POST, &target, Some(message)).await?;
            match self.connect.output {
                Output::Json => println!("{body}"),
                Output::Text => println!("queued"),
            }
            Ok(())
        })
    }
}
