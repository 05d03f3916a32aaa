//! Values as JSON and as text. Everything that is written is paid for before it grows: by fuel, and by the limit of the
//! output.

use std::borrow::Cow;

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, State};
use serde_json::Value as Json;

use super::tree::{Tree, BYTES_PER_UNIT};
use crate::limits;

/// Nesting of what a template builds: the event's own depth and a little around it.
const DEPTH_MAX: usize = limits::JSON_DEPTH_MAX + 16;

pub(super) fn fault(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// The value as JSON text.
pub(super) fn json(state: &State<'_, '_>, value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write(state, value, &mut out, 0)?;
    Ok(out)
}

/// The value as plain text: a text as it is, everything else as its JSON.
pub(super) fn text<'v>(state: &State<'_, '_>, value: &'v Value) -> Result<Cow<'v, str>, Error> {
    match value.as_str() {
        Some(text) => Ok(Cow::Borrowed(text)),
        None => json(state, value).map(Cow::Owned),
    }
}

/// As [`text`], of what is no list and no object.
pub(super) fn scalar_text<'v>(state: &State<'_, '_>, value: &'v Value) -> Result<Cow<'v, str>, Error> {
    match value.kind() {
        ValueKind::String | ValueKind::Number | ValueKind::Bool | ValueKind::None => text(state, value),
        kind => Err(fault(format!("needs a text or a number, not {kind}"))),
    }
}

/// The inside of a JSON string: `text` without the quotes.
pub(super) fn escaped(text: &str) -> Result<String, Error> {
    let quoted = serde_json::to_string(text).map_err(|err| fault(err.to_string()))?;
    Ok(quoted[1..quoted.len() - 1].to_owned())
}

fn write(state: &State<'_, '_>, value: &Value, out: &mut String, depth: usize) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(fault(format!("nested deeper than {DEPTH_MAX} levels")));
    }
    let before = out.len();
    match value.kind() {
        ValueKind::Undefined => return Err(Error::new(ErrorKind::UndefinedError, "a value is missing")),
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => number(value, out),
        ValueKind::String => string(value.as_str().unwrap_or_default(), out)?,
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => match value.downcast_object_ref::<Tree>() {
            Some(tree) => {
                // Writing a number costs as much as a step, however few bytes it has. Bytes are paid for below.
                state.consume_fuel(values(tree.node()))?;
                node(tree.node(), out)?;
            }
            None => return container(state, value, out, depth),
        },
        kind => return Err(fault(format!("{kind} has no JSON"))),
    }
    written(state, out, before)
}

fn number(value: &Value, out: &mut String) {
    match f64::try_from(value.clone()) {
        Ok(fraction) if !value.is_integer() => match serde_json::Number::from_f64(fraction) {
            Some(number) => out.push_str(&number.to_string()),
            None => out.push_str("null"), // infinite or not a number
        },
        _ => out.push_str(&value.to_string()),
    }
}

fn string(text: &str, out: &mut String) -> Result<(), Error> {
    out.push_str(&serde_json::to_string(text).map_err(|err| fault(err.to_string()))?);
    Ok(())
}

/// A part of the event itself.
fn node(node: &Json, out: &mut String) -> Result<(), Error> {
    serde_json::to_writer(Limited(out), node).map_err(|_| too_long())
}

/// Takes no more than an output may have.
struct Limited<'o>(&'o mut String);

impl std::io::Write for Limited<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > limits::TEMPLATE_OUTPUT_BYTES_MAX {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        // serde_json writes whole texts and never cuts a character.
        self.0.push_str(std::str::from_utf8(bytes).map_err(std::io::Error::other)?);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Built by the template: it may hold itself many times over, so it is paid for step by step.
fn container(state: &State<'_, '_>, value: &Value, out: &mut String, depth: usize) -> Result<(), Error> {
    let is_map = value.kind() == ValueKind::Map;
    out.push(if is_map { '{' } else { '[' });
    let mut first = true;
    for item in value.try_iter()?.checked() {
        let item = item?;
        let before = out.len();
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        if is_map {
            string(&scalar_text(state, &item)?, out)?;
            out.push(':');
            written(state, out, before)?;
            write(state, &value.get_item(&item)?, out, depth + 1)?;
        } else {
            written(state, out, before)?;
            write(state, &item, out, depth + 1)?;
        }
    }
    out.push(if is_map { '}' } else { ']' });
    Ok(())
}

fn written(state: &State<'_, '_>, out: &str, before: usize) -> Result<(), Error> {
    if out.len() > limits::TEMPLATE_OUTPUT_BYTES_MAX {
        return Err(too_long());
    }
    state.consume_fuel(1 + ((out.len() - before) / BYTES_PER_UNIT) as u64)
}

pub(super) fn too_long() -> Error {
    Error::new(
        ErrorKind::WriteFailure,
        format!("the output is longer than {} bytes", limits::TEMPLATE_OUTPUT_BYTES_MAX),
    )
}

/// Pays for looking at all of a value, before something compares or sorts it.
pub(super) fn weigh(state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    weigh_at(state, value, 0)
}

fn weigh_at(state: &State<'_, '_>, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > DEPTH_MAX {
        return Err(fault(format!("nested deeper than {DEPTH_MAX} levels")));
    }
    if let Some(text) = value.as_str() {
        return state.consume_fuel(1 + (text.len() / BYTES_PER_UNIT) as u64);
    }
    if let Some(tree) = value.downcast_object_ref::<Tree>() {
        return state.consume_fuel(2 * nodes(tree.node()));
    }
    state.consume_fuel(3)?;
    let is_map = value.kind() == ValueKind::Map;
    if is_map || matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        for item in value.try_iter()?.checked() {
            let item = item?;
            if is_map {
                weigh_at(state, &value.get_item(&item)?, depth + 1)?;
            } else {
                weigh_at(state, &item, depth + 1)?;
            }
        }
    }
    Ok(())
}

/// Values in a tree.
fn values(node: &Json) -> u64 {
    match node {
        Json::Array(items) => 1 + items.iter().map(values).sum::<u64>(),
        Json::Object(members) => 1 + members.values().map(values).sum::<u64>(),
        _ => 1,
    }
}

/// Values and bytes of a tree, in units.
fn nodes(node: &Json) -> u64 {
    match node {
        Json::String(text) => 1 + (text.len() / BYTES_PER_UNIT) as u64,
        Json::Array(items) => 1 + items.iter().map(nodes).sum::<u64>(),
        Json::Object(members) => 1 + members.values().map(|member| 1 + nodes(member)).sum::<u64>(),
        _ => 1,
    }
}
