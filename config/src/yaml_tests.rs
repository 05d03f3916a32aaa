//! Tests of reading YAML, through `SourceText` as its callers do.

use serde_json::{json, Value};

use crate::source_text::{Format, Place, SourceText};

fn read(text: &str) -> SourceText {
    SourceText::read(text, Format::Yaml).unwrap_or_else(|fault| panic!("{fault:?} in {text}"))
}

fn value(text: &str) -> Value {
    serde_json::from_str(&read(text).json).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Line, column, path and message of what is wrong.
fn fault(text: &str) -> (usize, usize, String, String) {
    let fault = SourceText::read(text, Format::Yaml).expect_err(text);
    (fault.place.line, fault.place.column, fault.finding.path, fault.finding.message)
}

#[test]
fn the_core_schema_decides_what_a_scalar_is() {
    for (yaml, json) in [
        ("no", "\"no\""),
        ("yes", "\"yes\""),
        ("on", "\"on\""),
        ("True", "true"),
        ("FALSE", "false"),
        ("~", "null"),
        ("Null", "null"),
        ("12345678901234567890123", "12345678901234567890123"),
        ("1.50", "1.50"),
        ("-0.10e+05", "-0.10e+05"),
        ("+12", "12"),
        ("007", "7"),
        (".5", "0.5"),
        ("5.", "5"),
        ("0x1F", "31"),
        ("0o17", "15"),
        ("1_000", "\"1_000\""),
        ("12:30", "\"12:30\""),
        ("1e", "\"1e\""),
        (".", "\".\""),
        ("-", "[null]"),
        ("2024-01-01", "\"2024-01-01\""),
        ("\"12\"", "\"12\""),
        ("'a''b'", "\"a'b\""),
        ("\"\\u00e9\\n\"", "\"é\\n\""),
        ("|\n  {{ a }}\n  b\n", "\"{{ a }}\\nb\\n\""),
        (">-\n  a\n  b\n", "\"a b\""),
    ] {
        assert_eq!(read(yaml).json, json, "{yaml}");
    }
}

#[test]
fn structure_and_places() {
    let text = "# a comment\npath: /é/{room}\nroutes:\n  - type: custom\n    expression: {or: [{exists: {path: $.a}},\n      {exists: {path: $.b}}]}\n  - type: default\n";
    let expected = json!({"path": "/é/{room}", "routes": [
        {"type": "custom", "expression": {"or": [{"exists": {"path": "$.a"}}, {"exists": {"path": "$.b"}}]}},
        {"type": "default"}]});
    assert_eq!(value(text), expected);
    let read = read(text);
    for (path, line, column) in [
        ("path", 2, 1),
        ("routes", 3, 1),
        ("routes[0]", 4, 5),
        ("routes[0].expression.or[1]", 6, 7),
        ("routes[0].expression.or[1].exists.value", 6, 8),
        ("routes[1].backends[0].topic", 7, 5),
    ] {
        assert_eq!(read.place(path), Place { line, column }, "{path}");
    }
    // JSON is YAML.
    let sample = include_str!("testdata/endpoint-config-sample.json");
    assert_eq!(value(sample), serde_json::from_str::<Value>(sample).unwrap());
}

#[test]
fn tests_are_apart() {
    let read = read("tests:\n  - event: {a: 1}\npath: /a\n");
    assert_eq!(serde_json::from_str::<Value>(&read.json).unwrap(), json!({"path": "/a"}));
    assert_eq!(read.tests.as_deref(), Some("[{\"event\": {\"a\": 1}}]"));
    assert_eq!(read.place("tests[0].event.b"), Place { line: 2, column: 5 });
}

#[test]
fn aliases_are_written_out() {
    let text = "base: &b {type: http, n: &n 1.0}\nlist: [*b, *n, &x [*n]]\nmore: *x\n";
    let b = json!({"type": "http", "n": 1.0});
    assert_eq!(value(text), json!({"base": b, "list": [b, 1.0, [1.0]], "more": [1.0]}));
}

#[test]
fn slips_and_bombs_are_refused_with_their_place() {
    let cases = [
        ("a: 1\nb: {c: 1, c: 2}\n", (2, 11), "b.c", "twice"),
        ("a: 1\n\"a\": 2\n", (2, 1), "a", "twice"),
        ("a: !!str 1\n", (1, 4), "a", "tag"),
        ("a: !secret x\n", (1, 4), "a", "tag"),
        ("a: .inf\n", (1, 4), "a", "JSON"),
        ("a: -.INF\n", (1, 4), "a", "JSON"),
        ("[a]: 1\n", (1, 1), "", "key"),
        ("a: &a [*a]\n", (1, 8), "a[0]", "alias"),
        ("a: 1\n---\nb: 2\n", (2, 1), "", "second document"),
        ("a: 0xFFFFFFFFFFFFFFFFF\n", (1, 4), "a", "too large"),
    ];
    for (text, (line, column), path, word) in cases {
        let found = fault(text);
        assert_eq!((found.0, found.1, found.2.as_str()), (line, column, path), "{text}: {}", found.3);
        assert!(found.3.contains(word), "{text}: {}", found.3);
    }
    for text in ["", "# only a comment\n", "a: [1\nb: 2", "a: *nobody\n", "a: b: c\n"] {
        assert!(SourceText::read(text, Format::Yaml).is_err(), "{text:?}");
    }
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let inner = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
    }
    assert!(fault(&bomb).3.contains("aliases"));
    for deep in ["[".repeat(100_000), "{a: ".repeat(5_000), "- ".repeat(20_000)] {
        assert!(SourceText::read(&deep, Format::Yaml).is_err());
    }
}

#[test]
fn long_names_in_each_other_cost_no_more_than_the_text() {
    let mut text = String::new();
    for depth in 0..100 {
        text.push_str(&format!("{}{}:\n", " ".repeat(depth), "k".repeat(1_000)));
    }
    text.push_str(&" ".repeat(100));
    text.push_str(&format!("[{}]", vec!["1"; 300_000].join(",")));
    let read = read(&text);
    assert!(read.places_bytes() < 17 * 1024 * 1024, "{}", read.places_bytes());
}
