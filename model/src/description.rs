//! The connection description as a tree: what expressions of source "connection" and templates look at.

use serde_json::Value;

/// The description, which `inbound::describe` has made as a text, and the connection's id under its short name.
pub fn tree(description: &str) -> Value {
    // Made from a tree: it parses.
    let mut tree: Value = serde_json::from_str(description).unwrap_or_default();
    add_id(&mut tree);
    tree
}

/// `id` beside `connectionId`.
pub fn add_id(tree: &mut Value) {
    if let Some(members) = tree.as_object_mut() {
        if let Some(id) = members.get("connectionId").cloned() {
            members.insert("id".to_owned(), id);
        }
    }
}
