//! Tests of JSONPath: what is found, what is refused.

use super::*;
use jsonpath_rust::query::js_path_vals;
use serde_json::json;
use std::time::{Duration, Instant};

fn sample() -> Value {
    json!({
        "a": {"b": {"c": [1, 2, {"d": "x"}]}, "it's": 1, "é": 2, "a b": 3},
        "items": [{"n": 1, "tag": "p"}, {"n": 2.5, "tag": "q"}, {"n": null}, [1, 2], "text"],
        "limit": 2, "c": 5, "": 7, "nul": null
    })
}

#[test]
fn finds_what_jsonpath_rust_finds() {
    let value = sample();
    for path in [
        "$",
        "$.a",
        "$.a.b.c",
        "$.a.b.c[0]",
        "$.a.b.c[-1].d",
        "$.a.b.c[9]",
        "$['a']['b']",
        "$[\"a\"]",
        "$.a['it\\'s']",
        "$.a.é",
        "$.a['\\u00e9']",
        "$.a['a b']",
        "$['']",
        "$.nul",
        "$.missing.b",
        "$.c.d",
        "$.items[*]",
        "$.*",
        "$..c",
        "$..*",
        "$..n",
        "$..[0]",
        "$.items[0:2]",
        "$.items[::-1]",
        "$.items[-2:]",
        "$.items[::2]",
        "$.items[5:1:-2]",
        "$.items[3:0:-1]",
        "$.items[0,2]",
        "$['a','c']",
        "$..['n','tag']",
        "$.items[?@.n]",
        "$.items[?@.n == 1]",
        "$.items[?@.n < 2]",
        "$.items[?@.n > 1 && @.tag == 'q']",
        "$.items[?!@.n]",
        "$..[?@.n == null]",
        "$.items[?length(@.tag) == 1]",
        "$.items[?(@.n == 1 || @.n == 2.5)].tag",
        "$ .a",
        "$.items[?@ == 'text']",
        "$.items[::0]",
    ] {
        let ours = JsonPath::parse(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut found: Vec<String> = ours.all(&value).into_iter().map(Value::to_string).collect();
        let mut theirs: Vec<String> = js_path_vals(path, &value).unwrap().into_iter().map(Value::to_string).collect();
        // `..` visits in another order, which RFC 9535 leaves open.
        found.sort();
        theirs.sort();
        assert_eq!(found, theirs, "{path}");
        assert_eq!(ours.first(&value), ours.all(&value).first().copied(), "{path}");
    }
}

#[test]
fn knows_singular_paths() {
    for path in ["$", "$.a.b", "$['a'][0]", "$[-1]"] {
        assert!(JsonPath::parse(path).unwrap().is_singular(), "{path}");
    }
    for path in ["$.*", "$..a", "$[0,1]", "$[0:1]", "$[?@.a]"] {
        assert!(!JsonPath::parse(path).unwrap().is_singular(), "{path}");
    }
}

#[test]
fn refuses_what_is_no_path() {
    for bad in
        ["", "a", "$.", "$[", "$.a b", "$[?]", "$[1.5]", "$a", " $.a", "$.a ", "@.a", "$[99999999999999999999]", "$.a["]
    {
        assert!(matches!(JsonPath::parse(bad), Err(JsonPathError::Syntax(_))), "{bad} {:?}", JsonPath::parse(bad));
    }
    assert_eq!(JsonPath::parse("$.a.[b").unwrap_err(), JsonPathError::Syntax("error at character 5".into()));
}

#[test]
fn refuses_bombs_at_once() {
    let started = Instant::now();
    let long = format!("$.{}", "a".repeat(600));
    let nested = format!("$[?{}@.a{}]", "(".repeat(200), ")".repeat(200));
    let unions = format!("${}", "[0,0]".repeat(80));
    for (path, error) in [
        (long.as_str(), JsonPathError::Length(602)),
        (&nested, JsonPathError::Nesting),
        (&unions, JsonPathError::Unions),
        ("$..[*]..[*]..[*]", JsonPathError::Descendants),
        ("$..a..b", JsonPathError::Descendants),
        ("$[?@..a]", JsonPathError::FilterQuery),
        ("$[?@[?@.a]]", JsonPathError::FilterQuery),
        ("$[?$.a]", JsonPathError::FilterQuery),
        ("$[?@.a == $.b]", JsonPathError::FilterQuery),
        ("$[?$[*]]", JsonPathError::FilterQuery),
        ("$[?$[?@.a]]", JsonPathError::FilterQuery),
        ("$[?count(@.*) > 1]", JsonPathError::FilterQuery),
        ("$[?@.a][?@.a][?@.a][?@.a][?@.a]", JsonPathError::Filters),
        ("$[?match(@.a, 'x')]", JsonPathError::Regex("match")),
        ("$[?(@.b && !search(@.a, 'x'))]", JsonPathError::Regex("search")),
    ] {
        assert_eq!(JsonPath::parse(path).unwrap_err(), error, "{path}");
    }
    assert!(started.elapsed() < Duration::from_secs(1));
}

/// The worst events that a client can send to the worst paths that are allowed.
#[test]
fn hostile_events_stay_cheap() {
    let wide: Value = serde_json::from_str(&format!("[{}1]", "{},".repeat(43_000))).unwrap();
    let long_name: Value =
        serde_json::from_str(&format!("{{\"{}\":[{}1]}}", "k".repeat(64_000), "1,".repeat(32_000))).unwrap();
    let deep: Value = serde_json::from_str(&format!("{}{}", "[".repeat(127), "]".repeat(127))).unwrap();
    for path in
        ["$..[*]", "$.*.*", "$..a", "$..[?@.a == @.b]", "$..[*,*,*,*]", "$..[0,0][0,0][0,0][0,0]", "$[?@.a || @.b]"]
    {
        let path = JsonPath::parse(path).unwrap();
        for event in [&wide, &long_name, &deep] {
            let started = Instant::now();
            let _ = path.all(event);
            // A debug build on a busy machine; a release build takes a tenth.
            assert!(started.elapsed() < Duration::from_secs(3), "{} {:?}", path.as_str(), started.elapsed());
        }
    }
}
