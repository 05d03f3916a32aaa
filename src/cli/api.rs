//! The admin API for commands: which servers, which token, and sentences for what goes wrong.

use std::env::VarError;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{bail, Context};
use awc::http::Method;
use awc::{Client, ClientResponse, Connector};
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::trust::Trust;
use super::Failed;
use crate::config::findings::Finding;

/// A write may wait for a new leader, a rollout for a slow node.
const TIMEOUT: Duration = Duration::from_secs(40);
/// As large as a backup may be.
const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Options of every command that talks to a cluster.
#[derive(Args)]
pub struct Connect {
    /// Admin URL of a node, any of the cluster; when it cannot be reached the next one is tried
    #[arg(
        long,
        env = "WSGATEWAY_SERVER",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:9001",
        global = true
    )]
    server: Vec<String>,
    /// Admin token; better in the environment variable WSGATEWAY_TOKEN or a file, where other users do not see it
    #[arg(long)]
    token: Option<String>,
    /// File that holds the admin token; it goes before WSGATEWAY_TOKEN
    #[arg(long, conflicts_with = "token")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    trust: Trust,
    /// text for people, json for programs
    #[arg(long, value_enum, default_value = "text")]
    pub output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

/// What was answered.
pub struct Answer {
    pub status: u16,
    pub body: Value,
    /// The body byte by byte.
    pub text: String,
}

/// Calls the admin API.
pub struct Api {
    client: Client,
    servers: Vec<String>,
    token: Option<String>,
}

impl Connect {
    pub fn api(&self) -> anyhow::Result<Api> {
        // Not with clap's `env`: a file on the command line is not in conflict with what the environment has.
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(file)) => Some(std::fs::read_to_string(file).with_context(|| file.display().to_string())?),
            (None, None) => match std::env::var("WSGATEWAY_TOKEN") {
                Ok(token) => Some(token),
                Err(VarError::NotPresent) => None,
                // The error's own words quote the value.
                Err(VarError::NotUnicode(_)) => return Err(Failed::usage("WSGATEWAY_TOKEN is not UTF-8").into()),
            },
        };
        let servers: Vec<String> = self.server.iter().map(|url| url.trim().trim_end_matches('/').to_owned()).collect();
        if let Some(wrong) = servers.iter().find(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            let what = "is no http:// or https:// URL, such as http://127.0.0.1:9001";
            return Err(Failed::usage(format!("--server {wrong:?} {what}")).into());
        }
        let client = Client::builder().timeout(TIMEOUT);
        let client = match servers.iter().any(|url| url.starts_with("https://")) {
            true => client.connector(Connector::new().rustls_0_23(self.trust.config()?)).finish(),
            false => client.finish(),
        };
        Ok(Api { client, servers, token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()) })
    }
}

impl Api {
    /// Sends a request to the first server that can be reached. A write is sent again only when no connection was made,
    /// so it is never carried out twice.
    pub async fn call(&self, method: Method, path: &str, body: Option<String>) -> anyhow::Result<Answer> {
        self.call_expecting(method, path, body, None).await
    }

    /// As `call`, on condition that this version is the active one (If-Match).
    pub async fn call_expecting(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        expected: Option<u64>,
    ) -> anyhow::Result<Answer> {
        let mut unreachable = Vec::new();
        for server in &self.servers {
            let url = format!("{server}{path}");
            let mut request = self.client.request(method.clone(), &url);
            if let Some(token) = &self.token {
                request = request.insert_header(("authorization", format!("Bearer {token}")));
            }
            if let Some(version) = expected {
                request = request.insert_header(("if-match", format!("\"{version}\"")));
            }
            let sent = match &body {
                Some(body) => request.content_type("application/json").send_body(body.clone()).await,
                None => request.send().await,
            };
            match sent {
                Ok(mut answer) => {
                    let bytes = answer.body().limit(BODY_BYTES_MAX).await.with_context(|| url.clone())?;
                    let status = answer.status().as_u16();
                    let lines = answer.headers().get("content-type").is_some_and(|is| is == "application/x-ndjson");
                    let body = match bytes.is_empty() || lines {
                        true => Value::Null,
                        false => serde_json::from_slice(&bytes).with_context(|| {
                            format!("{url} answered {status} with no JSON; is it the admin listener?")
                        })?,
                    };
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    return Ok(Answer { status, body, text });
                }
                Err(awc::error::SendRequestError::Connect(err)) => unreachable.push(format!("{server}: {err}")),
                Err(err) => bail!("{url}: {err}; whether it was carried out is not known, look before you try again"),
            }
        }
        bail!("{}", nobody(&unreachable))
    }

    /// A GET whose answer has no end, from the first server that can be reached.
    pub async fn stream(&self, path: &str) -> anyhow::Result<ClientResponse> {
        let mut unreachable = Vec::new();
        for server in &self.servers {
            let url = format!("{server}{path}");
            let mut request = self.client.get(&url);
            if let Some(token) = &self.token {
                request = request.insert_header(("authorization", format!("Bearer {token}")));
            }
            match request.send().await {
                Ok(answer) if answer.status().is_success() => return Ok(answer),
                Ok(mut answer) => {
                    let bytes = answer.body().limit(BODY_BYTES_MAX).await.with_context(|| url.clone())?;
                    let status = answer.status().as_u16();
                    let body = serde_json::from_slice(&bytes)
                        .with_context(|| format!("{url} answered {status} with no JSON; is it the admin listener?"))?;
                    bail!("{}", sentence(&Answer { status, body, text: String::new() }));
                }
                Err(err) => unreachable.push(format!("{server}: {err}")),
            }
        }
        bail!("{}", nobody(&unreachable))
    }

    /// As `call`, for what must succeed.
    pub async fn expect(&self, method: Method, path: &str, body: Option<String>) -> anyhow::Result<Value> {
        let answer = self.call(method, path, body).await?;
        match answer.status {
            200..=299 => Ok(answer.body),
            _ => bail!("{}", sentence(&answer)),
        }
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.expect(Method::GET, path, None).await
    }

    /// All endpoints, page by page, without their documents.
    pub async fn endpoints(&self) -> anyhow::Result<Vec<Value>> {
        self.pages("/api/v1/endpoints?limit=1000").await
    }

    /// All items of a list; `path` has a query.
    pub async fn pages(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let mut page = self.get(&format!("{path}{cursor}")).await?;
            if let Some(items) = page["items"].as_array_mut() {
                all.append(items);
            }
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={}", encoded(next)),
                None => return Ok(all),
            }
        }
    }

    /// The endpoint that a user means by its id or its path.
    pub async fn find(&self, name: &str) -> anyhow::Result<Value> {
        if !name.starts_with('/') {
            return self.get(&format!("/api/v1/endpoints/{}", encoded(name))).await;
        }
        let all = self.endpoints().await?;
        let Some(found) = all.iter().find(|endpoint| endpoint["path"] == name) else {
            bail!("there is no endpoint with the path {name}; `wsgateway get` lists them all");
        };
        self.get(&format!("/api/v1/endpoints/{}", text(found, "id"))).await
    }
}

fn nobody(unreachable: &[String]) -> String {
    let tried = unreachable.join("; ");
    format!(
        "no node can be reached ({tried}). Is one running? Name its admin address with --server or WSGATEWAY_SERVER"
    )
}

/// A member that is a text; a missing one is empty.
pub fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

/// For a place in a URL.
pub fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// What the API found wrong, each with its path.
pub fn findings(answer: &Answer) -> Vec<Finding> {
    let errors = answer.body["errors"].as_array().into_iter().flatten();
    errors
        .map(|error| Finding { path: text(error, "path").to_owned(), message: text(error, "message").to_owned() })
        .collect()
}

/// An error of the API, and what to do about it.
pub fn sentence(answer: &Answer) -> String {
    let detail = text(&answer.body, "detail");
    let hint = match answer.status {
        401 => ". Give a valid token with --token-file or in WSGATEWAY_TOKEN",
        403 => ". The token's role does not allow it: use one of a higher role",
        412 => ". Someone else has changed it meanwhile: look with `wsgateway diff`, then try again",
        503 => ". Try again in a moment; `curl <server>/readyz?verbose` says what a node is waiting for",
        _ => "",
    };
    format!("{} {}: {detail}{hint}", answer.status, text(&answer.body, "code"))
}
