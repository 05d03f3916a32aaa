//! Tokens: made once, kept as hashes in the replicated store, looked up without a lock on every node. Called by the admin
//! side, which checks each request here, and by `app`, which keeps this copy at what is committed.
//!
//! Invariants: a token's text is never stored; whether anybody may call without one is decided by what was ever
//! committed, so that taking tokens away never opens a node (ADR 0016).

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine;
use rand::TryRngCore;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use wsgateway_raft_store::types::{Authorship, Command, Head, ProposeError, Rejection, Reply, UnixMillis};
use wsgateway_raft_store::{RaftStore, StoreError};

use super::guesses::Guesses;
use super::Role;

/// The store's namespace for tokens. Their unique key is their name.
const KIND: &str = "token";
/// The mark that anonymous access has ended, for good: a document without content.
const CLOSED_KIND: &str = "access";
const CLOSED: &str = "closed";

/// Tells what a leaked text is, to people and to scanners for secrets.
const PREFIX: &str = "wsg_";
const SECRET_BYTES: usize = 32;

/// Tokens of a cluster: each is read into memory on every node.
pub const TOKENS_MAX: usize = 1_000;
pub const NAME_CHARS_MAX: usize = 64;
/// Names that stand for no token.
const ADMINISTRATOR: &str = "admin";
const ANONYMOUS: &str = "anonymous";

/// A change that is committed is applied here within moments; see `ConfigStore`.
const VISIBLE_WITHIN: Duration = Duration::from_secs(2);
const CATCH_UP_PAUSE: Duration = Duration::from_millis(50);

/// Who calls.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The author of the changes it makes.
    pub name: Arc<str>,
    /// None: the setting admin.token, or nobody in particular.
    pub token_id: Option<Arc<str>>,
    pub role: Role,
}

/// A token without its text.
#[derive(Clone, Debug)]
pub struct Token {
    pub id: Arc<str>,
    pub caller: Caller,
    pub created_at: UnixMillis,
    pub created_by: String,
    pub expires_at: Option<UnixMillis>,
}

/// What the store keeps of it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredToken {
    name: String,
    role: Role,
    /// SHA-256, lower-case hex. The text has 256 random bits: nothing slower is needed.
    hash: String,
    expires_at: Option<UnixMillis>,
}

/// Why a request is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Missing,
    Invalid,
    Expired,
    /// Too many different wrong tokens came from this address.
    TooManyGuesses {
        wait: Duration,
    },
    /// This node does not know the cluster's tokens yet.
    NotReady,
}

/// A token to be.
pub struct NewToken {
    pub name: String,
    pub role: Role,
    pub expires_in: Option<Duration>,
}

/// A token that was made; its text is here and nowhere else.
pub struct Created {
    pub token: Arc<Token>,
    pub text: String,
    /// Until now anybody could call nodes without admin.token; from now on, nobody.
    pub closed_anonymous: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("there is no token {0}")]
    NotFound(String),
    #[error("the name {name} is that of token {holder}")]
    NameTaken { name: String, holder: String },
    #[error("token {0} was made by an earlier request with this Idempotency-Key; its text was shown then and is not kept: revoke it and make another one")]
    ShownAlready(String),
    #[error("there are {TOKENS_MAX} tokens already; revoke some")]
    TooMany,
    #[error("this is the last admin token, and this node has no admin.token: nobody could call any more; make another one first, or set admin.token")]
    LastAdmin,
    #[error("the first admin token ends anonymous access for good; without admin.token it must not expire")]
    FirstAdminExpires,
    #[error("committed at index {0}, but not yet visible on this node")]
    NotVisibleYet(u64),
    #[error("the system's random numbers: {0}")]
    Random(String),
    #[error(transparent)]
    Rejected(Rejection),
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Who asks for a change of tokens.
pub struct By {
    /// Makes a retried write safe.
    pub request_id: String,
    pub author: String,
    /// For the audit log.
    pub note: Option<String>,
}

impl By {
    fn authorship(&self) -> Authorship {
        Authorship { author: self.author.clone(), message: String::new(), at: unix_millis() }
    }
}

#[derive(Default)]
struct Live {
    by_hash: HashMap<[u8; 32], Arc<Token>>,
    by_id: BTreeMap<Arc<str>, Arc<Token>>,
    /// What it was read from: ids and the log indexes of their last change.
    read_from: Vec<(String, u64)>,
    /// An admin token is there, or was once.
    closed: bool,
}

/// The tokens as this node knows them.
pub struct Tokens {
    store: RaftStore,
    /// Hash of the setting admin.token, and whom it stands for.
    setting: Option<[u8; 32]>,
    administrator: Caller,
    anonymous: Caller,
    live: ArcSwap<Live>,
    guesses: Guesses,
    applied: watch::Sender<u64>,
    /// Set once this node knows what was committed when it joined.
    caught_up: AtomicBool,
}

impl Tokens {
    pub fn new(store: RaftStore, setting: Option<&str>) -> Arc<Tokens> {
        let caller = |name: &str| Caller { name: name.into(), token_id: None, role: Role::Admin };
        // From an earlier life: what it knew then holds until it learns more.
        let known = store.identity().generation > 1 && !store.status().voters.is_empty();
        let tokens = Tokens {
            store,
            setting: setting.map(|token| Sha256::digest(token).into()),
            administrator: caller(ADMINISTRATOR),
            anonymous: caller(ANONYMOUS),
            live: ArcSwap::default(),
            guesses: Guesses::default(),
            applied: watch::Sender::new(0),
            caught_up: AtomicBool::new(known),
        };
        tokens.refresh();
        Arc::new(tokens)
    }

    /// Who calls, going by the token that was shown. One hash and one look-up; a lock only for what can be guessed, and
    /// only while somebody guesses.
    pub fn identify(&self, shown: Option<&str>, from: IpAddr) -> Result<Caller, Refusal> {
        let live = self.live.load();
        let Some(shown) = shown else { return self.anonymous(&live) };
        let hash: [u8; 32] = Sha256::digest(shown).into();
        // A look-up by hash tells nothing about a token by the time that it takes.
        if let Some(token) = live.by_hash.get(&hash) {
            return match token.expires_at {
                Some(at) if at <= unix_millis() => Err(Refusal::Expired),
                _ => Ok(token.caller.clone()),
            };
        }
        if self.setting.is_some_and(|setting| bool::from(setting.ct_eq(&hash))) {
            return match self.guesses.wait(from, Instant::now()) {
                Some(wait) => Err(Refusal::TooManyGuesses { wait }),
                None => Ok(self.administrator.clone()),
            };
        }
        if !self.is_caught_up() {
            return Err(Refusal::NotReady);
        }
        match self.guesses.wrong(from, &hash, Instant::now()) {
            Some(wait) => Err(Refusal::TooManyGuesses { wait }),
            None => Err(Refusal::Invalid),
        }
    }

    fn anonymous(&self, live: &Live) -> Result<Caller, Refusal> {
        match (self.setting.is_some() || live.closed, self.is_caught_up()) {
            (true, _) => Err(Refusal::Missing),
            (false, false) => Err(Refusal::NotReady),
            (false, true) => Ok(self.anonymous.clone()),
        }
    }

    pub fn is_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Relaxed)
    }

    /// Whether anybody may call this node, as an admin.
    pub fn is_open(&self) -> bool {
        self.anonymous(&self.live.load()).is_ok()
    }

    /// By id.
    pub fn list(&self) -> Vec<Arc<Token>> {
        self.live.load().by_id.values().cloned().collect()
    }

    pub fn get(&self, id: &str) -> Option<Arc<Token>> {
        self.live.load().by_id.get(id).cloned()
    }

    pub async fn create(&self, new: NewToken, by: By) -> Result<Created, TokenError> {
        if self.live.load().by_id.len() >= TOKENS_MAX {
            return Err(TokenError::TooMany);
        }
        let closes = new.role == Role::Admin && self.is_open();
        if closes && new.expires_in.is_some() {
            return Err(TokenError::FirstAdminExpires);
        }
        let mut secret = [0; SECRET_BYTES];
        rand::rngs::OsRng.try_fill_bytes(&mut secret).map_err(|err| TokenError::Random(err.to_string()))?;
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
        let id = format!("tok-{:016x}", rand::random::<u64>());
        let millis = |expires_in: Duration| u64::try_from(expires_in.as_millis()).unwrap_or(u64::MAX);
        let stored = StoredToken {
            name: new.name.clone(),
            role: new.role,
            hash: to_hex(&Sha256::digest(&text).into()),
            expires_at: new.expires_in.map(|expires_in| unix_millis().saturating_add(millis(expires_in))),
        };
        let document = serde_json::to_string(&stored).map_err(|err| ProposeError::Storage(err.to_string()))?;
        let command = Command::Create {
            kind: KIND.to_owned(),
            id: id.clone(),
            key: new.name.clone(),
            document,
            by: by.authorship(),
        };
        let made = match self.propose(command, by.request_id, by.note).await {
            Err(TokenError::Rejected(Rejection::KeyTaken { key, holder })) => {
                return Err(TokenError::NameTaken { name: key, holder })
            }
            made => made?,
        };
        if made != id {
            return Err(TokenError::ShownAlready(made));
        }
        let token = self.get(&id).ok_or(TokenError::NotFound(id))?;
        Ok(Created { token, text, closed_anonymous: closes })
    }

    pub async fn revoke(&self, id: &str, by: By) -> Result<(), TokenError> {
        if self.get(id).is_none() {
            // It may have been made on another node a moment ago.
            let index = self.store.linearize().await?;
            self.applied_here(index).await?;
        }
        if self.get(id).is_some_and(|token| token.caller.role == Role::Admin) {
            if self.setting.is_none() && !self.another_admin(id) {
                return Err(TokenError::LastAdmin);
            }
            self.close_for_good(&by).await?;
        }
        let command = Command::Delete { kind: KIND.to_owned(), id: id.to_owned(), expected: None, by: by.authorship() };
        match self.propose(command, by.request_id, by.note).await {
            Err(TokenError::Rejected(Rejection::NotFound { id })) => Err(TokenError::NotFound(id)),
            revoked => revoked.map(|_| ()),
        }
    }

    fn another_admin(&self, than: &str) -> bool {
        let now = unix_millis();
        let counts = |token: &Token| {
            token.caller.role == Role::Admin && *token.id != *than && token.expires_at.is_none_or(|at| at > now)
        };
        self.live.load().by_id.values().any(|token| counts(token))
    }

    /// Commits the mark that there has been an admin token, before one goes: of two that are revoked at the same moment
    /// neither may be the last that keeps the door shut.
    async fn close_for_good(&self, by: &By) -> Result<(), TokenError> {
        if self.store.head(CLOSED_KIND, CLOSED).is_some() {
            return Ok(());
        }
        let command = Command::Create {
            kind: CLOSED_KIND.to_owned(),
            id: CLOSED.to_owned(),
            key: CLOSED.to_owned(),
            document: "{}".to_owned(),
            by: by.authorship(),
        };
        match self.propose(command, String::new(), None).await {
            Err(TokenError::Rejected(Rejection::IdTaken { .. })) => Ok(()),
            closed => closed.map(|_| ()),
        }
    }

    async fn propose(&self, command: Command, request_id: String, note: Option<String>) -> Result<String, TokenError> {
        match self.store.propose_noted(request_id, command, note).await? {
            Reply::Done { id, index, .. } => {
                self.applied_here(index).await?;
                Ok(id)
            }
            Reply::Rejected { rejection } => Err(TokenError::Rejected(rejection)),
        }
    }

    /// Waits until this node goes by what is committed at `index`.
    async fn applied_here(&self, index: u64) -> Result<(), TokenError> {
        let mut applied = self.applied.subscribe();
        let wait = applied.wait_for(|at| *at >= index);
        if matches!(tokio::time::timeout(VISIBLE_WITHIN, wait).await, Ok(Ok(_))) {
            return Ok(());
        }
        Err(TokenError::NotVisibleYet(index))
    }

    /// Keeps this copy at what is committed, for as long as the store runs.
    pub async fn follow(self: Arc<Self>) {
        let mut applied = self.store.applied();
        loop {
            let index = *applied.borrow_and_update();
            self.refresh();
            self.applied.send_replace(index);
            if applied.changed().await.is_err() {
                return;
            }
        }
    }

    /// On an empty disk: until everything is here that was committed when this node joined, it lets in nobody but the
    /// holder of admin.token.
    pub async fn catch_up(self: Arc<Self>) {
        while !self.is_caught_up() {
            if let Ok(index) = self.store.linearize().await {
                self.caught_up.store(self.applied_here(index).await.is_ok(), Ordering::Relaxed);
            }
            tokio::time::sleep(CATCH_UP_PAUSE).await;
        }
    }

    /// Reads levels, not events. A token that cannot be read is not valid here.
    fn refresh(&self) {
        let heads = self.store.heads(KIND);
        let read_from: Vec<_> = heads.iter().map(|head| (head.id.clone(), head.modified_index)).collect();
        let marked = self.store.head(CLOSED_KIND, CLOSED).is_some();
        let known = self.live.load();
        if known.read_from == read_from && (known.closed || !marked) {
            return;
        }
        let mut live = Live { read_from, closed: marked, ..Live::default() };
        for head in heads {
            match self.read(&head) {
                Ok((hash, token)) => {
                    live.closed |= token.caller.role == Role::Admin;
                    live.by_id.insert(token.id.clone(), token.clone());
                    live.by_hash.insert(hash, token);
                }
                Err(reason) => {
                    // Whoever it is for: with it unread, nobody is let in without a token. Tried again at the next change.
                    live.closed = true;
                    live.read_from.clear();
                    tracing::error!(token = %head.id, "a token cannot be read: {reason}");
                }
            }
        }
        tracing::debug!(tokens = live.by_id.len(), closed = live.closed, "tokens");
        self.live.store(Arc::new(live));
    }

    fn read(&self, head: &Head) -> Result<([u8; 32], Arc<Token>), String> {
        let version = self.store.version(KIND, &head.id, head.active_version).map_err(|err| err.to_string())?;
        let version = version.ok_or("it is missing from the store")?;
        let stored: StoredToken = serde_json::from_str(&version.document).map_err(|err| err.to_string())?;
        let hash = from_hex(&stored.hash).ok_or("its hash is no SHA-256")?;
        let id: Arc<str> = head.id.as_str().into();
        let caller = Caller { name: stored.name.into(), token_id: Some(id.clone()), role: stored.role };
        let (created_at, created_by) = (head.created_at, version.by.author);
        Ok((hash, Arc::new(Token { id, caller, created_at, created_by, expires_at: stored.expires_at })))
    }
}

/// What a token may be called: it is the author of changes and stands in logs.
pub fn check_name(name: &str) -> Result<(), String> {
    if matches!(name, ADMINISTRATOR | ANONYMOUS) {
        return Err(format!("{name:?} stands for no token"));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'@' | b':');
    match name.as_bytes() {
        [first, ..] if first.is_ascii_alphanumeric() && name.len() <= NAME_CHARS_MAX && name.bytes().all(plain) => {
            Ok(())
        }
        _ => Err(format!(
            "must be 1–{NAME_CHARS_MAX} letters, digits and . _ - @ :, beginning with a letter or digit, is {name:?}"
        )),
    }
}

fn unix_millis() -> UnixMillis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn to_hex(hash: &[u8; 32]) -> String {
    wsgateway_raft_store::apply::hex(hash)
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_stand_for_one_token() {
        for good in ["ci", "CI-2", "a.b_c@d:e", &"x".repeat(64)] {
            check_name(good).unwrap();
        }
        for wrong in ["", "-x", "a b", "a\n", "ü", "admin", "anonymous", &"x".repeat(65)] {
            check_name(wrong).unwrap_err();
        }
    }

    #[test]
    fn hashes_survive_their_text() {
        let hash: [u8; 32] = Sha256::digest("x").into();
        assert_eq!(from_hex(&to_hex(&hash)), Some(hash));
        assert_eq!(from_hex(&"g".repeat(64)), None);
        assert_eq!(from_hex("00"), None);
    }
}
