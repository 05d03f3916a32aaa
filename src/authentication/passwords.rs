//! Compares passwords with argon2id hashes: on blocking threads, a few at a time, and once for as long as it is
//! remembered that a password matched. What is remembered is an HMAC under a key that this process made, over the hash
//! and the password: it is of no use elsewhere, and says nothing once the document has another hash.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::PasswordVerifier;
use argon2::Argon2;
use aws_lc_rs::hmac;
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use super::generations::{Digest, Generations};
use super::Denied;
use crate::model::authentication::{sha256, PasswordCheck};

/// Handshakes that wait for their password to be hashed; more are told to come back. Each takes a few dozen
/// milliseconds of a core.
const WAITING_MAX: usize = 128;

/// Logins remembered: twice so many at most, each 32 bytes and a map's overhead.
const KNOWN_MAX: usize = 32_768;

pub struct Passwords {
    threads: Semaphore,
    waiting: AtomicUsize,
    key: hmac::Key,
    known: Mutex<Generations<()>>,
}

/// One more in line, while it lasts.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Passwords {
    pub fn new(threads: usize) -> Passwords {
        let secret: [u8; 32] = rand::random();
        Passwords {
            threads: Semaphore::new(threads.max(1)),
            waiting: AtomicUsize::new(0),
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            known: Mutex::new(Generations::new(KNOWN_MAX)),
        }
    }

    fn digest(&self, hash: &str, password: &str) -> Digest {
        let mut context = hmac::Context::with_key(&self.key);
        // A PHC string has no zero byte.
        for part in [hash.as_bytes(), b"\0", password.as_bytes()] {
            context.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }

    /// Whether this is the password. `may_go_on` is asked when its turn has come: many guesses at once must not get past
    /// a limit that counts failures.
    pub async fn matches(
        &self,
        password: &str,
        check: &PasswordCheck,
        may_go_on: impl Fn() -> Result<(), Duration>,
    ) -> Result<bool, Denied> {
        let hash: &Arc<str> = match check {
            PasswordCheck::Digest(digest) => return Ok(bool::from(sha256(password.as_bytes()).ct_eq(digest))),
            PasswordCheck::Argon2id(hash) => hash,
        };
        let digest = self.digest(hash, password);
        if self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).is_some() {
            return Ok(true);
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(&self.waiting);
        if before >= WAITING_MAX {
            return Err(super::unavailable());
        }
        // The semaphore is never closed.
        let _permit = self.threads.acquire().await;
        may_go_on().map_err(|retry_after| Denied::TooMany { retry_after })?;
        let (hash, password) = (hash.clone(), password.to_owned());
        let matches = tokio::task::spawn_blocking(move || verify(&hash, &password)).await;
        drop(waiting);
        let matches = matches.map_err(|_| super::unavailable())?;
        if matches {
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, ());
        }
        Ok(matches)
    }
}

/// The hash has been found sound when the document was compiled.
fn verify(hash: &str, password: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::password_hash::PasswordHasher;

    #[tokio::test]
    async fn a_login_is_hashed_once() {
        let hash: PasswordHash = Argon2::default().hash_password(b"right").unwrap();
        let check = PasswordCheck::Argon2id(hash.to_string().into());
        let passwords = Passwords::new(1);
        let never = || Err(Duration::from_secs(1));
        assert_eq!(passwords.matches("wrong", &check, || Ok(())).await, Ok(false));
        assert_eq!(passwords.matches("right", &check, || Ok(())).await, Ok(true));
        assert_eq!(passwords.matches("right", &check, never).await, Ok(true), "remembered");
        assert!(matches!(passwords.matches("wrong", &check, never).await, Err(Denied::TooMany { .. })));
        let other: PasswordHash = Argon2::default().hash_password(b"other").unwrap();
        let changed = PasswordCheck::Argon2id(other.to_string().into());
        assert_eq!(passwords.matches("right", &changed, || Ok(())).await, Ok(false), "the hash is part of it");
        let resolved = PasswordCheck::Digest(sha256(b"right"));
        assert_eq!(passwords.matches("right", &resolved, never).await, Ok(true));
        assert_eq!(passwords.matches("wrong", &resolved, never).await, Ok(false));
    }
}
