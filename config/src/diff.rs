//! What is different between two documents, field by field: pure. Routes are compared with the route of the same type and
//! name wherever it stands, since their names are unique; other lists item by item. Formatting, the order of members and
//! how a number is written (8, 8.0) mean nothing, and a null field is a missing one (but in `value`, `schema` and below).
//!
//! Called by the admin surface; imports findings.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::findings::member;

/// One difference.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Its place in the newer document; of what is removed, in the older one.
    pub path: String,
    pub change: ChangeKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
}

/// What happened to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ChangeKind {
    Added,
    Removed,
    Changed,
    /// A route stands elsewhere among the others; `from` and `to` are places.
    Moved,
}

/// All differences, in the order of the newer document, removals last.
pub fn diff(from: &Value, to: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    compare("", from, to, &mut changes);
    changes
}

fn push(changes: &mut Vec<Change>, path: &str, change: ChangeKind, from: Option<&Value>, to: Option<&Value>) {
    changes.push(Change { path: path.to_owned(), change, from: from.cloned(), to: to.cloned() });
}

/// Recursion: bounded by the depth of documents.
fn compare(path: &str, from: &Value, to: &Value, changes: &mut Vec<Change>) {
    match (from, to) {
        (Value::Object(from), Value::Object(to)) => members(path, from, to, changes),
        (Value::Array(from), Value::Array(to)) if path == "routes" => routes(from, to, changes),
        (Value::Array(from), Value::Array(to)) => {
            for index in 0..from.len().max(to.len()) {
                one(&format!("{path}[{index}]"), from.get(index), to.get(index), changes);
            }
        }
        _ if same(from, to) => {}
        _ => push(changes, path, ChangeKind::Changed, Some(from), Some(to)),
    }
}

fn one(path: &str, from: Option<&Value>, to: Option<&Value>, changes: &mut Vec<Change>) {
    match (from, to) {
        (Some(from), Some(to)) => compare(path, from, to, changes),
        (None, Some(to)) => push(changes, path, ChangeKind::Added, None, Some(to)),
        (Some(from), None) => push(changes, path, ChangeKind::Removed, Some(from), None),
        (None, None) => {}
    }
}

fn same(from: &Value, to: &Value) -> bool {
    match (from, to) {
        (Value::Number(from), Value::Number(to)) => from == to || from.as_f64() == to.as_f64(),
        _ => from == to,
    }
}

fn members(path: &str, from: &Map<String, Value>, to: &Map<String, Value>, changes: &mut Vec<Change>) {
    // There null is a value.
    let has_nulls = path.contains(".schema") || path.contains(".expression");
    let there = |value: &&Value| has_nulls || !value.is_null();
    for (name, value) in to.iter().filter(|(_, value)| there(value)) {
        one(&member(path, name), from.get(name).filter(there), Some(value), changes);
    }
    for (name, value) in from.iter().filter(|(_, value)| there(value)) {
        if to.get(name).filter(there).is_none() {
            push(changes, &member(path, name), ChangeKind::Removed, Some(value), None);
        }
    }
}

fn routes(from: &[Value], to: &[Value], changes: &mut Vec<Change>) {
    let id = |route: &Value| (route["type"].clone(), route["name"].clone());
    let find = |list: &[Value], route: &Value| list.iter().position(|other| id(other) == id(route));
    let kept: Vec<usize> = from.iter().enumerate().filter(|(_, it)| find(to, it).is_some()).map(|(at, _)| at).collect();
    let mut next = kept.iter();
    for (index, route) in to.iter().enumerate() {
        let path = format!("routes[{index}]");
        let Some(before) = find(from, route) else {
            push(changes, &path, ChangeKind::Added, None, Some(route));
            continue;
        };
        // Among the routes that both have: additions and removals around it do not move a route.
        if next.next() != Some(&before) {
            let place = |index: usize| Some(Value::from(format!("routes[{index}]")));
            changes.push(Change {
                path: path.clone(),
                change: ChangeKind::Moved,
                from: place(before),
                to: place(index),
            });
        }
        compare(&path, &from[before], route, changes);
    }
    for (index, route) in from.iter().enumerate() {
        if find(to, route).is_none() {
            push(changes, &format!("routes[{index}]"), ChangeKind::Removed, Some(route), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(from: Value, to: Value) -> Vec<String> {
        let text = |value: Option<Value>| value.map_or("-".to_owned(), |value| value.to_string());
        let line = |c: Change| format!("{:?} {} {} {}", c.change, c.path, text(c.from), text(c.to));
        diff(&from, &to).into_iter().map(line).collect()
    }

    #[test]
    fn members_and_items() {
        let from = json!({"path": "/a", "name": null, "settings": {"maxInFlight": 8, "subprotocols": ["x", "y"]}, "ack": {"when": "received"}});
        let to = json!({"settings": {"subprotocols": ["x", "z", "w"], "maxInFlight": 8.0}, "path": "/b", "ack": null, "filters": {}});
        assert_eq!(
            told(from.clone(), to),
            [
                "Added filters - {}",
                "Changed path \"/a\" \"/b\"",
                "Changed settings.subprotocols[1] \"y\" \"z\"",
                "Added settings.subprotocols[2] - \"w\"",
                "Removed ack {\"when\":\"received\"} -"
            ]
        );
        assert!(told(from.clone(), from).is_empty());
    }

    #[test]
    fn routes_are_known_by_type_and_name() {
        let route = |name: &str, key: &str| json!({"type": "custom", "name": name, "key": key});
        let from = json!({"routes": [route("a", "1"), route("b", "2"), route("c", "3")]});
        let to = json!({"routes": [route("new", "0"), route("b", "2x"), route("c", "3")]});
        assert_eq!(
            told(from.clone(), to),
            [
                r#"Added routes[0] - {"key":"0","name":"new","type":"custom"}"#,
                r#"Changed routes[1].key "2" "2x""#,
                r#"Removed routes[0] {"key":"1","name":"a","type":"custom"} -"#,
            ]
        );
        let moved = told(from, json!({"routes": [route("b", "2"), route("a", "1"), route("c", "3")]}));
        assert_eq!(moved, [r#"Moved routes[0] "routes[1]" "routes[0]""#, r#"Moved routes[1] "routes[0]" "routes[1]""#]);
    }

    #[test]
    fn null_is_a_value_where_it_is_compared_with() {
        let equal = |leaf: Value| json!({"routes": [{"type": "custom", "name": "a", "expression": {"equal": leaf}}]});
        let with = equal(json!({"path": "$", "value": null}));
        assert_eq!(
            told(equal(json!({"path": "$", "value": 1})), with),
            ["Changed routes[0].expression.equal.value 1 null"]
        );
    }
}
