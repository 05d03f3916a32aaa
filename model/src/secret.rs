//! A secret in plain, as the serving code needs it: never printed, wiped from memory when it is let go. Made by config,
//! used by every room that shows itself to a service; imports nothing of the crate.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// The text of a secret. Ask for it by name, at the place where it leaves the gateway: [`Secret::expose`].
#[derive(Clone, PartialEq, Eq, Hash, Default, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself. For headers, bodies and keys that are sent; never for a log, an answer or a finding.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// In the schema, a text as any other.
impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        String::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

/// What documents may refer to on this node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretsSettings {
    /// `${env:NAME}`: NAME begins with this. Empty: no variable may be named.
    pub env_prefix: String,
    /// `${file:/path}`: the file is below one of these. None: no file may be named.
    pub file_dirs: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_text_that_is_not_printed() {
        let secret: Secret = serde_json::from_str("\"hunter2\"").unwrap();
        assert_eq!((secret.expose(), format!("{secret:?}")), ("hunter2", "(secret)".to_owned()));
        assert_eq!(secret, Secret::new("hunter2"));
        assert!(serde_json::from_str::<Secret>("7").is_err());
    }
}
