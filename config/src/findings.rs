//! What is wrong with a document, and where. Used by all of config and by those who show it; imports nothing.

use schemars::JsonSchema;
use serde::Serialize;

/// One fault or warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// Like `routes[3].expression.or[0]`; empty for the document itself.
    pub path: String,
    /// For people, in one line, to be read after the path.
    pub message: String,
}

/// Collects findings.
#[derive(Debug, Default)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    /// Adds one.
    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Finding { path: path.into(), message: message.into() });
    }

    /// The value, or None and a finding.
    pub fn take<T, E: std::fmt::Display>(&mut self, path: impl Into<String>, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(path, error.to_string())).ok()
    }
}

/// `parent.field`, or the field alone at the root; names that are no plain words are quoted in brackets.
pub fn member(parent: &str, field: &str) -> String {
    let plain = !field.is_empty() && field.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    match (plain, parent.is_empty()) {
        (false, _) => format!("{parent}[{field:?}]"),
        (true, true) => field.to_owned(),
        (true, false) => format!("{parent}.{field}"),
    }
}
