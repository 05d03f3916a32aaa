//! Public keys of issuers (RFC 7517), kept and renewed. One fetch at a time for each source; keys that are known go on
//! serving while their server is down, for an hour.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::discovery::{discover, get_json, usable, DiscoveryError};
use super::outbound::Outbound;
use super::public_key::PublicKey;
use crate::model::authentication::{sha256, KeysFrom};

/// Older keys are renewed beside the handshake that uses them.
const RENEWED_AFTER: Duration = Duration::from_secs(30);
/// Older keys are renewed before a handshake uses them: a key that was withdrawn must not open connections.
const AWAITED_AFTER: Duration = Duration::from_secs(60);
/// The same when an open connection is checked: with [`crate::model::limits::RECHECK_SECONDS_DEFAULT`] less than a
/// minute.
const AWAITED_BY_RECHECK_AFTER: Duration = Duration::from_secs(10);
/// Keys that could not be renewed for so long serve no more.
const OLD_MAX: Duration = Duration::from_secs(3600);
/// A token with an unknown key makes the keys be fetched at most so often: anybody can make up such tokens.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(5);
/// After a failed fetch nobody tries again for so long.
const FAILURE_PAUSE: Duration = Duration::from_secs(2);
/// Where an issuer's keys are is asked again after so long, and when they are not there.
const DISCOVERED_FOR: Duration = Duration::from_secs(3600);
/// A source that nobody has used for so long is forgotten.
const UNUSED_MAX: Duration = Duration::from_secs(7200);

const KEY_SET_BYTES_MAX: usize = 256 * 1024;
const KEYS_MAX: usize = 100;

/// One public key.
#[derive(Debug)]
pub struct Key {
    pub id: Option<String>,
    /// The one algorithm that it is for, if it says so.
    pub algorithm: Option<Algorithm>,
    pub public: PublicKey,
    /// Tells it from every other key, whatever its id.
    pub digest: [u8; 32],
}

/// An issuer's keys as they were fetched.
#[derive(Debug)]
pub struct Keys {
    pub list: Vec<Key>,
    fetched: Instant,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

impl Keys {
    /// Keys that this program cannot use, or must not use for signatures, are left out: sets hold keys of many kinds.
    /// Symmetric ones are never taken: a published secret is none.
    pub fn read(body: &[u8]) -> Option<Keys> {
        let set: KeySet = serde_json::from_slice(body).ok()?;
        let list = set.keys.into_iter().take(KEYS_MAX).filter_map(key).collect();
        Some(Keys { list, fetched: Instant::now() })
    }
}

fn key(value: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let common = &jwk.common;
    if matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_) | AlgorithmParameters::Other(_)) {
        return None;
    }
    let verifies = common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
    if !verifies || common.public_key_use.as_ref().is_some_and(|made_for| *made_for != PublicKeyUse::Signature) {
        return None;
    }
    let algorithm = match common.key_algorithm {
        None => None,
        Some(named) => Some(Algorithm::try_from(named).ok()?),
    };
    let public = PublicKey::new(&DecodingKey::from_jwk(&jwk).ok()?)?;
    let digest = sha256(&serde_json::to_vec(&jwk.algorithm).ok()?);
    Some(Key { id: jwk.common.key_id, algorithm, public, digest })
}

/// What for keys are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Handshake,
    Recheck,
}

/// The sources of a node.
pub struct KeySets {
    outbound: Outbound,
    sources: Mutex<HashMap<KeysFrom, Arc<Source>>>,
}

struct Source {
    from: KeysFrom,
    keys: ArcSwapOption<Keys>,
    fetching: tokio::sync::Mutex<Fetching>,
    /// The last fetch has failed.
    failing: AtomicBool,
    renewing: AtomicBool,
    used: Mutex<Instant>,
}

#[derive(Default)]
struct Fetching {
    last_try: Option<Instant>,
    found: Option<(Arc<str>, Instant)>,
}

impl KeySets {
    pub fn new(outbound: Outbound) -> KeySets {
        KeySets { outbound, sources: Mutex::default() }
    }

    fn source(&self, from: &KeysFrom) -> Arc<Source> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = sources.get(from) {
            *known.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            return known.clone();
        }
        sources.retain(|_, source| source.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < UNUSED_MAX);
        let made = Arc::new(Source {
            from: from.clone(),
            keys: ArcSwapOption::empty(),
            fetching: tokio::sync::Mutex::default(),
            failing: AtomicBool::new(false),
            renewing: AtomicBool::new(false),
            used: Mutex::new(Instant::now()),
        });
        sources.insert(from.clone(), made.clone());
        made
    }

    /// The keys of a source; None: they are not known, and cannot be fetched.
    pub async fn get(&self, from: &KeysFrom, purpose: Use) -> Option<Arc<Keys>> {
        let source = self.source(from);
        let known = source.keys.load_full();
        let awaited_after = match purpose {
            Use::Handshake => AWAITED_AFTER,
            Use::Recheck => AWAITED_BY_RECHECK_AFTER,
        };
        if let Some(keys) = &known {
            let age = keys.fetched.elapsed();
            // While the server is down nobody waits for it.
            if age < awaited_after || (source.failing.load(Ordering::Relaxed) && age < OLD_MAX) {
                if age >= RENEWED_AFTER.min(awaited_after) {
                    source.renew(self.outbound.clone());
                }
                return known;
            }
        }
        match source.fetch(&self.outbound).await {
            Some(keys) => Some(keys),
            None => known.filter(|keys| keys.fetched.elapsed() < OLD_MAX),
        }
    }

    /// Fetches keys because a token names one that `known` has not. `Ok(None)`: not so soon again; an error: they cannot
    /// be fetched, so nobody knows.
    pub async fn get_newer(&self, from: &KeysFrom, known: &Keys) -> Result<Option<Arc<Keys>>, ()> {
        let source = self.source(from);
        if let Some(keys) = source.keys.load_full().filter(|keys| keys.fetched > known.fetched) {
            return Ok(Some(keys));
        }
        if known.fetched.elapsed() < UNKNOWN_KEY_PAUSE {
            return Ok(None);
        }
        source.fetch(&self.outbound).await.map(Some).ok_or(())
    }
}

impl Source {
    /// Fetches beside whoever has noticed that it is time.
    fn renew(self: Arc<Self>, outbound: Outbound) {
        if !self.renewing.swap(true, Ordering::Relaxed) {
            tokio::spawn(async move {
                self.fetch(&outbound).await;
                self.renewing.store(false, Ordering::Relaxed);
            });
        }
    }

    /// Fetches, or waits for the one who does. None: it has failed, just now or a moment ago.
    async fn fetch(&self, outbound: &Outbound) -> Option<Arc<Keys>> {
        let asked = Instant::now();
        let mut fetching = self.fetching.lock().await;
        let failing = self.failing.load(Ordering::Relaxed);
        let tried = fetching.last_try.is_some_and(|at| at > asked || (failing && at.elapsed() < FAILURE_PAUSE));
        if tried {
            return if failing { None } else { self.keys.load_full() };
        }
        let fetched = self.fetch_now(outbound, &mut fetching).await;
        fetching.last_try = Some(Instant::now());
        self.failing.store(fetched.is_err(), Ordering::Relaxed);
        match fetched {
            Ok(keys) => {
                let keys = Arc::new(keys);
                tracing::debug!(source = self.shown(), keys = keys.list.len(), "keys fetched");
                self.keys.store(Some(keys.clone()));
                Some(keys)
            }
            Err(err) => {
                fetching.found = None;
                tracing::warn!(source = self.shown(), "keys cannot be fetched: {err}");
                None
            }
        }
    }

    async fn fetch_now(&self, outbound: &Outbound, fetching: &mut Fetching) -> Result<Keys, DiscoveryError> {
        let url = match &self.from {
            KeysFrom::Url(url) => url.clone(),
            KeysFrom::Issuer(issuer) => match &fetching.found {
                Some((url, at)) if at.elapsed() < DISCOVERED_FOR => url.clone(),
                _ => {
                    let metadata = discover(outbound, issuer).await?;
                    let url = usable(issuer, metadata.jwks_uri, "jwks_uri")?;
                    fetching.found = Some((url.clone(), Instant::now()));
                    url
                }
            },
        };
        let answer = get_json(outbound, "jwks", &url, KEY_SET_BYTES_MAX).await?;
        match answer.status {
            200 => Keys::read(&answer.body).ok_or(DiscoveryError::Keys),
            status => Err(DiscoveryError::Status(status)),
        }
    }

    fn shown(&self) -> &str {
        match &self.from {
            KeysFrom::Url(url) | KeysFrom::Issuer(url) => super::shown(url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn takes_the_keys_that_verify_and_leaves_the_others() {
        let x = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
        let y = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
        let set = json!({"keys": [
            {"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "taken", "use": "sig", "alg": "ES256"},
            {"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "another name for it"},
            {"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "for encryption", "use": "enc"},
            {"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "for signing", "key_ops": ["sign"]},
            {"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "for key wrapping", "alg": "RSA-OAEP"},
            {"kty": "oct", "k": "c2VjcmV0", "kid": "symmetric", "alg": "HS256"},
            {"kty": "AKP", "pub": "x", "kid": "of the future", "alg": "ML-DSA-44"},
            {"kid": "nothing"}, 7]});
        let keys = Keys::read(set.to_string().as_bytes()).unwrap();
        let ids: Vec<_> = keys.list.iter().map(|key| key.id.as_deref().unwrap()).collect();
        assert_eq!(ids, ["taken", "another name for it"]);
        assert_eq!(keys.list[0].algorithm, Some(Algorithm::ES256));
        assert_eq!(keys.list[0].digest, keys.list[1].digest);
        for wrong in ["", "[]", "{}", "{\"keys\": 1}"] {
            assert!(Keys::read(wrong.as_bytes()).is_none(), "{wrong}");
        }
        assert!(Keys::read(b"{\"keys\": []}").unwrap().list.is_empty());
    }
}
