//! What the document language has and this build does not enforce yet: refused, never silently stored. Work that adds
//! a feature deletes its line here. Called by validate; imports findings.

use serde_json::Value;

use super::findings::{member, Findings};

/// Said of all of them.
pub const MESSAGE: &str = "is not supported by this build yet";

/// Where, and the values that mean nothing is asked for. null always means that.
fn table() -> Vec<(&'static str, Vec<Value>)> {
    Vec::new()
}

/// Reports every field of the table that asks for something.
pub fn check(document: &Value, findings: &mut Findings) {
    for (pattern, accepted) in table() {
        let mut look = |pattern: &str| {
            let steps: Vec<&str> = pattern.split('.').collect();
            visit(document, &steps, "", &accepted, findings);
        };
        look(pattern);
        // Dead letters go to backends like others.
        if let Some(field) = pattern.strip_prefix("routes[].backends[].") {
            look(&format!("routes[].deadLetter.{field}"));
            look(&format!("deadLetter.{field}"));
        }
    }
}

fn visit(value: &Value, steps: &[&str], path: &str, accepted: &[Value], findings: &mut Findings) {
    let Some((step, rest)) = steps.split_first() else {
        if !value.is_null() && !accepted.contains(value) {
            findings.add(path, MESSAGE);
        }
        return;
    };
    let name = step.trim_end_matches("[]");
    let Some(found) = value.get(name) else { return };
    let path = member(path, name);
    if name.len() == step.len() {
        return visit(found, rest, &path, accepted, findings);
    }
    for (index, item) in found.as_array().into_iter().flatten().enumerate() {
        visit(item, rest, &format!("{path}[{index}]"), accepted, findings);
    }
}
