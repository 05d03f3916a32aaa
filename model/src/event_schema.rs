//! The JSON Schema of a route's events: compiled once per endpoint version, and of a bounded cost on any event.
//!
//! A schema is a tree here: references stay inside it, nothing is fetched, and none leads back to itself – the cost of
//! a recursive schema doubles with each level of an event. What a schema costs is known when it is compiled (how many
//! parts it has when all references are followed), what an event costs before it is checked (ADR 0013).
//!
//! Called by config (compile), inbound and explain (check); imports limits.

use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::{Map, Value};

use super::limits;

/// Keywords whose value is a schema.
const ONE: [&str; 11] = [
    "additionalProperties",
    "additionalItems",
    "contains",
    "contentSchema",
    "else",
    "if",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// Keywords whose value is a list of schemas.
const LIST: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
/// Keywords whose value is an object of schemas.
const NAMED: [&str; 3] = ["dependentSchemas", "patternProperties", "properties"];
/// Keywords by which a schema's meaning depends on where it is used from, or that give parts other addresses.
const REFUSED: [&str; 5] = ["$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef"];

/// A compiled schema.
#[derive(Debug)]
pub struct EventSchema {
    validator: Validator,
    parts: usize,
    /// Parts that read a text from end to end.
    readers: usize,
}

/// What is wrong with a schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SchemaError {
    /// JSON Pointer into the schema.
    pub pointer: String,
    pub message: String,
}

fn fault(pointer: &str, message: impl Into<String>) -> SchemaError {
    SchemaError { pointer: pointer.to_owned(), message: message.into() }
}

impl EventSchema {
    /// Compiles a schema, or says where it is wrong.
    pub fn compile(schema: &Value) -> Result<EventSchema, SchemaError> {
        let mut measure = Measure { root: schema, parts: 0, readers: 0, active: Vec::new() };
        measure.schema(schema, "", 0)?;
        let (parts, readers) = (measure.parts, measure.readers);
        measure.definitions(schema)?;
        let validator = jsonschema::options()
            .with_pattern_options(PatternOptions::regex().size_limit(limits::REGEX_COMPILED_BYTES_MAX))
            .should_validate_formats(true)
            .should_ignore_unknown_formats(false)
            .build(schema)
            .map_err(|err| fault(err.instance_path().as_str(), shortened(&err.to_string())))?;
        Ok(EventSchema { validator, parts, readers })
    }

    /// Checks an event, which came as so many bytes; else says what is wrong, and where in the event.
    pub fn check(&self, event: &Value, bytes: usize) -> Result<(), String> {
        self.affordable(event, bytes)?;
        if self.validator.is_valid(event) {
            return Ok(());
        }
        match self.validator.validate(event) {
            Ok(()) => Ok(()),
            Err(err) => Err(said(&err)),
        }
    }

    /// Values are only counted when so many bytes could hold too many.
    fn affordable(&self, event: &Value, bytes: usize) -> Result<(), String> {
        let reading = self.readers.saturating_mul(bytes / 8);
        let steps = |values: usize| self.parts.saturating_mul(values).saturating_add(reading);
        let max = limits::SCHEMA_STEPS_MAX;
        // No value takes less than two bytes, with its comma.
        if steps(bytes / 2 + 1) <= max || steps(values(event)) <= max {
            return Ok(());
        }
        Err("the event is too large to be checked by this schema".to_owned())
    }
}

fn values(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(values).sum::<usize>(),
        Value::Object(members) => 1 + members.values().map(|member| 1 + values(member)).sum::<usize>(),
        _ => 1,
    }
}

/// Place and fault in one line. The values themselves, which may be long, are left out.
fn said(err: &ValidationError<'_>) -> String {
    let place = err.instance_path().as_str();
    let place = if place.is_empty() { "the event" } else { place };
    shortened(&format!("{place}: {}", err.masked()))
}

/// Schemas may hold long texts, too.
fn shortened(message: &str) -> String {
    const CHARACTERS_MAX: usize = 300;
    match message.char_indices().nth(CHARACTERS_MAX) {
        Some((cut, _)) => format!("{}…", &message[..cut]),
        None => message.to_owned(),
    }
}

/// Follows every reference once per use and counts.
struct Measure<'s> {
    root: &'s Value,
    parts: usize,
    readers: usize,
    /// Targets of the references that are being followed.
    active: Vec<&'s str>,
}

impl<'s> Measure<'s> {
    fn count(&mut self, parts: usize, at: &str) -> Result<(), SchemaError> {
        self.parts = self.parts.saturating_add(parts);
        if self.parts > limits::SCHEMA_PARTS_MAX {
            let max = limits::SCHEMA_PARTS_MAX;
            return Err(fault(at, format!("a schema has at most {max} parts, counted wherever they are referred to")));
        }
        Ok(())
    }

    /// Recursion: bounded by the depth.
    fn schema(&mut self, schema: &'s Value, at: &str, depth: usize) -> Result<(), SchemaError> {
        if depth > limits::SCHEMA_DEPTH_MAX {
            return Err(fault(at, format!("schemas nest at most {} deep", limits::SCHEMA_DEPTH_MAX)));
        }
        let members = match schema {
            Value::Bool(_) => return self.count(1, at),
            Value::Object(members) => members,
            _ => return Err(fault(at, "a schema is an object, true or false")),
        };
        self.own(members, at, depth)?;
        let inside = |keyword: &str| format!("{at}/{keyword}");
        // What is not evaluated is only known when all else has been, once more.
        let twice = members.contains_key("unevaluatedItems") || members.contains_key("unevaluatedProperties");
        for _ in 0..=usize::from(twice) {
            for (keyword, value) in members {
                match (keyword.as_str(), value) {
                    (one, _) if ONE.contains(&one) => self.schema(value, &inside(one), depth + 1)?,
                    ("items", Value::Array(_)) => self.list(value, &inside("items"), depth)?,
                    ("items", _) => self.schema(value, &inside("items"), depth + 1)?,
                    (list, _) if LIST.contains(&list) => self.list(value, &inside(list), depth)?,
                    (named, _) if NAMED.contains(&named) => self.named(value, &inside(named), depth)?,
                    ("dependencies", Value::Object(named)) => {
                        for (name, value) in named.iter().filter(|(_, value)| !value.is_array()) {
                            self.schema(value, &format!("{at}/dependencies/{}", escaped(name)), depth + 1)?;
                        }
                    }
                    ("$ref", Value::String(target)) => self.reference(target, &inside("$ref"), depth)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// What a schema asks by itself.
    fn own(&mut self, members: &'s Map<String, Value>, at: &str, depth: usize) -> Result<(), SchemaError> {
        if let Some(refused) = REFUSED.iter().find(|keyword| members.contains_key(**keyword)) {
            return Err(fault(&format!("{at}/{refused}"), "is not available; use $ref to \"#/$defs/…\""));
        }
        if depth > 0 && (members.contains_key("$id") || members.contains_key("$schema")) {
            return Err(fault(at, "$id and $schema belong to the whole schema"));
        }
        let listed = |keyword: &str| members.get(keyword).and_then(Value::as_array).map_or(0, Vec::len);
        self.count(1 + members.len() + listed("enum") + listed("required"), at)?;
        if let Some(pattern) = members.get("pattern").and_then(Value::as_str) {
            self.pattern(pattern, &format!("{at}/pattern"))?;
        }
        for (name, _) in members.get("patternProperties").and_then(Value::as_object).into_iter().flatten() {
            self.pattern(name, &format!("{at}/patternProperties/{}", escaped(name)))?;
        }
        self.readers += usize::from(members.contains_key("format"));
        Ok(())
    }

    fn pattern(&mut self, pattern: &str, at: &str) -> Result<(), SchemaError> {
        self.readers += 1;
        if pattern.len() > limits::REGEX_BYTES_MAX {
            return Err(fault(at, format!("a pattern has at most {} bytes", limits::REGEX_BYTES_MAX)));
        }
        let built = regex::RegexBuilder::new(pattern).size_limit(limits::REGEX_COMPILED_BYTES_MAX).build();
        built.map(drop).map_err(|err| {
            let message = err.to_string();
            let reason = message.lines().last().unwrap_or_default().trim_start_matches("error: ");
            fault(at, format!("is no regular expression of linear time: {reason}"))
        })
    }

    fn list(&mut self, list: &'s Value, at: &str, depth: usize) -> Result<(), SchemaError> {
        let items = list.as_array().ok_or_else(|| fault(at, "must be a list of schemas"))?;
        for (index, item) in items.iter().enumerate() {
            self.schema(item, &format!("{at}/{index}"), depth + 1)?;
        }
        Ok(())
    }

    fn named(&mut self, named: &'s Value, at: &str, depth: usize) -> Result<(), SchemaError> {
        let members = named.as_object().ok_or_else(|| fault(at, "must be an object of schemas"))?;
        for (name, member) in members {
            self.schema(member, &format!("{at}/{}", escaped(name)), depth + 1)?;
        }
        Ok(())
    }

    fn reference(&mut self, target: &'s str, at: &str, depth: usize) -> Result<(), SchemaError> {
        let Some(pointer) = target.strip_prefix('#') else {
            return Err(fault(at, "only references within the schema (\"#/…\") are followed; nothing is fetched"));
        };
        let Some(found) = self.root.pointer(pointer) else {
            return Err(fault(at, format!("there is nothing at {target:?}")));
        };
        if pointer.is_empty() || self.active.contains(&target) {
            return Err(fault(at, "leads back to itself: recursive schemas are not available"));
        }
        self.active.push(target);
        self.schema(found, at, depth + 1)?;
        self.active.pop();
        Ok(())
    }

    /// Definitions that nobody refers to must be sound, too. They cost nothing when an event is checked.
    fn definitions(&mut self, root: &'s Value) -> Result<(), SchemaError> {
        for keyword in ["$defs", "definitions"] {
            if let Some(named) = root.get(keyword) {
                self.named(named, &format!("/{keyword}"), 0)?;
            }
        }
        Ok(())
    }
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Instant;

    fn order() -> Value {
        json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://example.com/order",
            "type": "object", "required": ["sku"], "additionalProperties": false,
            "properties": {"sku": {"$ref": "#/$defs/sku"}, "n": {"type": "integer", "minimum": 1}, "mail": {"format": "email"},
                "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}, "uniqueItems": true}},
            "$defs": {"sku": {"type": "string", "pattern": "^[a-z]+-[0-9]+$"}, "line": {"properties": {"sku": {"$ref": "#/$defs/sku"}}}}})
    }

    #[test]
    fn names_the_place() {
        let schema = EventSchema::compile(&order()).unwrap();
        let check = |event: Value| schema.check(&event, event.to_string().len());
        assert_eq!(check(json!({"sku": "a-1", "n": 2, "lines": [{"sku": "b-2"}]})), Ok(()));
        for (event, place) in [
            (json!({"sku": "A"}), "/sku: value does not match"),
            (json!({}), "the event: \"sku\" is a required property"),
            (json!({"sku": "a-1", "n": 0}), "/n: value is less than the minimum of 1"),
            (json!({"sku": "a-1", "mail": "x"}), "/mail: value is not a \"email\""),
            (json!({"sku": "a-1", "lines": [1, {"sku": 3}]}), "/lines/1/sku: value is not of type \"string\""),
            (json!({"sku": "a-1", "x": 1}), "the event: Additional properties are not allowed"),
            (json!([]), "the event: value is not of type \"object\""),
        ] {
            let message = check(event).unwrap_err();
            assert!(message.starts_with(place), "{message}");
        }
    }

    #[test]
    fn refuses_what_is_no_schema_or_no_tree() {
        let doubling: Map<String, Value> = (0..12)
            .map(|n| (format!("d{n}"), json!({"allOf": [{"$ref": format!("#/$defs/d{}", n + 1)}, {"$ref": format!("#/$defs/d{}", n + 1)}]})))
            .chain([("d12".to_owned(), json!({"type": "string"}))])
            .collect();
        let mut deep = json!({});
        for _ in 0..100 {
            deep = json!({"items": deep});
        }
        for (schema, pointer, part) in [
            (json!({"type": "strin"}), "/type", "strin"),
            (json!({"properties": {"a/b": {"minimum": "1"}}}), "/properties/a~1b/minimum", "not of type"),
            (json!(7), "", "an object, true or false"),
            (json!({"$ref": "https://example.com/x"}), "/$ref", "nothing is fetched"),
            (json!({"$defs": {"a": {"$ref": "other.json"}}}), "/$defs/a/$ref", "nothing is fetched"),
            (json!({"$ref": "#/$defs/a"}), "/$ref", "there is nothing"),
            (json!({"$ref": "#"}), "/$ref", "leads back"),
            (json!({"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}), "", "leads back"),
            (json!({"$defs": doubling, "$ref": "#/$defs/d0"}), "", "parts"),
            (deep, "", "nest at most"),
            (json!({"pattern": "(a+)+\\1"}), "/pattern", "linear time"),
            (json!({"pattern": "(?=a)b"}), "/pattern", "linear time"),
            (json!({"patternProperties": {"((\\w{100}){100}){100}": true}}), "", "linear time"),
            (json!({"$dynamicRef": "#a"}), "/$dynamicRef", "not available"),
            (json!({"items": {"$id": "x"}}), "/items", "belong to the whole"),
            (json!({"format": "emial"}), "", "emial"),
        ] {
            let started = Instant::now();
            let error = EventSchema::compile(&schema).unwrap_err();
            assert!(error.message.contains(part), "{schema}: {error:?}");
            assert!(pointer.is_empty() || error.pointer == pointer, "{schema}: {error:?}");
            assert!(started.elapsed().as_millis() < 1000, "{schema} took {:?}", started.elapsed());
        }
        assert!(EventSchema::compile(&json!(true)).is_ok() && EventSchema::compile(&json!({})).is_ok());
    }

    /// The dearest schemas that are allowed, on the dearest events that a client can send.
    #[test]
    fn hostile_events_stay_cheap() {
        let all_of: Vec<_> = (0..400).map(|n| json!({"not": {"const": n}})).collect();
        let patterns: Vec<_> = (0..60).map(|n| json!({"not": {"pattern": format!("(x+x+)+y{n}$")}})).collect();
        let wide: Value = serde_json::from_str(&format!("[{}1]", "1,".repeat(60_000))).unwrap();
        let long = json!([["x".repeat(120_000)]]);
        for schema in [
            json!({"items": {"allOf": all_of}}),
            json!({"items": {"items": {"allOf": patterns}}}),
            json!({"uniqueItems": true, "items": {"enum": (0..900).collect::<Vec<_>>()}}),
        ] {
            let schema = EventSchema::compile(&schema).unwrap();
            for event in [&wide, &long] {
                let bytes = event.to_string().len();
                let mut best = u128::MAX;
                for _ in 0..3 {
                    let started = Instant::now();
                    let _ = schema.check(event, bytes);
                    best = best.min(started.elapsed().as_micros());
                }
                assert!(best < 20_000, "{} parts: {best} µs", schema.parts);
            }
        }
    }
}
