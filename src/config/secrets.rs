//! API keys of documents: kept as hashes, never returned. Called before a document is stored and before one is shown;
//! imports model and document.

use serde_json::value::RawValue;
use serde_json::Value;

use crate::model::endpoint::sha256;

use super::document::ApiKey;
use super::unsupported;

/// Says how a stored key was hashed.
const PREFIX: &str = "sha256:";

/// The digest of a key that is written literally or as its hash.
pub fn key_digest(key: &ApiKey) -> Result<[u8; 32], String> {
    match (key.key.as_deref(), key.key_hash.as_deref()) {
        (Some(_), Some(_)) => Err("has either \"key\" or \"keyHash\", not both".to_owned()),
        (None, None) => Err("needs a \"key\" or its \"keyHash\"".to_owned()),
        (Some(""), None) => Err("must not have an empty key".to_owned()),
        (Some(text), None) if is_reference(text) => Err(format!("the reference {text:?} {}", unsupported::MESSAGE)),
        (Some(text), None) => Ok(sha256(text.as_bytes())),
        (None, Some(hash)) => from_hex(hash).ok_or_else(|| format!("keyHash is {PREFIX:?} and 64 hexadecimal digits")),
    }
}

/// `${env:NAME}` or `${file:/path}`, resolved on each node.
fn is_reference(text: &str) -> bool {
    text.ends_with('}') && (text.starts_with("${env:") || text.starts_with("${file:"))
}

fn to_hex(digest: [u8; 32]) -> String {
    digest.iter().fold(PREFIX.to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_prefix(PREFIX)?;
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0u8; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(digest)
}

/// A hash that a reader may not see.
const REDACTED: &str = "sha256:redacted";

/// The document as it may be stored: literal API keys become their hashes. Everything but the objects of literal keys
/// keeps its bytes, so a document without such keys is returned as it is. For validated documents.
pub fn redact_and_hash(document: &str) -> Result<String, serde_json::Error> {
    rewrite_keys(document, |name, value| match (name, value) {
        ("key", Value::String(text)) if !is_reference(text) => Some(to_hex(sha256(text.as_bytes()))),
        _ => None,
    })
}

/// The document as it may be shown: with neither keys nor their hashes. What else it holds keeps its bytes.
pub fn redacted_for_reading(document: &str) -> Result<String, serde_json::Error> {
    rewrite_keys(document, |name, value| match (name, value) {
        ("key", Value::String(text)) => (!is_reference(text)).then(|| REDACTED.to_owned()),
        ("keyHash", Value::String(_)) => Some(REDACTED.to_owned()),
        _ => None,
    })
}

/// Whether a document was read before, so that its secrets have to be taken from the stored one.
pub fn hides_secrets(document: &str) -> bool {
    document.contains(REDACTED)
}

/// Undoes `redacted_for_reading` in a document that was read, edited and sent back: hashes return by the key's id from
/// the stored `previous` document. Ids unknown there stay redacted, which validation refuses.
pub fn restore_redacted(document: &str, previous: &str) -> Result<String, serde_json::Error> {
    if !hides_secrets(document) {
        return Ok(document.to_owned());
    }
    let mut known = std::collections::HashMap::new();
    for key in read_keys(previous)? {
        let key: Value = serde_json::from_str(key.get())?;
        if let (Some(id), Some(hash)) = (key["id"].as_str(), key["keyHash"].as_str()) {
            known.insert(id.to_owned(), hash.to_owned());
        }
    }
    let mut restored = document.to_owned();
    // From the end, so that earlier places stay where they are.
    for key in read_keys(document)?.into_iter().rev() {
        let members: Members<'_> = serde_json::from_str(key.get())?;
        let id = members.text("id")?;
        if members.text("keyHash")?.as_deref() == Some(REDACTED) {
            if let Some(hash) = id.and_then(|id| known.get(&id)) {
                replace(&mut restored, document, key, members.with("keyHash", hash)?);
            }
        }
    }
    Ok(restored)
}

/// Replaces members `key` and `keyHash` of the listed keys by a `keyHash` of what `hash` answers; None: not this one.
fn rewrite_keys(document: &str, hash: impl Fn(&str, &Value) -> Option<String>) -> Result<String, serde_json::Error> {
    let mut rewritten = document.to_owned();
    for key in read_keys(document)?.into_iter().rev() {
        let members: Members<'_> = serde_json::from_str(key.get())?;
        for (name, value) in &members.0 {
            if let Some(hash) = hash(name, &serde_json::from_str(value.get())?) {
                replace(&mut rewritten, document, key, members.with(name, &hash)?);
                break;
            }
        }
    }
    Ok(rewritten)
}

/// `part` is a piece of `document`, and everything before it is unchanged in `target`.
fn replace(target: &mut String, document: &str, part: &RawValue, by: String) {
    let start = part.get().as_ptr() as usize - document.as_ptr() as usize;
    target.replace_range(start..start + part.get().len(), &by);
}

/// The texts of `authentication.keys[]`, pieces of `document`.
fn read_keys(document: &str) -> Result<Vec<&RawValue>, serde_json::Error> {
    #[derive(serde::Deserialize)]
    struct Document<'a> {
        #[serde(borrow)]
        authentication: Option<Authentication<'a>>,
    }
    #[derive(serde::Deserialize)]
    struct Authentication<'a> {
        #[serde(borrow)]
        keys: Option<Vec<&'a RawValue>>,
    }
    let document: Document<'_> = serde_json::from_str(document)?;
    Ok(document.authentication.and_then(|authentication| authentication.keys).unwrap_or_default())
}

/// An object's members in their order, each value as it is written.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl Members<'_> {
    fn text(&self, name: &str) -> Result<Option<String>, serde_json::Error> {
        let value = self.0.iter().find(|(member, _)| member == name).map(|(_, value)| *value);
        Ok(value
            .map(|value| serde_json::from_str::<Value>(value.get()))
            .transpose()?
            .and_then(|value| value.as_str().map(str::to_owned)))
    }

    /// The object with the member `name` replaced by a `keyHash`.
    fn with(&self, name: &str, hash: &str) -> Result<String, serde_json::Error> {
        let mut members = Vec::new();
        for (member, value) in &self.0 {
            members.push(match member == name {
                true => format!("\"keyHash\": {}", Value::from(hash)),
                // A null beside the other is no second key.
                false if matches!(member.as_str(), "key" | "keyHash") => continue,
                false => format!("{}: {}", serde_json::to_string(member)?, value.get()),
            });
        }
        Ok(format!("{{{}}}", members.join(", ")))
    }
}

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("testdata/endpoint-config-sample.json");

    #[test]
    fn the_sample_keeps_its_bytes() {
        assert_eq!(redact_and_hash(SAMPLE).unwrap(), SAMPLE);
        assert_eq!(redacted_for_reading(SAMPLE).unwrap(), SAMPLE);
        assert_eq!(restore_redacted(SAMPLE, "{}").unwrap(), SAMPLE);
    }

    #[test]
    fn keys_become_hashes_and_then_nothing() {
        let text = r#"{ "path":"/a",  "authentication": {"mode":"apiKey", "keys":[ {"id" : "a", "key":"s\u0065cret-number-one"},
            {"keyHash": null, "key": "secret-number-two", "id": "b"}, {"id":"e","key":"${env:KEY}"} ] , "in": "query"}, "z": 1.50 }"#;
        let stored = redact_and_hash(text).unwrap();
        assert!(!stored.contains("number-one") && !stored.contains("number-two"), "{stored}");
        assert!(stored.contains(&format!("\"keyHash\": \"{}\"", to_hex(sha256(b"secret-number-one")))), "{stored}");
        assert!(
            stored.starts_with("{ \"path\":\"/a\",  \"authentication\"") && stored.ends_with("\"z\": 1.50 }"),
            "{stored}"
        );
        assert!(stored.contains("{\"id\":\"e\",\"key\":\"${env:KEY}\"}"));
        assert_eq!(redact_and_hash(&stored).unwrap(), stored, "a second time changes nothing");

        let shown = redacted_for_reading(&stored).unwrap();
        assert_eq!(shown.matches(REDACTED).count(), 2);
        assert!(!shown.contains(&to_hex(sha256(b"secret-number-one"))));
        assert!(!redacted_for_reading(text).unwrap().contains("number-two"));
        assert_eq!(restore_redacted(&shown, &stored).unwrap(), stored);
        assert!(restore_redacted(&shown, "{\"authentication\": {\"mode\": \"none\"}}").unwrap().contains(REDACTED));
    }

    #[test]
    fn digests() {
        let key = |key: Option<&str>, hash: Option<&str>| ApiKey {
            id: "a".into(),
            key: key.map(str::to_owned),
            key_hash: hash.map(str::to_owned),
        };
        let digest = sha256(b"k");
        assert_eq!(key_digest(&key(Some("k"), None)), Ok(digest));
        assert_eq!(key_digest(&key(None, Some(&to_hex(digest)))), Ok(digest));
        for (literal, hash) in [
            (None, None),
            (Some(""), None),
            (Some("k"), Some("sha256:00")),
            (None, Some("sha256:00")),
            (None, Some(REDACTED)),
            (Some("${env:X}"), None),
            (Some("${file:/run/x}"), None),
            (None, Some(&"é".repeat(32))),
        ] {
            assert!(key_digest(&key(literal, hash)).is_err(), "{literal:?} {hash:?}");
        }
    }
}
