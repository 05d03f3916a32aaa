//! The keys that secrets of documents are encrypted with, derived from the cluster's secrets: the first one encrypts, every
//! one decrypts. Called by secrets; imports model's secret.
//!
//! `enc:v1:<key id>:<nonce, ciphertext and tag in base64url>`: AES-256-GCM under a key that HKDF-SHA256 makes of the
//! cluster secret, with a random nonce (2^32 of them are fine for one key). The place in the document is authenticated, so
//! the text opens nowhere else.

use std::fmt;

use aws_lc_rs::aead::{Aad, Nonce, RandomizedNonceKey, AES_256_GCM, NONCE_LEN};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{KeyType, Prk, Salt, HKDF_SHA256};
use aws_lc_rs::hmac;
use base64::prelude::{Engine, BASE64_URL_SAFE_NO_PAD};

use wsgateway_model::secret::Secret;

/// What encrypted texts begin with, also those of later formats.
pub const ENCRYPTED: &str = "enc:";
const V1: &str = "enc:v1:";

/// Keeps the derived keys apart from all other uses of the cluster secret.
const SALT: &[u8] = b"wsgateway document secrets v1";

/// Enough to tell two keys apart; says nothing about either.
const KEY_ID_BYTES: usize = 4;

struct Key {
    id: String,
    key: RandomizedNonceKey,
    digests: hmac::Key,
}

/// The keys of this node.
pub struct Keyring(Vec<Key>);

/// Why a text could not be decrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("is encrypted in a way that this build does not know")]
    Format,
    #[error("is encrypted under the key {0}, which none of this node's cluster.secrets makes")]
    UnknownKey(String),
    #[error("is encrypted text that was altered, or that belongs to another field")]
    Altered,
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn derived(from: &Prk, use_of: &[u8], bytes: &mut [u8]) -> Result<(), Unspecified> {
    from.expand(&[use_of], Length(bytes.len()))?.fill(bytes)
}

impl Keyring {
    /// One key per cluster secret, in their order.
    pub fn new(cluster_secrets: &[String]) -> Result<Keyring, Unspecified> {
        let key = |secret: &String| {
            let from = Salt::new(HKDF_SHA256, SALT).extract(secret.as_bytes());
            let (mut id, mut key, mut digests) = ([0u8; KEY_ID_BYTES], [0u8; 32], [0u8; 32]);
            derived(&from, b"key id", &mut id)?;
            derived(&from, b"aes-256-gcm", &mut key)?;
            derived(&from, b"digests", &mut digests)?;
            let digests = hmac::Key::new(hmac::HMAC_SHA256, &digests);
            let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
            Ok(Key { id, key: RandomizedNonceKey::new(&AES_256_GCM, &key)?, digests })
        };
        cluster_secrets.iter().map(key).collect::<Result<_, _>>().map(Keyring)
    }

    /// Without a key nothing can be encrypted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Encrypts for one place of documents, under the first key.
    pub fn seal(&self, place: &str, plain: &str) -> Result<String, Unspecified> {
        let Key { id, key, .. } = self.0.first().ok_or(Unspecified)?;
        let mut sealed = plain.as_bytes().to_vec();
        let nonce = key.seal_in_place_append_tag(Aad::from(place), &mut sealed)?;
        let all = [nonce.as_ref().as_slice(), &sealed].concat();
        Ok(format!("{V1}{id}:{}", BASE64_URL_SAFE_NO_PAD.encode(all)))
    }

    /// A digest that tells nothing to whoever has no key: of what may hold a secret that can be guessed.
    pub fn digest(&self, parts: &[&[u8]]) -> Option<String> {
        let mut context = hmac::Context::with_key(&self.0.first()?.digests);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        Some(context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Decrypts what was encrypted for this place.
    pub fn open(&self, place: &str, text: &str) -> Result<Secret, OpenError> {
        let (id, encoded) = text.strip_prefix(V1).and_then(|rest| rest.split_once(':')).ok_or(OpenError::Format)?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(encoded).map_err(|_| OpenError::Format)?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN).ok_or(OpenError::Format)?;
        let mut known = self.0.iter().filter(|key| key.id == id).peekable();
        if known.peek().is_none() {
            return Err(OpenError::UnknownKey(id.chars().take(2 * KEY_ID_BYTES).collect()));
        }
        for Key { key, .. } in known {
            let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::Format)?;
            let mut in_out = sealed.to_vec();
            let opened = key.open_in_place(nonce, Aad::from(place), &mut in_out);
            if let Some(plain) = opened.ok().and_then(|plain| std::str::from_utf8(plain).ok()) {
                return Ok(Secret::new(plain));
            }
        }
        Err(OpenError::Altered)
    }

    /// Whether it is encrypted under the key that new texts are encrypted under.
    pub fn is_current(&self, text: &str) -> bool {
        let id = text.strip_prefix(V1).and_then(|rest| rest.split_once(':')).map(|(id, _)| id);
        self.0.first().is_some_and(|first| Some(first.id.as_str()) == id)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring of {}", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(secrets: &[&str]) -> Keyring {
        Keyring::new(&secrets.iter().map(|secret| (*secret).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    const AT: &str = "authentication.clientSecret";

    #[test]
    fn what_is_sealed_opens_in_its_place_only() {
        let ring = keys(&["first secret of the cluster"]);
        for plain in ["", "hunter2", "schön", &"x".repeat(5000)] {
            let (once, again) = (ring.seal(AT, plain).unwrap(), ring.seal(AT, plain).unwrap());
            assert_eq!(ring.open(AT, &once).unwrap().expose(), plain);
            assert_ne!(once, again, "nonces are random");
            assert!(plain.is_empty() || !once.contains(plain));
            assert_eq!(ring.open("authentication.other", &once), Err(OpenError::Altered));
        }
    }

    #[test]
    fn what_was_altered_does_not_open() {
        let ring = keys(&["first secret of the cluster"]);
        let sealed = ring.seal(AT, "hunter2").unwrap();
        let start = sealed.rfind(':').unwrap() + 1;
        for at in start..sealed.len() {
            let other = if sealed.as_bytes()[at] == b'A' { "B" } else { "A" };
            let mut altered = sealed.clone();
            altered.replace_range(at..=at, other);
            assert!(ring.open(AT, &altered).is_err(), "{altered}");
        }
        for wrong in ["", "enc:", "enc:v1:", "enc:v1:00000000", "enc:v1:00000000:?", "enc:v2:00000000:AAAA"] {
            assert_eq!(ring.open(AT, wrong), Err(OpenError::Format), "{wrong}");
        }
        let cut = &sealed[..start + 8];
        assert_eq!(ring.open(AT, cut), Err(OpenError::Format));
    }

    #[test]
    fn digests_are_keyed_and_tell_their_parts_apart() {
        let ring = keys(&["first secret of the cluster", "another secret of the cluster"]);
        let digest = ring.digest(&[b"PUT", b"/a"]).unwrap();
        assert_eq!(Some(&digest), ring.digest(&[b"PUT", b"/a"]).as_ref());
        assert_ne!(Some(&digest), ring.digest(&[b"PUT/", b"a"]).as_ref());
        assert_ne!(Some(digest), keys(&["another secret of the cluster"]).digest(&[b"PUT", b"/a"]));
        assert_eq!(keys(&[]).digest(&[b"PUT"]), None);
    }

    #[test]
    fn during_a_rotation_both_keys_open_and_the_first_one_seals() {
        let (old, both) =
            (keys(&["the old cluster secret"]), keys(&["the new cluster secret", "the old cluster secret"]));
        let sealed = old.seal(AT, "hunter2").unwrap();
        assert_eq!(both.open(AT, &sealed).unwrap().expose(), "hunter2");
        assert!(old.is_current(&sealed) && !both.is_current(&sealed));
        let renewed = both.seal(AT, "hunter2").unwrap();
        assert!(both.is_current(&renewed));
        let Err(OpenError::UnknownKey(id)) = old.open(AT, &renewed) else { panic!("the old key opens it") };
        assert!(renewed.contains(&id) && id.len() == 8);
        assert!(keys(&[]).is_empty() && keys(&[]).seal(AT, "x").is_err());
    }
}
