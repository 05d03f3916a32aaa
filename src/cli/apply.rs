//! `wsgateway apply`: makes the cluster's endpoints what files say. Matched by path; shows what will change, changes only
//! what differs, and removes nothing unless told to.

use std::path::PathBuf;

use anyhow::bail;
use awc::http::Method;
use clap::Args;
use serde_json::{json, Value};

use super::api::{encoded, findings, sentence, text, Answer, Api, Connect, Output};
use super::diff::change_lines;
use super::files::{self, EndpointFile};
use super::rollout::{wait_for_all, wait_for_endpoint};
use super::{block_on, Failed};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  wsgateway apply -f shop.yaml --dry-run\n  wsgateway apply -f endpoints/ --message 'two rooms more' --wait\n  wsgateway apply -f endpoints/ --prune\n\nExit codes: 0 done or nothing to do, 1 failed, 2 wrong usage, or with --dry-run: there is something to do."
)]
pub struct Apply {
    /// Endpoint files (JSON or YAML), and folders of them
    #[arg(short, long = "file", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
    /// Show what would change, and change nothing; exit 2 when there is something
    #[arg(long)]
    dry_run: bool,
    /// Delete endpoints of the cluster that no file has
    #[arg(long)]
    prune: bool,
    /// Let --prune delete more than half of the cluster's endpoints
    #[arg(long, requires = "prune")]
    prune_most: bool,
    /// Why; kept with each new version
    #[arg(short, long, default_value = "")]
    message: String,
    /// Wait until every live node has applied the changes
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    connect: Connect,
}

/// What is to be done about one endpoint.
enum Deed {
    Create,
    Update { id: String, version: u64, changes: Value },
    Nothing { id: String },
    Delete { id: String },
}

struct Planned {
    path: String,
    file: Option<EndpointFile>,
    deed: Deed,
}

impl Apply {
    pub fn run(self) -> anyhow::Result<()> {
        let mut sources = Vec::new();
        for path in files::expand(&self.files)? {
            sources.push(files::read(&path)?.map_err(|line| anyhow::anyhow!("{line}"))?);
        }
        block_on(self.apply(sources))
    }

    async fn apply(&self, sources: Vec<EndpointFile>) -> anyhow::Result<()> {
        let api = self.connect.api()?;
        // Everything is looked at before anything is written: a mistake in the last file leaves the cluster as it was.
        let plan = self.plan(&api, sources).await?;
        let todo = plan.iter().filter(|planned| !matches!(planned.deed, Deed::Nothing { .. })).count();
        if self.connect.output == Output::Text {
            plan.iter().for_each(print_planned);
        }
        let (mut results, mut changes) = (Vec::new(), Vec::new());
        for planned in &plan {
            let changed = if self.dry_run { None } else { self.carry_out(&api, planned).await? };
            results.push(result(planned, changed.as_ref()));
            changes.extend(changed.map(|changed| (planned, changed)));
        }
        if self.wait {
            let mut waited = None;
            for (planned, changed) in &changes {
                waited = Some(match planned.deed {
                    Deed::Delete { .. } => wait_for_all(&api).await?,
                    _ => wait_for_endpoint(&api, text(changed, "id"), &planned.path).await?,
                });
            }
            waited.iter().for_each(|sentence| eprintln!("{sentence}"));
        }
        match self.connect.output {
            Output::Json => println!("{:#}", json!({"dryRun": self.dry_run, "endpoints": results})),
            Output::Text if todo == 0 => println!("nothing to do"),
            Output::Text if self.dry_run => {}
            Output::Text => println!("{todo} of {} endpoints changed", plan.len()),
        }
        match self.dry_run && todo > 0 {
            true => Err(Failed::drift(format!("{todo} of {} endpoints would change", plan.len())).into()),
            false => Ok(()),
        }
    }

    async fn plan(&self, api: &Api, sources: Vec<EndpointFile>) -> anyhow::Result<Vec<Planned>> {
        let running = api.endpoints().await?;
        let mut plan: Vec<Planned> = Vec::new();
        let mut wrong = Vec::new();
        for file in sources {
            let path = path_of(&file);
            if let Some(other) = plan.iter().find(|planned| planned.path == path) {
                let other = other.file.as_ref().map_or("", |file| file.name.as_str());
                bail!("{}: the path {path} is that of {other} too", file.name);
            }
            let found = running.iter().find(|endpoint| endpoint["path"] == path.as_str());
            let (target, id) = match found {
                Some(endpoint) => {
                    let id = text(endpoint, "id");
                    (format!("/api/v1/endpoints/{}/diff", encoded(id)), id.to_owned())
                }
                None => ("/api/v1/endpoints?dryRun=true".to_owned(), String::new()),
            };
            let answer = api.call(Method::POST, &target, Some(file.source.json.clone())).await?;
            let changes = answer.body["changes"].clone();
            let deed = match (answer.status, changes.as_array().is_some_and(Vec::is_empty)) {
                (200, _) if id.is_empty() => Deed::Create,
                // A draft that nobody has activated: that is to be done, whatever else is.
                (200, _) if found.is_some_and(|it| it["activeVersion"].is_null()) => {
                    Deed::Update { id, version: 0, changes }
                }
                (200, true) => Deed::Nothing { id },
                (200, false) => Deed::Update { id, version: answer.body["from"].as_u64().unwrap_or(0), changes },
                _ => {
                    wrong.push(located(&file, &answer));
                    continue;
                }
            };
            plan.push(Planned { path, file: Some(file), deed });
        }
        if !wrong.is_empty() {
            bail!("nothing was changed\n{}", wrong.join("\n"));
        }
        if self.prune {
            let kept = |endpoint: &&Value| plan.iter().any(|planned| endpoint["path"] == planned.path.as_str());
            let surplus: Vec<&Value> = running.iter().filter(|endpoint| !kept(endpoint)).collect();
            if surplus.len() * 2 > running.len() && !self.prune_most {
                let (count, all) = (surplus.len(), running.len());
                bail!("--prune would delete {count} of {all} endpoints and cut their clients; nothing was changed. If that is meant, add --prune-most");
            }
            plan.extend(surplus.into_iter().map(|endpoint| Planned {
                path: text(endpoint, "path").to_owned(),
                file: None,
                deed: Deed::Delete { id: text(endpoint, "id").to_owned() },
            }));
        }
        Ok(plan)
    }

    /// What was answered, if anything was to be done.
    async fn carry_out(&self, api: &Api, planned: &Planned) -> anyhow::Result<Option<Value>> {
        let message = format!("message={}", encoded(&self.message));
        let document = planned.file.as_ref().map(|file| file.source.json.clone());
        let (method, target) = match &planned.deed {
            Deed::Nothing { .. } => return Ok(None),
            Deed::Create => (Method::POST, format!("/api/v1/endpoints?{message}")),
            Deed::Update { id, .. } => (Method::PUT, format!("/api/v1/endpoints/{}?{message}", encoded(id))),
            Deed::Delete { id } => (Method::DELETE, format!("/api/v1/endpoints/{}?{message}", encoded(id))),
        };
        // Only what was shown is replaced: a change of someone else's in between is not.
        let expected = match &planned.deed {
            Deed::Update { version, .. } => Some(*version),
            _ => None,
        };
        let answer = api.call_expecting(method, &target, document, expected).await?;
        match (answer.status, &planned.file) {
            (200..=299, _) => Ok(Some(answer.body)),
            (_, Some(file)) => bail!("{}", located(file, &answer)),
            (_, None) => bail!("{}: {}", planned.path, sentence(&answer)),
        }
    }
}

/// An error of the API about a file, line by line.
fn located(file: &EndpointFile, answer: &Answer) -> String {
    let found = findings(answer);
    match found.is_empty() {
        true => format!("{}: {}", file.name, sentence(answer)),
        false => found.iter().map(|finding| file.located(finding)).collect::<Vec<_>>().join("\n"),
    }
}

/// Empty where it has none: the server then says so.
pub fn path_of(file: &EndpointFile) -> String {
    let document: Value = serde_json::from_str(&file.source.json).unwrap_or_default();
    text(&document, "path").to_owned()
}

fn print_planned(planned: &Planned) {
    let path = &planned.path;
    match &planned.deed {
        Deed::Create => println!("+ {path}: create"),
        Deed::Delete { id } => println!("- {path}: delete {id}"),
        Deed::Nothing { .. } => println!("= {path}: no change"),
        Deed::Update { version, changes, .. } => {
            println!("~ {path}: change version {version}");
            change_lines(changes).iter().for_each(|line| println!("    {line}"));
        }
    }
}

fn result(planned: &Planned, changed: Option<&Value>) -> Value {
    let (deed, id, changes) = match &planned.deed {
        Deed::Create => ("create", None, &Value::Null),
        Deed::Update { id, changes, .. } => ("update", Some(id), changes),
        Deed::Nothing { id } => ("none", Some(id), &Value::Null),
        Deed::Delete { id } => ("delete", Some(id), &Value::Null),
    };
    let version = changed.map_or(&Value::Null, |changed| &changed["activeVersion"]);
    json!({"path": planned.path, "action": deed, "id": id, "changes": changes, "activeVersion": version})
}
