//! Signatures of requests, as Standard Webhooks has them (<https://www.standardwebhooks.com>): `v1,` and the base64 of an
//! HMAC-SHA256 over `id.timestamp.body`. Called by http for each attempt; imports model's keys.

use std::time::{SystemTime, UNIX_EPOCH};

use actix_http::header::{HeaderMap, HeaderName, HeaderValue};
use aws_lc_rs::hmac::{Context, Key, HMAC_SHA256};
use base64::engine::general_purpose::STANDARD;
use base64::Engine;

use crate::model::signing::SigningKeys;

static ID: HeaderName = HeaderName::from_static("webhook-id");
static TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
static SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Signs a backend's requests.
pub struct Signer {
    keys: Vec<Key>,
}

impl Signer {
    pub fn new(keys: &SigningKeys) -> Signer {
        Signer { keys: keys.keys().map(|key| Key::new(HMAC_SHA256, key)).collect() }
    }

    /// Adds the headers of one attempt: the time is its own, the id that of its event.
    pub fn sign(&self, id: &str, body: &[u8], now: SystemTime, headers: &mut HeaderMap) {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_string();
        let signatures: Vec<String> = self.keys.iter().map(|key| signature(key, id, &seconds, body)).collect();
        for (name, value) in [(&ID, id), (&TIMESTAMP, &seconds), (&SIGNATURE, &signatures.join(" "))] {
            // Event ids, digits and base64 are legal in headers.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name.clone(), value);
            }
        }
    }
}

fn signature(key: &Key, id: &str, seconds: &str, body: &[u8]) -> String {
    let mut hmac = Context::with_key(key);
    for part in [id.as_bytes(), b".", seconds.as_bytes(), b".", body] {
        hmac.update(part);
    }
    format!("v1,{}", STANDARD.encode(hmac.sign()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::secret::Secret;
    use std::time::Duration;

    #[test]
    fn signatures_are_those_of_the_reference_libraries() {
        // The vector that the libraries of standard-webhooks test themselves with.
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx";
        let signer = Signer::new(&SigningKeys::parse(&Secret::new(secret)).unwrap());
        let mut headers = HeaderMap::new();
        let now = UNIX_EPOCH + Duration::from_millis(1_614_265_330_999);
        signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", br#"{"test": 2432232314}"#, now, &mut headers);
        let text = |name: &HeaderName| headers.get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!((text(&ID).as_str(), text(&TIMESTAMP).as_str()), ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330"));
        let signatures = text(&SIGNATURE);
        let both: Vec<_> = signatures.split(' ').collect();
        assert_eq!((both[0], both.len()), ("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", 2));
        assert!(both[1].starts_with("v1,") && both[1] != both[0]);
    }
}
