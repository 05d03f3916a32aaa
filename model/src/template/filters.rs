//! The filters, tests and functions that templates have. The engine's own are used where fuel bounds them; what turns
//! values into text, compares, adds or repeats is ours, since there fuel does not see how large a value is: a list that
//! holds itself twice, thirty times over, is made in thirty steps.

use std::borrow::Cow;
use std::cmp::Ordering;

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{filters, functions, tests, Environment, Error, State, UndefinedBehavior};

use super::text::{escaped, fault, json, scalar_text, text, too_long, weigh};
use crate::limits;

/// What a template's expressions are printed with: as JSON, or inside a JSON string as text.
pub(super) const PRINT_JSON: &str = "wsgateway_json";
pub(super) const PRINT_TEXT: &str = "wsgateway_text";

/// Operators that are carried out by filters, so that they are paid for.
pub(super) mod operators {
    pub const EQ: &str = "wsgateway_eq";
    pub const NE: &str = "wsgateway_ne";
    pub const LT: &str = "wsgateway_lt";
    pub const LE: &str = "wsgateway_le";
    pub const GT: &str = "wsgateway_gt";
    pub const GE: &str = "wsgateway_ge";
    pub const IN: &str = "wsgateway_in";
    pub const CONCAT: &str = "wsgateway_concat";
    pub const ADD: &str = "wsgateway_add";
    pub const MUL: &str = "wsgateway_mul";
}

/// Filters by the name that templates use.
pub(super) const FILTERS: [&str; 35] = [
    "abs",
    "bool",
    "capitalize",
    "count",
    "d",
    "default",
    "first",
    "float",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
];

/// Tests (`x is …`).
pub(super) const TESTS: [&str; 24] = [
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "even",
    "false",
    "float",
    "ge",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "true",
];

/// `undefined` is a test as well, and the only function is [`RANGE`].
pub(super) const UNDEFINED: &str = "undefined";
pub(super) const RANGE: &str = "range";

/// The environment of all templates.
pub(super) fn environment() -> Environment<'static> {
    let mut env = Environment::empty();
    env.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    env.set_fuel(Some(limits::TEMPLATE_FUEL as u64));
    env.set_recursion_limit(limits::TEMPLATE_BLOCKS_MAX * 4);
    env.set_debug(false);
    env.add_function(RANGE, functions::range);
    printing(&mut env);
    texts(&mut env);
    lists(&mut env);
    add_tests(&mut env);
    env
}

fn printing(env: &mut Environment<'static>) {
    env.add_filter(PRINT_JSON, print_json);
    env.add_filter(PRINT_TEXT, print_text);
    env.add_filter("tojson", |state: &State, value: &Value| json(state, value).map(Value::from_safe_string));
    env.add_filter("string", |state: &State, value: &Value| text(state, value).map(Cow::into_owned));
    env.add_filter(operators::EQ, |state: &State, a: &Value, b: &Value| equal(state, a, b));
    env.add_filter(operators::NE, |state: &State, a: &Value, b: &Value| equal(state, a, b).map(|held| !held));
    env.add_filter(operators::LT, |state: &State, a: &Value, b: &Value| ordered(state, a, b, Ordering::is_lt));
    env.add_filter(operators::LE, |state: &State, a: &Value, b: &Value| ordered(state, a, b, Ordering::is_le));
    env.add_filter(operators::GT, |state: &State, a: &Value, b: &Value| ordered(state, a, b, Ordering::is_gt));
    env.add_filter(operators::GE, |state: &State, a: &Value, b: &Value| ordered(state, a, b, Ordering::is_ge));
    env.add_filter(operators::IN, contains);
    env.add_filter(operators::CONCAT, concat);
    env.add_filter(operators::ADD, add);
    env.add_filter(operators::MUL, |a: &Value, b: &Value| arithmetic("*", a, b, i128::checked_mul, |a, b| a * b));
}

/// A missing value is handed on: the engine then says which one it was.
fn print_json(state: &State, value: &Value) -> Result<Value, Error> {
    match value.is_undefined() || value.is_safe() {
        true => Ok(value.clone()),
        false => json(state, value).map(Value::from_safe_string),
    }
}

fn print_text(state: &State, value: &Value) -> Result<Value, Error> {
    match value.is_undefined() {
        true => Ok(value.clone()),
        false => escaped(&text(state, value)?).map(Value::from_safe_string),
    }
}

/// Only defined, small numbers and texts are compared without weighing them.
fn pay(state: &State, a: &Value, b: &Value) -> Result<(), Error> {
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        return state.consume_fuel((a.len().min(b.len()) / super::tree::BYTES_PER_UNIT) as u64);
    }
    if a.as_object().is_some() && b.as_object().is_some() {
        weigh(state, a)?;
        weigh(state, b)?;
    }
    Ok(())
}

/// A missing value is equal to nothing but another one.
fn equal(state: &State, a: &Value, b: &Value) -> Result<bool, Error> {
    pay(state, a, b)?;
    Ok(a.is_undefined() == b.is_undefined() && a == b)
}

/// Numbers among themselves and texts among themselves; what has no order is never smaller or larger.
fn ordered(state: &State, a: &Value, b: &Value, holds: fn(Ordering) -> bool) -> Result<bool, Error> {
    pay(state, a, b)?;
    let comparable = a.kind() == b.kind() && matches!(a.kind(), ValueKind::Number | ValueKind::String);
    Ok(comparable && holds(a.cmp(b)))
}

/// Part of a text, member of an object, element of a list.
fn contains(state: &State, value: &Value, container: &Value) -> Result<bool, Error> {
    if let Some(text) = container.as_str() {
        state.consume_fuel((text.len() / super::tree::BYTES_PER_UNIT) as u64)?;
        return Ok(value.as_str().is_some_and(|part| text.contains(part)));
    }
    match container.kind() {
        ValueKind::Map => Ok(value.as_str().is_some() && !container.get_item(value)?.is_undefined()),
        ValueKind::Seq | ValueKind::Iterable => {
            for item in container.try_iter()?.checked() {
                state.consume_fuel(1)?;
                if equal(state, &item?, value)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => Ok(false),
    }
}

fn concat(state: &State, a: &Value, b: &Value) -> Result<String, Error> {
    let (left, right) = (text(state, a)?, text(state, b)?);
    room(left.len() + right.len())?;
    state.consume_fuel(((left.len() + right.len()) / super::tree::BYTES_PER_UNIT) as u64)?;
    Ok(left.into_owned() + &right)
}

fn room(bytes: usize) -> Result<(), Error> {
    match bytes > limits::TEMPLATE_OUTPUT_BYTES_MAX {
        true => Err(too_long()),
        false => Ok(()),
    }
}

fn add(state: &State, a: &Value, b: &Value) -> Result<Value, Error> {
    match (a.kind(), b.kind()) {
        (ValueKind::String, ValueKind::String) => concat(state, a, b).map(Value::from),
        _ => arithmetic("+", a, b, i128::checked_add, |a, b| a + b),
    }
}

fn arithmetic(
    operator: &str,
    a: &Value,
    b: &Value,
    integers: fn(i128, i128) -> Option<i128>,
    fractions: fn(f64, f64) -> f64,
) -> Result<Value, Error> {
    if a.kind() != ValueKind::Number || b.kind() != ValueKind::Number {
        return Err(fault(format!("{operator} needs two numbers, has {} and {}", a.kind(), b.kind())));
    }
    if a.is_integer() && b.is_integer() {
        let numbers = (i128::try_from(a.clone()).ok(), i128::try_from(b.clone()).ok());
        let result = if let (Some(a), Some(b)) = numbers { integers(a, b) } else { None };
        return result.map(Value::from).ok_or_else(|| fault(format!("the result of {operator} is too large")));
    }
    Ok(Value::from(fractions(f64::try_from(a.clone())?, f64::try_from(b.clone())?)))
}

fn texts(env: &mut Environment<'static>) {
    env.add_filter("upper", |state: &State, text: &str| letters(state, text, 8).map(str::to_uppercase));
    env.add_filter("lower", |state: &State, text: &str| letters(state, text, 8).map(str::to_lowercase));
    env.add_filter("trim", |state: &State, text: &str| {
        Ok::<_, Error>(letters(state, text, super::tree::BYTES_PER_UNIT)?.trim().to_owned())
    });
    env.add_filter("capitalize", |state: &State, text: &str| letters(state, text, 4).map(capitalized));
    env.add_filter("title", |state: &State, text: &str| {
        let words = letters(state, text, 4)?.split_inclusive(|c: char| !c.is_alphanumeric());
        Ok::<_, Error>(words.map(capitalized).collect::<String>())
    });
    env.add_filter("truncate", |state: &State, text: &str, length: usize| {
        let cut = letters(state, text, 16)?.char_indices().nth(length).map_or(text.len(), |(cut, _)| cut);
        Ok::<_, Error>(text[..cut].to_owned())
    });
    env.add_filter("replace", replace);
    env.add_filter("split", split);
    env.add_filter("join", join);
    env.add_filter("int", |value: &Value, other: Option<Value>| number(value, other, true));
    env.add_filter("float", |value: &Value, other: Option<Value>| number(value, other, false));
    env.add_filter("bool", |value: &Value| value.is_true());
    env.add_filter("abs", |value: &Value| match value.kind() {
        ValueKind::Number => filters::abs(value.clone()),
        kind => Err(fault(format!("abs needs a number, not {kind}"))),
    });
    env.add_filter("round", round);
    env.add_filter("default", filters::default);
    env.add_filter("d", filters::default);
}

/// Pays for going through a text letter by letter: one step for so many bytes.
fn letters<'t>(state: &State, text: &'t str, bytes: usize) -> Result<&'t str, Error> {
    state.consume_fuel((text.len() / bytes) as u64)?;
    Ok(text)
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    first.chain(letters.flat_map(char::to_lowercase)).collect()
}

fn replace(state: &State, text: &str, from: &str, to: &str) -> Result<String, Error> {
    if from.is_empty() {
        return Err(fault("replace needs a text to look for"));
    }
    let mut matches = 0;
    for _ in text.matches(from) {
        matches += 1;
        state.consume_fuel(matches % 2)?;
    }
    let grown = text.len() + matches as usize * to.len();
    room(grown)?;
    state.consume_fuel((grown / super::tree::BYTES_PER_UNIT) as u64)?;
    Ok(text.replace(from, to))
}

fn split(state: &State, text: &str, separator: Option<&str>) -> Result<Vec<Value>, Error> {
    let mut parts = Vec::new();
    let mut push = |part: &str| {
        state.consume_fuel(1 + (part.len() / super::tree::BYTES_PER_UNIT) as u64)?;
        parts.push(Value::from(part));
        Ok::<_, Error>(())
    };
    match separator {
        Some("") => return Err(fault("split needs a separator that is not empty")),
        Some(separator) => text.split(separator).try_for_each(&mut push)?,
        None => text.split_whitespace().try_for_each(&mut push)?,
    }
    Ok(parts)
}

fn join(state: &State, list: &Value, separator: Option<&str>) -> Result<String, Error> {
    let mut joined = String::new();
    for (index, item) in sequence(list)?.checked().enumerate() {
        if index > 0 {
            joined.push_str(separator.unwrap_or_default());
        }
        let before = joined.len();
        joined.push_str(&scalar_text(state, &item?)?);
        room(joined.len())?;
        state.consume_fuel(1 + ((joined.len() - before) / super::tree::BYTES_PER_UNIT) as u64)?;
    }
    Ok(joined)
}

/// Longer texts are no numbers: reading one costs by its length.
const NUMBER_BYTES_MAX: usize = 400;

fn number(value: &Value, other: Option<Value>, whole: bool) -> Result<Value, Error> {
    let found = match value.kind() {
        ValueKind::Number if value.is_integer() => Some(value.clone()),
        ValueKind::Number => f64::try_from(value.clone()).ok().map(Value::from),
        ValueKind::Bool => Some(Value::from(i64::from(value.is_true()))),
        ValueKind::String => {
            value.as_str().map(str::trim).filter(|text| text.len() <= NUMBER_BYTES_MAX).and_then(|text| {
                text.parse::<i64>().map(Value::from).or_else(|_| text.parse::<f64>().map(Value::from)).ok()
            })
        }
        _ => None,
    };
    let fraction = |value: &Value| f64::try_from(value.clone()).ok();
    let made = found.and_then(|value| match (whole, value.is_integer()) {
        (true, true) => Some(value),
        // Beyond i64 a fraction is not exact anyway.
        (true, false) => fraction(&value).filter(|fraction| fraction.is_finite()).map(|f| Value::from(f as i64)),
        (false, _) => fraction(&value).map(Value::from),
    });
    match made.or(other) {
        Some(value) => Ok(value),
        None => Err(fault(format!("{} is no number", value.kind()))),
    }
}

fn round(value: &Value, digits: Option<i32>) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Number if value.is_integer() => Ok(value.clone()),
        ValueKind::Number => {
            let scale = 10f64.powi(digits.unwrap_or(0).clamp(0, 15));
            let number = f64::try_from(value.clone())?;
            let rounded = (number * scale).round() / scale;
            Ok(Value::from(if rounded.is_finite() { rounded } else { number }))
        }
        kind => Err(fault(format!("round needs a number, not {kind}"))),
    }
}

/// The items of a list; nothing else is one.
fn sequence(value: &Value) -> Result<minijinja::value::ValueIter, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => value.try_iter(),
        kind => Err(fault(format!("needs a list, not {kind}"))),
    }
}

fn lists(env: &mut Environment<'static>) {
    for name in ["length", "count"] {
        env.add_filter(name, |state: &State, value: &Value| {
            // The letters of a text are counted one by one.
            letters(state, value.as_str().unwrap_or_default(), 16)?;
            value.len().ok_or_else(|| fault(format!("{} has no length", value.kind())))
        });
    }
    env.add_filter("first", |list: &Value| match sequence(list)?.checked().next() {
        Some(item) => item,
        None => Ok(Value::UNDEFINED),
    });
    env.add_filter("last", |list: &Value| match list.len() {
        Some(len) if matches!(list.kind(), ValueKind::Seq) && len > 0 => list.get_item_by_index(len - 1),
        Some(_) if matches!(list.kind(), ValueKind::Seq) => Ok(Value::UNDEFINED),
        _ => Err(fault(format!("last needs a list, not {}", list.kind()))),
    });
    env.add_filter("items", items);
    env.add_filter("list", |state: &State, value: Value| filters::list(state, value));
    env.add_filter("reverse", |state: &State, list: &Value| {
        let mut items = collected(state, list)?;
        items.reverse();
        Ok::<_, Error>(items)
    });
    env.add_filter("sum", |state: &State, list: &Value| {
        let mut sum = Value::from(0);
        for item in sequence(list)?.checked() {
            state.consume_fuel(1)?;
            sum = arithmetic("sum", &sum, &item?, i128::checked_add, |a, b| a + b)?;
        }
        Ok::<_, Error>(sum)
    });
    env.add_filter("sort", |state: &State, list: Value, options: Kwargs| {
        weigh(state, &list)?;
        filters::sort(state, list, options)
    });
    env.add_filter("unique", |state: &State, list: Value, options: Kwargs| {
        weigh(state, &list)?;
        filters::unique(state, list, options)
    });
    env.add_filter("min", |state: &State, list: Value, options: Kwargs| {
        weigh(state, &list)?;
        filters::min(state, list, options)
    });
    env.add_filter("max", |state: &State, list: Value, options: Kwargs| {
        weigh(state, &list)?;
        filters::max(state, list, options)
    });
    env.add_filter("map", filters::map);
    env.add_filter("select", filters::select);
    env.add_filter("reject", filters::reject);
    env.add_filter("selectattr", filters::selectattr);
    env.add_filter("rejectattr", filters::rejectattr);
}

fn collected(state: &State, list: &Value) -> Result<Vec<Value>, Error> {
    let mut items = Vec::new();
    for item in sequence(list)?.checked() {
        state.consume_fuel(1)?;
        items.push(item?);
    }
    Ok(items)
}

/// Name and value of each member.
fn items(state: &State, object: &Value) -> Result<Vec<Value>, Error> {
    if object.kind() != ValueKind::Map {
        return Err(fault(format!("items needs an object, not {}", object.kind())));
    }
    let mut pairs = Vec::new();
    for name in object.try_iter()?.checked() {
        state.consume_fuel(2)?;
        let name = name?;
        let value = object.get_item(&name)?;
        pairs.push(Value::from(vec![name, value]));
    }
    Ok(pairs)
}

fn starts(text: &str, with: &str) -> bool {
    text.starts_with(with)
}

fn ends(text: &str, with: &str) -> bool {
    text.ends_with(with)
}

fn add_tests(env: &mut Environment<'static>) {
    env.add_test("defined", |value: &Value| !value.is_undefined());
    env.add_test(UNDEFINED, |value: &Value| value.is_undefined());
    env.add_test("none", |value: &Value| value.is_none());
    env.add_test("true", |value: &Value| value.kind() == ValueKind::Bool && value.is_true());
    env.add_test("false", |value: &Value| value.kind() == ValueKind::Bool && !value.is_true());
    env.add_test("boolean", tests::is_boolean);
    env.add_test("number", tests::is_number);
    env.add_test("integer", tests::is_integer);
    env.add_test("float", tests::is_float);
    env.add_test("string", tests::is_string);
    env.add_test("sequence", tests::is_sequence);
    env.add_test("mapping", tests::is_mapping);
    env.add_test("iterable", tests::is_iterable);
    env.add_test("odd", tests::is_odd);
    env.add_test("even", tests::is_even);
    env.add_test("divisibleby", tests::is_divisibleby);
    for (name, holds) in [("startingwith", starts as fn(&str, &str) -> bool), ("endingwith", ends)] {
        env.add_test(name, move |state: &State, text: &str, part: &str| {
            Ok::<_, Error>(holds(letters(state, text, super::tree::BYTES_PER_UNIT)?, part))
        });
    }
    env.add_test("eq", |state: &State, a: &Value, b: &Value| equal(state, a, b));
    env.add_test("ne", |state: &State, a: &Value, b: &Value| equal(state, a, b).map(|held| !held));
    env.add_test("lt", |state: &State, a: &Value, b: &Value| ordered(state, a, b, Ordering::is_lt));
    env.add_test("le", |state: &State, a: &Value, b: &Value| ordered(state, a, b, Ordering::is_le));
    env.add_test("gt", |state: &State, a: &Value, b: &Value| ordered(state, a, b, Ordering::is_gt));
    env.add_test("ge", |state: &State, a: &Value, b: &Value| ordered(state, a, b, Ordering::is_ge));
    env.add_test("in", contains);
}
