//! Tests of the expression language, operator by operator.

use super::*;
use serde_json::json;

fn test(path: &str, check: Check) -> Expression {
    Expression::Test { source: Source::Event, path: JsonPath::parse(path).unwrap(), check }
}

fn holds(expression: Expression, event: &Value) -> bool {
    let mut builder = CustomRoutesBuilder::new(None);
    builder.push_expression(expression, false);
    let facts = json!({"sourceIp": "1.1.1.1", "claims": {"role": "admin"}});
    !builder.build().select(event, &facts, &mut RouteScratch::default()).is_empty()
}

fn regex(text: &str) -> Check {
    Check::Matches(Regex::new(text).unwrap())
}

#[test]
fn semantics() {
    use Check::*;
    use OrderOp::*;
    let event = json!({
        "s": "hello", "n": 8, "f": 8.0, "h": 8.5, "neg": -1, "big": u64::MAX, "z": null, "t": true,
        "list": [1, "a", {"k": 1.0}], "o": {"x": 1, "y": [2]}, "many": [{"v": 1}, {"v": "1"}, {"w": 0}]
    });
    for (number, (path, check, expected)) in [
        ("$.s", Equal(json!("hello")), true),
        ("$.s", Equal(json!("Hello")), false),
        ("$.n", Equal(json!(8)), true),
        ("$.n", Equal(json!(8.0)), true),
        ("$.f", Equal(json!(8)), true),
        ("$.n", Equal(json!("8")), false),
        ("$.t", Equal(json!("true")), false),
        ("$.t", Equal(json!(true)), true),
        ("$.t", Equal(json!(1)), false),
        ("$.z", Equal(json!(null)), true),
        ("$.missing", Equal(json!(null)), false),
        ("$.o", Equal(json!({"y": [2.0], "x": 1})), true),
        ("$.o", Equal(json!({"x": 1})), false),
        ("$.list", Equal(json!([1, "a", {"k": 1}])), true),
        ("$.s", NotEqual(json!("x")), true),
        ("$.s", NotEqual(json!("hello")), false),
        ("$.s", NotEqual(json!(1)), true),
        ("$.missing", NotEqual(json!("x")), false),
        ("$.s", regex("ell"), true),
        ("$.s", regex("^ell"), false),
        ("$.n", regex("8"), false),
        ("$.missing", regex(""), false),
        ("$.n", Ordered(Gt, json!(7)), true),
        ("$.n", Ordered(Gt, json!(8)), false),
        ("$.n", Ordered(Gte, json!(8.0)), true),
        ("$.h", Ordered(Lt, json!(9)), true),
        ("$.h", Ordered(Lte, json!(8)), false),
        ("$.neg", Ordered(Lt, json!(0)), true),
        ("$.big", Ordered(Gt, json!(i64::MAX)), true),
        ("$.neg", Ordered(Lt, json!(u64::MAX)), true),
        ("$.s", Ordered(Gt, json!("abc")), true),
        ("$.s", Ordered(Lt, json!("abc")), false),
        ("$.s", Ordered(Gt, json!(1)), false),
        ("$.n", Ordered(Gt, json!("1")), false),
        ("$.t", Ordered(Gte, json!(true)), false),
        ("$.n", In(vec![json!("x"), json!(8.0)]), true),
        ("$.n", In(vec![json!("8")]), false),
        ("$.n", In(vec![]), false),
        ("$.list", Contains(json!("a")), true),
        ("$.list", Contains(json!({"k": 1})), true),
        ("$.list", Contains(json!("b")), false),
        ("$.s", Contains(json!("lo")), true),
        ("$.s", Contains(json!(1)), false),
        ("$.o", Contains(json!("x")), false),
        ("$.s", StartsWith("he".into()), true),
        ("$.s", StartsWith("el".into()), false),
        ("$.n", StartsWith("8".into()), false),
        ("$.z", Exists(true), true),
        ("$.z", Exists(false), false),
        ("$.missing", Exists(true), false),
        ("$.missing", Exists(false), true),
        ("$..missing", Exists(false), true),
        ("$..v", Exists(true), true),
        ("$..v", Exists(false), false),
        ("$.many[*].v", Equal(json!("1")), true),
        ("$.many[*].v", NotEqual(json!(1)), true),
        ("$.many[*].v", Equal(json!(2)), false),
        ("$.many[*].x", NotEqual(json!(2)), false),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(holds(test(path, check.clone()), &event), expected, "row {number}: {path} {check:?}");
    }
}

#[test]
fn connectives_and_sources() {
    let event = json!({"a": 1});
    let yes = || test("$.a", Check::Equal(json!(1)));
    let no = || test("$.a", Check::Equal(json!(2)));
    assert!(holds(Expression::And(vec![yes(), yes()]), &event));
    assert!(!holds(Expression::And(vec![yes(), no()]), &event));
    assert!(holds(Expression::Or(vec![no(), yes()]), &event));
    assert!(!holds(Expression::Or(vec![no(), no()]), &event));
    assert!(holds(Expression::Not(Box::new(no())), &event));
    assert!(holds(Expression::Not(Box::new(test("$.x", Check::NotEqual(json!(2))))), &event));
    let role = JsonPath::parse("$.claims.role").unwrap();
    let check = Check::Equal(json!("admin"));
    assert!(holds(Expression::Test { source: Source::Connection, path: role, check }, &event));
    assert!(!holds(test("$.claims.role", Check::Equal(json!("admin"))), &event));
}

#[test]
fn document_order_keys_and_continue() {
    let is = |value: i64| test("$.n", Check::Equal(json!(value)));
    let mut builder = CustomRoutesBuilder::new(Some(JsonPath::parse("$.action").unwrap()));
    builder.push_expression(is(1), false); // 0
    builder.push_key("go", true); // 1
    builder.push_expression(is(2), true); // 2
    builder.push_key("go", false); // 3
    builder.push_expression(test("$.n", Check::Exists(true)), false); // 4
    builder.push_key("stop", false); // 5
    let routes = builder.build();
    let mut looked_at = Projection::default();
    routes.add_looked_at(&mut looked_at);
    assert!(!looked_at.is_nothing() && !looked_at.is_whole());
    assert_eq!(routes.paths.len(), 1, "the same path is evaluated once");
    let mut scratch = RouteScratch::default();
    for (event, expected) in [
        (json!({"n": 1, "action": "go"}), vec![0]),
        (json!({"n": 2, "action": "go"}), vec![1, 2, 3]),
        (json!({"n": 3, "action": "go"}), vec![1, 3]),
        (json!({"n": 2, "action": "stop"}), vec![2, 4]),
        (json!({"action": "stop"}), vec![5]),
        (json!({"action": ["stop"]}), vec![]),
        (json!({"action": "other"}), vec![]),
        (json!(7), vec![]),
    ] {
        assert_eq!(routes.select(&event, &json!({}), &mut scratch), expected, "{event}");
    }
    let none = CustomRoutes::default();
    let mut looked_at = Projection::default();
    none.add_looked_at(&mut looked_at);
    assert!(looked_at.is_nothing());
    assert!(none.select(&json!({"n": 1}), &json!({}), &mut scratch).is_empty());
}

#[test]
fn scratch_memory_is_reused() {
    let mut builder = CustomRoutesBuilder::new(None);
    builder.push_expression(test("$.n", Check::Equal(json!(1))), false);
    let (routes, mut scratch) = (builder.build(), RouteScratch::default());
    routes.select(&json!({"n": 1}), &json!({}), &mut scratch);
    let before = (scratch.found.as_ptr(), scratch.found.capacity());
    routes.select(&json!({"n": 2}), &json!({}), &mut scratch);
    assert_eq!(before, (scratch.found.as_ptr(), scratch.found.capacity()));
    assert!(before.1 > 0);
}
