//! Keys that sign requests, read from a document's text (Standard Webhooks, <https://www.standardwebhooks.com>). Made by
//! config, used by backends; imports model's secret.

use base64::engine::general_purpose::STANDARD;
use base64::Engine;

use super::secret::Secret;

/// The specification's bounds of a key, in bytes.
const KEY_BYTES_MIN: usize = 24;
const KEY_BYTES_MAX: usize = 64;
/// Of the serialization with base64.
const PREFIX: &str = "whsec_";
/// The new and the old one, while receivers change over: each request has a signature of both.
pub const SIGNING_SECRETS_MAX: usize = 2;

/// The keys of a backend. None of them, where the document is only looked at: nobody there knows its secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKeys(Vec<Vec<u8>>);

impl SigningKeys {
    /// `whsec_` and base64, or a text that is a key by its own bytes; two of them are separated by a space.
    pub fn parse(text: &Secret) -> Result<SigningKeys, String> {
        let keys = text.expose().split(' ').map(key).collect::<Result<Vec<_>, _>>()?;
        if keys.len() > SIGNING_SECRETS_MAX {
            return Err(format!("has at most {SIGNING_SECRETS_MAX} secrets, there are {}", keys.len()));
        }
        Ok(SigningKeys(keys))
    }

    /// Of a document that is explained or checked without its secrets.
    pub fn unknown() -> SigningKeys {
        SigningKeys(Vec::new())
    }

    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }
}

impl std::fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKeys({})", self.0.len())
    }
}

impl Drop for SigningKeys {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(zeroize::Zeroize::zeroize);
    }
}

/// Errors never quote the text.
fn key(text: &str) -> Result<Vec<u8>, String> {
    let key = match text.strip_prefix(PREFIX) {
        Some(encoded) => STANDARD.decode(encoded).map_err(|_| format!("has no base64 behind {PREFIX:?}"))?,
        None => text.as_bytes().to_vec(),
    };
    match key.len() {
        KEY_BYTES_MIN..=KEY_BYTES_MAX => Ok(key),
        length => Err(format!("must be a key of {KEY_BYTES_MIN}–{KEY_BYTES_MAX} bytes, has {length}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<usize>, String> {
        SigningKeys::parse(&Secret::new(text)).map(|keys| keys.keys().map(<[u8]>::len).collect())
    }

    #[test]
    fn secrets_are_base64_behind_their_prefix_or_their_own_bytes() {
        assert_eq!(parsed("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), Ok(vec![24]));
        assert_eq!(parsed("a raw text has no spaces").unwrap_err(), "must be a key of 24–64 bytes, has 1");
        assert_eq!(parsed(&"r".repeat(64)), Ok(vec![64]));
        assert_eq!(parsed(&format!("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw {}", "r".repeat(30))), Ok(vec![24, 30]));
        for wrong in ["", "short", &"r".repeat(65), "whsec_", "whsec_not base64", "whsec_%%%%", "whsec_MfKQ"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
        assert!(parsed(&["r".repeat(30), "s".repeat(30), "t".repeat(30)].join(" ")).unwrap_err().contains("at most 2"));
    }

    #[test]
    fn keys_are_not_printed() {
        let keys = SigningKeys::parse(&Secret::new("canary-canary-canary-canary")).unwrap();
        assert_eq!(format!("{keys:?}"), "SigningKeys(1)");
    }
}
