//! The part of a client's event that an endpoint looks at. It alone is read into a tree; the rest is checked and skipped.
//!
//! Made when an endpoint is compiled; called by inbound/decode. Imports json_path and json_check.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::json_check::{check_depth, utf8, validate_json, JsonFault};
use super::json_path::JsonPath;

/// What of an event must be at hand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Projection(Part);

/// What of one value must be at hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// These members, if the value is an object; nothing otherwise.
    Members(Vec<(Box<str>, Part)>),
}

impl Default for Part {
    fn default() -> Self {
        Part::Members(Vec::new())
    }
}

/// What became of reading an event's part.
#[derive(Debug, PartialEq)]
pub enum ReadPart {
    Read(Value),
    /// JSON that serde_json's tree cannot hold: a number beyond f64, a lone surrogate escape.
    NoTree,
}

impl Projection {
    /// All of it.
    pub fn whole() -> Projection {
        Projection(Part::Whole)
    }

    pub(super) fn part(&self) -> &Part {
        &self.0
    }

    /// Nothing of it: checking that it is JSON is enough.
    pub fn is_nothing(&self) -> bool {
        self.0 == Part::default()
    }

    /// True when the tree is the event.
    pub fn is_whole(&self) -> bool {
        self.0 == Part::Whole
    }

    /// What this path may find becomes part of it.
    pub fn add(&mut self, path: &JsonPath) {
        let mut part = &mut self.0;
        for name in path.leading_names() {
            let Part::Members(members) = part else { return };
            let known = members.iter().position(|(known, _)| **known == *name);
            let at = known.unwrap_or_else(|| {
                members.push((name.into(), Part::default()));
                members.len() - 1
            });
            part = &mut members[at].1;
        }
        *part = Part::Whole;
    }

    /// All of it, from now on.
    pub fn add_whole(&mut self) {
        self.0 = Part::Whole;
    }

    /// Reads the part; on a path that was added, the tree answers as the whole event's would.
    pub fn read(&self, data: &[u8]) -> Result<ReadPart, JsonFault> {
        if self.is_whole() {
            if let Ok(tree) = serde_json::from_slice(data) {
                return Ok(ReadPart::Read(tree));
            }
            return validate_json(data).map(|()| ReadPart::NoTree);
        }
        let text = utf8(data)?;
        let mut reader = serde_json::Deserializer::from_str(text);
        let read = self.0.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
        match read {
            Ok(value) => check_depth(text).map(|()| ReadPart::Read(value)),
            // Not JSON, or not for a tree.
            Err(_) => validate_json(data).map(|()| ReadPart::NoTree),
        }
    }
}

impl<'de> DeserializeSeed<'de> for &Part {
    type Value = Value;

    /// Recursion: as deep as the longest path has names, and serde_json's own limit below that.
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        match self {
            Part::Whole => Value::deserialize(reader),
            Part::Members(members) => reader.deserialize_any(Members(members)),
        }
    }
}

/// Reads the wanted members of an object. Whatever else is in its place becomes null, in which paths find as little.
struct Members<'p>(&'p [(Box<str>, Part)]);

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut found = Map::new();
        while let Some(wanted) = object.next_key_seed(Name(self.0))? {
            match wanted.and_then(|at| self.0.get(at)) {
                // A name that comes twice: the last one counts, as in serde_json's trees.
                Some((name, part)) => {
                    found.insert(name.to_string(), object.next_value_seed(part)?);
                }
                None => {
                    object.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(found))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E>(self, _: &str) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

/// A member's name: its position among the wanted ones.
struct Name<'p>(&'p [(Box<str>, Part)]);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Option<usize>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<usize>, E> {
        Ok(self.0.iter().position(|(wanted, _)| **wanted == *name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> JsonPath {
        JsonPath::parse(text).unwrap()
    }

    fn projection(paths: &[JsonPath]) -> Projection {
        let mut projection = Projection::default();
        paths.iter().for_each(|path| projection.add(path));
        projection
    }

    const EVENTS: &[&str] = &[
        r#"{"action":"go","n":1,"a":{"b":{"c":[1,{"d":2}],"x":"\ud83d\ude00"},"z":[]},"list":[{"id":1},{"id":2}]}"#,
        r#"{"a":{"b":1},"a":{"b":2},"action":"first","action":"last"}"#,
        r#"{"\u0061ction":"escaped name","a":{"b":null}}"#,
        r#"{"a":7,"list":{"id":3},"action":["go"]}"#,
        r#"{"a":{"b":[[]]},"n":-0.5e3,"other":1.5}"#,
        "{}",
        "[{\"action\":\"go\"},[1]]",
        "7",
        "-1",
        "1.5",
        "\"action\"",
        "null",
        "true",
        " {\"deep\":[[[[]]]],\"action\":\"x\"} ",
    ];

    #[test]
    fn finds_on_every_path_what_the_whole_event_has_there() {
        let texts =
            ["$.action", "$['a']", "$.a.b", "$.a.b.c[1].d", "$.list[*].id", "$.a.*", "$..id", "$", "$[0].action"];
        let paths: Vec<JsonPath> = texts.iter().map(|text| path(text)).collect();
        // Every set of up to three paths.
        for one in 0..paths.len() {
            for two in 0..paths.len() {
                for three in 0..paths.len() {
                    let asked = [paths[one].clone(), paths[two].clone(), paths[three].clone()];
                    let projection = projection(&asked);
                    for event in EVENTS {
                        let whole: Value = serde_json::from_str(event).unwrap();
                        let Ok(ReadPart::Read(part)) = projection.read(event.as_bytes()) else { panic!("{event}") };
                        for path in &asked {
                            assert_eq!(path.all(&part), path.all(&whole), "{} of {event} in {asked:?}", path.as_str());
                            assert_eq!(path.first(&part), path.first(&whole), "{} of {event}", path.as_str());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn reads_no_more_than_it_must() {
        let some = projection(&[path("$.action"), path("$.a.b.c[1]"), path("$.a.z")]);
        let Ok(ReadPart::Read(part)) = some.read(EVENTS[0].as_bytes()) else { panic!("JSON") };
        assert_eq!(part, serde_json::json!({"action": "go", "a": {"b": {"c": [1, {"d": 2}]}, "z": []}}));
        assert!(projection(&[path("$.a"), path("$..id")]).is_whole());
        assert_eq!(projection(&[path("$.a.b"), path("$.a")]), projection(&[path("$.a"), path("$.a.b")]));
        assert!(Projection::default().is_nothing() && !projection(&[path("$.a")]).is_nothing());
    }

    #[test]
    fn refuses_what_is_no_json_wherever_it_is() {
        let some = projection(&[path("$.a")]);
        for bad in [
            "{\"b\":}",
            "{\"a\":1,}",
            "{\"a\":1} x",
            "",
            "[1,]",
            "nul",
            "{\"b\":\"\\x\"}",
            "{\"b\":01}",
            "{\"b\":\"\n\"}",
            "\u{feff}{}",
        ] {
            assert!(some.read(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(some.read(b"{\"b\":\"\xff\"}").is_err(), "not UTF-8 in what is skipped");
        for depth in [super::super::limits::JSON_DEPTH_MAX - 1, super::super::limits::JSON_DEPTH_MAX] {
            let text = format!("{{\"b\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
            assert_eq!(
                some.read(text.as_bytes()).is_ok(),
                serde_json::from_str::<Value>(&text).is_ok(),
                "{depth} levels in what is skipped"
            );
        }
        for legal in ["{\"a\":1e999}", "{\"a\":\"\\ud800\"}", "1e999"] {
            assert_eq!(some.read(legal.as_bytes()), Ok(ReadPart::NoTree), "{legal}");
        }
        let skipped = some.read(b"{\"b\":1e999,\"c\":\"\\ud800\",\"a\":1}");
        assert_eq!(skipped, Ok(ReadPart::Read(serde_json::json!({"a": 1}))));
    }
}
