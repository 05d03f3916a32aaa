//! `wsgateway token`: makes, lists and revokes tokens of the admin API.

use std::path::PathBuf;

use anyhow::{bail, Context};
use awc::http::Method;
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde_json::{json, Value};

use super::api::{encoded, text, Api, Connect, Output};
use super::block_on;
use super::table::table;
use crate::access::Role;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  wsgateway token create ci --role editor\n  wsgateway token create shop-service --role publisher --expires 90d --write-to shop.token\n  wsgateway token list\n  wsgateway token revoke shop-service"
)]
pub struct Token {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Subcommand)]
enum Deed {
    /// Make a token and print it: it is shown this once.
    #[command(
        after_help = "Roles, each with all before it:\n  viewer     reads everything but tokens and the audit log\n  publisher  pushes to connections\n  editor     changes endpoints, closes connections\n  admin      tokens, audit log\n\nExamples:\n  wsgateway token create ci --role editor\n  WSGATEWAY_TOKEN=$(wsgateway token create me --role admin) wsgateway token list"
    )]
    Create(Create),
    /// List the tokens, without their texts.
    #[command(after_help = "Example:\n  wsgateway token list --output json")]
    List(List),
    /// End a token, on all nodes within a second.
    #[command(after_help = "Example:\n  wsgateway token revoke shop-service")]
    Revoke(Revoke),
}

#[derive(Args)]
struct Create {
    /// What the token is for; the author of changes made with it
    name: String,
    /// What it allows
    #[arg(long, value_parser = PossibleValuesParser::new(Role::ALL.map(Role::name)))]
    role: String,
    /// After how long it ends, such as 45s, 30m, 12h or 90d; default: never
    #[arg(long, value_parser = seconds)]
    expires: Option<u64>,
    /// Write it to a new file that only you can read, instead of printing it
    #[arg(long, value_name = "FILE")]
    write_to: Option<PathBuf>,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Args)]
struct List {
    #[command(flatten)]
    connect: Connect,
}

#[derive(Args)]
struct Revoke {
    /// Name or id of a token
    // Not `token`: that is the name of the option by which the command itself is let in.
    #[arg(value_name = "TOKEN")]
    which: String,
    #[command(flatten)]
    connect: Connect,
}

/// A number with its unit, in seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
    let unit = units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?, *seconds)));
    let count = unit.and_then(|(count, seconds)| count.parse::<u64>().ok()?.checked_mul(seconds));
    count.filter(|seconds| *seconds > 0).ok_or_else(|| "must be a number and s, m, h or d, such as 90d".to_owned())
}

impl Token {
    pub fn run(self) -> anyhow::Result<()> {
        block_on(async {
            match self.deed {
                Deed::Create(create) => create.make().await,
                Deed::List(list) => list.print().await,
                Deed::Revoke(revoke) => revoke.revoke().await,
            }
        })
    }
}

impl Create {
    async fn make(&self) -> anyhow::Result<()> {
        // Before the token is made: one that cannot be kept would be lost.
        let file = self.write_to.as_ref().map(new_private_file).transpose()?;
        let wanted = json!({"name": self.name, "role": self.role, "expiresInSeconds": self.expires});
        let made = self.connect.api()?.expect(Method::POST, "/api/v1/tokens", Some(wanted.to_string())).await;
        let made = match (made, &self.write_to) {
            (Err(err), Some(path)) => {
                std::fs::remove_file(path).with_context(|| path.display().to_string())?;
                return Err(err);
            }
            (made, _) => made?,
        };
        for warning in made["warnings"].as_array().into_iter().flatten() {
            eprintln!("warning: {}", text(warning, "message"));
        }
        if let Some(mut file) = file {
            use std::io::Write as _;
            writeln!(file, "{}", text(&made, "token"))?;
        }
        match (self.connect.output, &self.write_to) {
            (Output::Json, None) => println!("{made:#}"),
            (Output::Json, Some(_)) => println!("{:#}", without_text(made)),
            (Output::Text, None) => println!("{}", text(&made, "token")),
            (Output::Text, Some(path)) => println!("{} is in {}", text(&made, "id"), path.display()),
        }
        Ok(())
    }
}

fn without_text(mut made: Value) -> Value {
    made.as_object_mut().map(|made| made.remove("token"));
    made
}

fn new_private_file(path: &PathBuf) -> anyhow::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.with_context(|| path.display().to_string())
}

/// All tokens, page by page.
async fn all(api: &Api) -> anyhow::Result<Vec<Value>> {
    api.pages("/api/v1/tokens?limit=1000").await
}

impl List {
    async fn print(&self) -> anyhow::Result<()> {
        let tokens = all(&self.connect.api()?).await?;
        if self.connect.output == Output::Json {
            println!("{:#}", Value::from(tokens));
            return Ok(());
        }
        let row = |it: &Value| {
            let expires = it["expiresAt"].as_str().unwrap_or("never");
            ["name", "role", "id", "createdBy"]
                .map(|name| text(it, name))
                .into_iter()
                .chain([expires])
                .map(str::to_owned)
                .collect()
        };
        print!("{}", table(&["NAME", "ROLE", "ID", "CREATED BY", "EXPIRES"], tokens.iter().map(row).collect()));
        Ok(())
    }
}

impl Revoke {
    async fn revoke(&self) -> anyhow::Result<()> {
        let api = self.connect.api()?;
        let tokens = all(&api).await?;
        let named = |name| tokens.iter().find(|token| token[name] == self.which.as_str());
        let Some(token) = named("name").or_else(|| named("id")) else {
            bail!("there is no token {}; `wsgateway token list` lists them all", self.which);
        };
        let id = text(token, "id");
        api.expect(Method::DELETE, &format!("/api/v1/tokens/{}", encoded(id)), None).await?;
        match self.connect.output {
            Output::Json => println!("{token:#}"),
            Output::Text => println!("{} ({id}) is revoked", text(token, "name")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!([seconds("45s"), seconds("2m"), seconds("1h"), seconds("90d")], [45, 120, 3600, 7_776_000].map(Ok));
        for wrong in ["", "5", "d", "0s", "-1d", "1.5h", "1w", "99999999999999999999d", "999999999999999999d"] {
            seconds(wrong).unwrap_err();
        }
    }
}
