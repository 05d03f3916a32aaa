//! What operators may see of an event that passes: its shape, and the values that its endpoint's routes are chosen by. Pure;
//! called by the gateway's tail. Imports projection.

use serde_json::{Map, Value};

use super::projection::{Part, Projection};

/// A text that is shown has so many characters at most.
const SHOWN_CHARS_MAX: usize = 64;
/// So many members of one object, or items of one array.
const MEMBERS_MAX: usize = 32;
/// Keys are shown, and cut: some use data for keys.
const KEY_CHARS_MAX: usize = 64;
/// Deeper than this nothing is told.
const DEPTH_MAX: usize = 12;

impl Projection {
    /// The value without what is not looked at: texts, numbers and booleans are told by their kind, and long ones are cut.
    pub fn redacted(&self, value: &Value) -> Value {
        // Who looks at all of it has not said what may be shown.
        redacted(value, Some(self.part()).filter(|part| **part != Part::Whole), DEPTH_MAX)
    }
}

fn redacted(value: &Value, part: Option<&Part>, depth: usize) -> Value {
    match value {
        Value::Object(members) if depth > 0 => object(members, part, depth - 1),
        Value::Array(items) if depth > 0 => {
            let mut shown: Vec<Value> =
                items.iter().take(MEMBERS_MAX).map(|item| redacted(item, None, depth - 1)).collect();
            if items.len() > MEMBERS_MAX {
                shown.push(Value::String(format!("‹{} more›", items.len() - MEMBERS_MAX)));
            }
            Value::Array(shown)
        }
        Value::Object(members) => Value::String(format!("‹{} members›", members.len())),
        Value::Array(items) => Value::String(format!("‹{} items›", items.len())),
        Value::Null => Value::Null,
        scalar if part == Some(&Part::Whole) => shown(scalar),
        Value::String(text) => Value::String(format!("‹{} chars›", text.chars().count())),
        Value::Number(_) => Value::String("‹number›".to_owned()),
        Value::Bool(_) => Value::String("‹boolean›".to_owned()),
    }
}

fn object(members: &Map<String, Value>, part: Option<&Part>, depth: usize) -> Value {
    let mut shown = Map::new();
    for (name, value) in members.iter().take(MEMBERS_MAX) {
        let part = match part {
            Some(Part::Members(wanted)) => wanted.iter().find(|(known, _)| **known == **name).map(|(_, part)| part),
            Some(Part::Whole) | None => None,
        };
        shown.insert(cut(name, KEY_CHARS_MAX), redacted(value, part, depth));
    }
    if members.len() > MEMBERS_MAX {
        shown.insert("…".to_owned(), Value::String(format!("‹{} more›", members.len() - MEMBERS_MAX)));
    }
    Value::Object(shown)
}

fn shown(scalar: &Value) -> Value {
    match scalar {
        Value::String(text) => Value::String(cut(text, SHOWN_CHARS_MAX)),
        other => other.clone(),
    }
}

/// What is told of a text that may not be shown.
pub fn hidden(text: &str) -> String {
    match text.chars().count() {
        0 => String::new(),
        chars => format!("‹{chars} chars›"),
    }
}

fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json_path::JsonPath;
    use serde_json::json;

    fn looked_at(paths: &[&str]) -> Projection {
        let mut projection = Projection::default();
        for path in paths {
            projection.add(&JsonPath::parse(path).unwrap());
        }
        projection
    }

    #[test]
    fn shows_what_routes_are_chosen_by_and_the_shape_of_the_rest() {
        let event = json!({"type": "order", "total": 12.5, "paid": true, "card": "4111 1111 1111 1111", "note": null,
            "customer": {"name": "Zoë", "kind": "vip"}, "items": [{"type": "book"}, "x"]});
        let expected = json!({"type": "order", "total": "‹number›", "paid": "‹boolean›", "card": "‹19 chars›", "note": null,
            "customer": {"name": "‹3 chars›", "kind": "vip"}, "items": [{"type": "‹4 chars›"}, "‹1 chars›"]});
        assert_eq!(looked_at(&["$.type", "$.customer.kind"]).redacted(&event), expected);
    }

    #[test]
    fn what_is_looked_at_as_a_whole_is_not_shown_as_a_whole() {
        let event = json!({"card": {"number": "4111"}, "tags": ["a"]});
        for paths in [&["$"][..], &["$..number"], &["$.card", "$.tags[*]"], &[]] {
            let seen = looked_at(paths).redacted(&event);
            assert_eq!(seen, json!({"card": {"number": "‹4 chars›"}, "tags": ["‹1 chars›"]}), "{paths:?}");
        }
    }

    #[test]
    fn nothing_grows_without_a_bound() {
        let many: Map<String, Value> = (0..100).map(|n| (format!("{n:0100}"), json!("x"))).collect();
        let seen = looked_at(&[]).redacted(&json!({"many": many, "items": vec![1; 1000], "type": "y".repeat(500)}));
        assert!(seen.to_string().len() < 8000, "{seen}");
        assert_eq!(looked_at(&["$.type"]).redacted(&json!({"type": "y".repeat(500)}))["type"], "y".repeat(64) + "…");
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!([deep]);
        }
        assert!(looked_at(&[]).redacted(&deep).to_string().contains("‹1 items›"));
    }
}
