//! Configuration as users see it (endpoints with versions) over the replicated store of opaque documents, and the task
//! that keeps this node's registry at what is committed. A document that does not compile here leaves the last good
//! version in place and marks the node degraded; it never crashes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::Serialize;
use wsgateway_raft_store::types::{Authorship, Command, Head, ProposeError, Rejection, Reply, Version};
use wsgateway_raft_store::{RaftStore, StoreError};

use super::compile::compile;
use super::registry::Registry;
use super::secrets::{check_sent, hides_secrets, restore_redacted};
use super::validate::{validate, Finding, NodeFacts};
use crate::model::live_endpoint::LiveEndpoint;

/// The store's namespace for endpoints.
const KIND: &str = "endpoint";

/// Why a request on configuration was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the document is not valid")]
    Invalid(Vec<Finding>),
    #[error(transparent)]
    Rejected(Rejection),
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the path {path} cannot be routed beside the others: {reason}")]
    PathConflict { path: String, reason: String },
    #[error("committed at index {0}, but not yet visible on this node")]
    NotVisibleYet(u64),
    #[error("there is no endpoint {0}")]
    NotFound(String),
    #[error("endpoint {id} has no version {version}")]
    VersionNotFound { id: String, version: u64 },
}

/// Who asks for a change, and why.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Makes a retried write safe: the same id is carried out once.
    pub request_id: String,
    pub author: String,
    pub message: String,
    /// The active version that the author looked at (If-Match); 0: none was active.
    pub expected: Option<u64>,
    /// For the audit log.
    pub note: Option<String>,
}

/// An endpoint with one of its versions' document.
pub struct EndpointView {
    pub head: Head,
    pub version: Version,
    pub warnings: Vec<Finding>,
}

/// What an accepted document would be or is.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Checked {
    pub path: String,
    pub warnings: Vec<Finding>,
}

/// Between two tries to catch up.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(50);

/// Files that documents refer to are looked at this often: a mounted secret that is exchanged is in use soon after.
const REREAD_EVERY: Duration = Duration::from_secs(2);

/// See `ConfigStore::hashing`.
const HASHING_MAX: usize = 2;

/// A document that refers to files, and the fingerprint of what they held when they were last read.
type OfFiles = (Arc<str>, [u8; 32]);

type OnChange = Box<dyn Fn(&LiveEndpoint) + Send + Sync>;

/// Configuration on this node.
pub struct ConfigStore {
    store: RaftStore,
    registry: Arc<Registry>,
    node: NodeFacts,
    /// Endpoints with a version that does not work here, and the reason.
    degraded: Mutex<BTreeMap<String, (u64, String)>>,
    /// Endpoints whose path cannot be routed beside an older one's; anew at every refresh.
    conflicts: Mutex<BTreeMap<String, String>>,
    /// By endpoint, of their active versions.
    of_files: Mutex<BTreeMap<String, OfFiles>>,
    /// Told of each endpoint that changed or was deleted.
    on_change: OnChange,
    applied: tokio::sync::watch::Sender<u64>,
    /// Set once this node serves a configuration that was the cluster's.
    configured: AtomicBool,
    /// Documents whose passwords are hashed at once: each takes 19 MiB and a core; the others wait.
    hashing: tokio::sync::Semaphore,
}

impl ConfigStore {
    pub fn new(store: RaftStore, registry: Arc<Registry>, node: NodeFacts, on_change: OnChange) -> Arc<ConfigStore> {
        let applied = tokio::sync::watch::Sender::new(0);
        // From an earlier life: that it may be old by now is no reason not to serve it.
        let known = store.identity().generation > 1 && !store.status().voters.is_empty();
        let configured = AtomicBool::new(known);
        Arc::new(ConfigStore {
            store,
            registry,
            node,
            degraded: Mutex::default(),
            conflicts: Mutex::default(),
            of_files: Mutex::default(),
            on_change,
            applied,
            configured,
            hashing: tokio::sync::Semaphore::new(HASHING_MAX),
        })
    }

    /// Whether this node serves a configuration that is or was the cluster's. One that joins on an empty disk knows
    /// endpoints only when it has caught up; until then it would refuse clients with 404.
    pub fn is_configured(&self) -> bool {
        self.configured.load(Ordering::Relaxed)
    }

    /// On an empty disk: waits until everything is here that was committed when this node joined.
    pub async fn catch_up(self: Arc<Self>) {
        while !self.is_configured() {
            if let Ok(index) = self.store.linearize().await {
                self.configured.store(self.applied_here(index).await.is_ok(), Ordering::Relaxed);
            }
            tokio::time::sleep(CATCH_UP_PAUSE).await;
        }
    }

    pub fn raft(&self) -> &RaftStore {
        &self.store
    }

    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    pub fn degraded(&self) -> BTreeMap<String, String> {
        let degraded = self.degraded.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut all: BTreeMap<_, _> = degraded.into_iter().map(|(id, (_, reason))| (id, reason)).collect();
        all.extend(self.conflicts.lock().unwrap_or_else(PoisonError::into_inner).clone());
        all
    }

    /// Keeps the registry at what is committed, for as long as the store runs.
    pub async fn follow(self: Arc<Self>) {
        let mut applied = self.store.applied();
        let mut ticks = tokio::time::interval(REREAD_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let index = *applied.borrow_and_update();
            self.refresh(&BTreeSet::new());
            self.applied.send_replace(index);
            loop {
                tokio::select! {
                    changed = applied.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    _ = ticks.tick() => {
                        let exchanged = self.exchanged_files().await;
                        if !exchanged.is_empty() {
                            self.refresh(&exchanged);
                        }
                    }
                }
            }
        }
    }

    /// The endpoints whose files hold something else than when they were compiled.
    async fn exchanged_files(&self) -> BTreeSet<String> {
        let watched = self.of_files.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if watched.is_empty() {
            return BTreeSet::new();
        }
        let secrets = self.node.secrets.clone();
        let looking = tokio::task::spawn_blocking(move || {
            let changed = |(document, seen): &OfFiles| secrets.fingerprint(document) != Some(*seen);
            watched.into_iter().filter(|(_, last)| changed(last)).map(|(id, _)| id).collect()
        });
        looking.await.unwrap_or_else(|err| {
            tracing::error!("the files of secrets cannot be looked at: {err}");
            BTreeSet::new()
        })
    }

    /// Compiles what has changed since the last time, and `exchanged`. Reads levels, not events: nothing can be missed.
    fn refresh(&self, exchanged: &BTreeSet<String>) {
        let mut heads = self.store.heads(KIND);
        // Nothing of them is active yet.
        heads.retain(|head| head.active_version > 0);
        heads.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        self.degraded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|id, (version, _)| heads.iter().any(|head| head.id == *id && head.active_version == *version));
        let mut known: BTreeMap<String, Arc<LiveEndpoint>> =
            self.registry.all().into_iter().map(|endpoint| (endpoint.id().to_owned(), endpoint)).collect();
        let mut next = Vec::with_capacity(heads.len());
        let mut changed = Vec::new();
        for head in heads {
            match known.remove(&head.id) {
                Some(endpoint)
                    if endpoint.current().version == head.active_version && !exchanged.contains(&head.id) =>
                {
                    next.push(endpoint);
                }
                existing => {
                    if let Some(endpoint) = self.renew(existing, &head) {
                        changed.push(endpoint.clone());
                        next.push(endpoint);
                    }
                }
            }
        }
        if changed.is_empty() && known.is_empty() {
            return;
        }
        for gone in known.into_values() {
            gone.mark_deleted();
            self.of_files.lock().unwrap_or_else(PoisonError::into_inner).remove(gone.id());
            changed.push(gone);
        }
        let conflicts: BTreeMap<_, _> = self.registry.replace(next).into_iter().collect();
        for (id, conflict) in &conflicts {
            tracing::error!(endpoint = %id, "its path cannot be routed: {conflict}");
        }
        *self.conflicts.lock().unwrap_or_else(PoisonError::into_inner) = conflicts;
        for endpoint in &changed {
            (self.on_change)(endpoint);
        }
    }

    /// Brings one endpoint to its head's active version; the last good version stays when that does not work.
    fn renew(&self, existing: Option<Arc<LiveEndpoint>>, head: &Head) -> Option<Arc<LiveEndpoint>> {
        let compiled = match self.compile_active(head) {
            Ok(compiled) => compiled,
            Err(reason) => {
                self.degrade(head, reason);
                return existing;
            }
        };
        self.degraded.lock().unwrap_or_else(PoisonError::into_inner).remove(&head.id);
        tracing::info!(endpoint = %head.id, path = %compiled.path, version = head.active_version, "endpoint live");
        Some(match existing {
            Some(endpoint) => {
                endpoint.replace(compiled);
                endpoint
            }
            None => LiveEndpoint::new(compiled, std::time::Instant::now()),
        })
    }

    fn compile_active(&self, head: &Head) -> Result<crate::model::endpoint::CompiledEndpoint, String> {
        let version = self.store.version(KIND, &head.id, head.active_version).map_err(|err| err.to_string())?;
        let version = version.ok_or("its active version is missing from the store")?;
        // Before they are read: what changes in between is noticed at the next look.
        let seen = self.node.secrets.fingerprint(&version.document);
        let mut of_files = self.of_files.lock().unwrap_or_else(PoisonError::into_inner);
        match seen {
            Some(seen) => of_files.insert(head.id.clone(), (version.document.clone(), seen)),
            None => of_files.remove(&head.id),
        };
        drop(of_files);
        let read = self.node.secrets.read(&version.document);
        read.and_then(|document| compile(&head.id, head.active_version, &document)).map_err(|findings| {
            let line = |finding: &Finding| format!("{}: {}", finding.path, finding.message);
            findings.iter().map(line).collect::<Vec<_>>().join("; ")
        })
    }

    fn degrade(&self, head: &Head, reason: String) {
        tracing::error!(endpoint = %head.id, "node degraded, endpoint keeps its last good version: {reason}");
        let version = head.active_version;
        self.degraded.lock().unwrap_or_else(PoisonError::into_inner).insert(head.id.clone(), (version, reason));
    }

    /// Validates the document of a new endpoint without writing.
    pub fn check_new(&self, document: &str) -> Result<Checked, ConfigError> {
        refuse_encrypted(document)?;
        self.check(document)
    }

    /// A document that was read, edited and sent back, with what `stored` has where it hides secrets; valid.
    pub fn restored(&self, document: &str, stored: &str) -> Result<(String, Checked), ConfigError> {
        refuse_encrypted(document)?;
        let document = restore_redacted(document, stored).map_err(unreadable)?;
        let checked = self.check(&document)?;
        Ok((document, checked))
    }

    fn check(&self, document: &str) -> Result<Checked, ConfigError> {
        let validated = validate(document, &self.node).map_err(ConfigError::Invalid)?;
        compile("check", 0, &validated.document).map_err(ConfigError::Invalid)?;
        Ok(Checked { path: validated.document.path, warnings: validated.warnings })
    }

    /// Paths that are not the same may still not be routable beside each other (`/a/{x}` and `/a/{*rest}`).
    fn check_path(&self, id: &str, path: &str) -> Result<(), ConfigError> {
        let conflict = |reason| ConfigError::PathConflict { path: path.to_owned(), reason };
        // The same path is the state machine's to decide, which knows what is being written at this moment.
        let same =
            |other: &Arc<LiveEndpoint>| other.id() != id && unique_key(&other.current().path) == unique_key(path);
        if self.registry.all().iter().any(same) {
            return Ok(());
        }
        self.registry.check_path(id, path).map_err(conflict)
    }

    pub async fn create(&self, document: &str, activate: bool, change: Change) -> Result<EndpointView, ConfigError> {
        let checked = self.check_new(document)?;
        if activate {
            self.check_path("", &checked.path)?;
        }
        let (kind, id) = (KIND.to_owned(), format!("ep-{:016x}", rand::random::<u64>()));
        let key = unique_key(&checked.path);
        let (document, by) = (self.kept(document, None).await?, authorship(&change));
        let command = match activate {
            true => Command::Create { kind, id, key, document, by },
            false => Command::Draft { kind, id, key, document, by },
        };
        self.write(command, change, checked.warnings).await
    }

    pub async fn update(
        &self,
        id: &str,
        document: &str,
        activate: bool,
        change: Change,
    ) -> Result<EndpointView, ConfigError> {
        // A document that was read and is sent back has its secrets hidden: they are those of the stored one.
        let stored = self.get_for_change(id, hides_secrets(document)).await?.version.document;
        let (document, checked) = self.restored(document, &stored)?;
        if activate {
            self.check_path(id, &checked.path)?;
        }
        let command = Command::Update {
            kind: KIND.to_owned(),
            id: id.to_owned(),
            key: unique_key(&checked.path),
            document: self.kept(&document, Some((stored, true))).await?,
            activate,
            expected: change.expected,
            by: authorship(&change),
        };
        self.write(command, change, checked.warnings).await
    }

    pub async fn activate(&self, id: &str, version: u64, change: Change) -> Result<EndpointView, ConfigError> {
        if let Ok(stored) = self.version(id, version) {
            // What this node cannot serve is not made the active version of all.
            let document = self.node.secrets.read(&stored.version.document).map_err(ConfigError::Invalid)?;
            compile(id, version, &document).map_err(ConfigError::Invalid)?;
            self.check_path(id, &document.path)?;
        }
        let command = Command::Activate {
            kind: KIND.to_owned(),
            id: id.to_owned(),
            version,
            expected: change.expected,
            by: authorship(&change),
        };
        self.write(command, change, Vec::new()).await
    }

    pub async fn delete(&self, id: &str, change: Change) -> Result<(), ConfigError> {
        let by = authorship(&change);
        let command = Command::Delete { kind: KIND.to_owned(), id: id.to_owned(), expected: change.expected, by };
        self.propose(command, change).await.map(|_| ())
    }

    async fn propose(&self, command: Command, change: Change) -> Result<(String, u64), ConfigError> {
        match self.store.propose_noted(change.request_id, command, change.note).await? {
            Reply::Done { id, version, index } => {
                self.applied_here(index).await?;
                Ok((id, version))
            }
            Reply::Rejected { rejection } => Err(ConfigError::Rejected(rejection)),
        }
    }

    /// Waits until this node serves what is committed at `index`: its answer must not be ahead of its behaviour.
    async fn applied_here(&self, index: u64) -> Result<(), ConfigError> {
        let mut applied = self.applied.subscribe();
        let wait = applied.wait_for(|at| *at >= index);
        if tokio::time::timeout(std::time::Duration::from_secs(2), wait).await.is_err() {
            return Err(ConfigError::NotVisibleYet(index));
        }
        Ok(())
    }

    async fn write(
        &self,
        command: Command,
        change: Change,
        warnings: Vec<Finding>,
    ) -> Result<EndpointView, ConfigError> {
        let (id, version) = self.propose(command, change).await?;
        let mut view = self.version(&id, version)?;
        view.warnings = warnings;
        Ok(view)
    }

    pub fn list(&self) -> Vec<Head> {
        self.store.heads(KIND)
    }

    /// The endpoint with its active version; with its latest while none is active.
    pub fn get(&self, id: &str) -> Result<EndpointView, ConfigError> {
        let head = self.head(id)?;
        let version = if head.active_version > 0 { head.active_version } else { head.latest_version };
        // Of this very head: another one, a moment later, would call the document by the wrong version.
        self.view(head, version)
    }

    /// As `get`, for a caller whose change builds upon it: a node that lags behind first learns what is committed,
    /// always when it `must`, else when it knows no such endpoint (it may have been created a moment ago).
    async fn get_for_change(&self, id: &str, must: bool) -> Result<EndpointView, ConfigError> {
        match self.get(id) {
            Ok(view) if !must => Ok(view),
            Ok(_) | Err(ConfigError::NotFound(_)) => {
                self.store.linearize().await?;
                self.get(id)
            }
            Err(err) => Err(err),
        }
    }

    /// The log index whose configuration this node serves.
    pub fn applied_index(&self) -> u64 {
        *self.applied.borrow()
    }

    pub fn head(&self, id: &str) -> Result<Head, ConfigError> {
        self.store.head(KIND, id).ok_or_else(|| ConfigError::NotFound(id.to_owned()))
    }

    pub fn version(&self, id: &str, version: u64) -> Result<EndpointView, ConfigError> {
        self.view(self.head(id)?, version)
    }

    fn view(&self, head: Head, version: u64) -> Result<EndpointView, ConfigError> {
        let found = self.store.version(KIND, &head.id, version)?;
        let version = found.ok_or_else(|| ConfigError::VersionNotFound { id: head.id.clone(), version })?;
        Ok(EndpointView { head, version, warnings: Vec::new() })
    }

    /// The document as it is stored, made on a thread where that may take its time. `previous`: what it follows, and
    /// whether texts that are encrypted under an older key are encrypted anew.
    async fn kept(&self, document: &str, previous: Option<(Arc<str>, bool)>) -> Result<String, ConfigError> {
        let stopped = |err: String| ConfigError::Propose(ProposeError::Storage(err));
        let _turn = self.hashing.acquire().await.map_err(|err| stopped(err.to_string()))?;
        let (secrets, document) = (self.node.secrets.clone(), document.to_owned());
        let hashing = tokio::task::spawn_blocking(move || match previous {
            Some((previous, false)) => secrets.kept_to_compare(&document, &previous),
            Some((previous, true)) => secrets.kept(&document, Some(&previous)),
            None => secrets.kept(&document, None),
        });
        hashing.await.map_err(|err| stopped(err.to_string()))?.map_err(unreadable)
    }

    /// A valid document as it would be stored as the next version after `stored`: a secret that is the same as there
    /// is kept as there.
    pub async fn as_stored(&self, document: &str, stored: &Arc<str>) -> Result<(String, Vec<Finding>), ConfigError> {
        let (document, checked) = self.restored(document, stored)?;
        Ok((self.kept(&document, Some((stored.clone(), false))).await?, checked.warnings))
    }

    /// See [`NodeSecrets::digest`](super::secrets::NodeSecrets::digest).
    pub fn request_digest(&self, parts: &[&[u8]]) -> String {
        self.node.secrets.digest(parts)
    }

    /// A stored document as it compares with an older one: what was only encrypted anew is no difference.
    pub fn comparable(&self, newer: &str, older: &str) -> Result<String, ConfigError> {
        self.node.secrets.comparable(newer, older).map_err(unreadable)
    }

    pub fn versions(&self, id: &str) -> Result<(Head, Vec<Version>), ConfigError> {
        let head = self.head(id)?;
        Ok((head, self.store.versions(KIND, id)?))
    }
}

/// Only nodes write encrypted texts.
fn refuse_encrypted(document: &str) -> Result<(), ConfigError> {
    match check_sent(document) {
        Ok(findings) if !findings.is_empty() => Err(ConfigError::Invalid(findings)),
        // That it is no JSON is validation's to say.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The text is not even JSON of a document's shape.
fn unreadable(err: serde_json::Error) -> ConfigError {
    ConfigError::Invalid(vec![Finding { path: String::new(), message: err.to_string() }])
}

fn authorship(change: &Change) -> Authorship {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    Authorship { author: change.author.clone(), message: change.message.clone(), at }
}

/// Templates that differ only in their parameters' names are the same path.
fn unique_key(path: &str) -> String {
    let mut key = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(open) = rest.find('{') {
        let Some(close) = rest[open..].find('}') else { break };
        key.push_str(&rest[..open]);
        key.push_str(if rest[open + 1..].starts_with('*') { "{*}" } else { "{}" });
        rest = &rest[open + close + 1..];
    }
    key.push_str(rest);
    key
}

#[cfg(test)]
mod tests {
    use super::unique_key;

    #[test]
    fn parameter_names_do_not_make_a_path_another_one() {
        assert_eq!(unique_key("/a/{x}/b/{*rest}"), "/a/{}/b/{*}");
        assert_eq!(unique_key("/a/{room}"), unique_key("/a/{chat}"));
        assert_ne!(unique_key("/a/{x}"), unique_key("/a/{*x}"));
        assert_eq!(unique_key("/plain"), "/plain");
    }
}
