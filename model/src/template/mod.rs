//! Templates (minijinja) over an event: compiled once per endpoint version, evaluated within a budget. An evaluation
//! takes no more than [`limits::TEMPLATE_FUEL`] steps or as many times 64 bytes, its output is JSON, and nothing a
//! template or an event says can overflow the stack (ADR 0012).
//!
//! Called by config (compile), inbound, connections and explain (render); imports limits, json_check and timestamp.

mod check;
mod filters;
mod source;
mod text;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

use minijinja::machinery::{eval, make_string_output, parse, CodeGenerator, Instruction, Instructions};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Object, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind};
use serde_json::{json, Value as Json};

use super::json_check::validate_json;
use super::limits;
use super::timestamp::rfc3339;
use filters::operators;
use tree::Tree;

pub use check::{ACK, VARIABLES};

/// The engine's name for every template; errors name the field instead.
const NAME: &str = "template";

/// Local filter number that says: look it up by name.
const BY_NAME: u8 = !0;

/// What is wrong with a template, or why an evaluation has failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct TemplateError {
    /// Line of the template, from 1, where it is known.
    pub line: Option<usize>,
    /// In one line.
    pub message: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line} of the template: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl TemplateError {
    fn new(line: Option<usize>, message: impl Into<String>) -> TemplateError {
        TemplateError { line, message: message.into() }
    }

    fn from_engine(err: &Error) -> TemplateError {
        Self::from_engine_about(err, "")
    }

    /// Names what is missing by its text in the source.
    fn from_engine_about(err: &Error, source: &str) -> TemplateError {
        let message = match (err.kind(), err.detail()) {
            (ErrorKind::UndefinedError, None) => match missing(err, source) {
                "" => "a value is missing".to_owned(),
                about => format!("{about} is missing"),
            },
            (ErrorKind::OutOfFuel, _) => {
                "takes more steps, or handles more data, than a template may in one evaluation".to_owned()
            }
            (_, Some(detail)) => detail.replace("wsgateway_", ""),
            (kind, None) => kind.to_string(),
        };
        TemplateError::new(err.line(), message)
    }
}

/// The expression that has no value. A printed one is followed by the filter that prints it, which is where the engine
/// saw it.
fn missing<'s>(err: &Error, source: &'s str) -> &'s str {
    let Some(range) = err.range() else { return "" };
    let (before, at) = (source.get(..range.start).unwrap_or_default(), source.get(range).unwrap_or_default());
    if !at.starts_with("wsgateway_") {
        return at.split(")|wsgateway_").next().unwrap_or_default().trim();
    }
    let printed = before.strip_suffix(")|").unwrap_or_default();
    let start = printed.rfind("{{").map_or(printed.len(), |open| open + 2);
    printed[start..].trim_start_matches('-').trim_start_matches('(').trim()
}

/// A message that a template could not look at.
pub fn unreadable(message: &[u8]) -> TemplateError {
    let max = limits::TEMPLATE_OUTPUT_BYTES_MAX;
    let reason = match message.len() > max {
        true => format!("the event has {} bytes, at most {max} can be looked into", message.len()),
        false => "the event has a number or a text that cannot be looked into".to_owned(),
    };
    TemplateError::new(None, reason)
}

/// A compiled template.
pub struct Template {
    /// Points into `source`, which is therefore dropped after it.
    code: Instructions<'static>,
    source: Arc<str>,
    uses: BTreeSet<&'static str>,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("uses", &self.uses).finish_non_exhaustive()
    }
}

/// What an evaluation can see. What a template does not [use](Template::uses) may be left out.
#[derive(Debug, Clone, Default)]
pub struct Context {
    pub event: Option<Arc<Json>>,
    pub connection: Option<Arc<Json>>,
    pub endpoint: Option<Arc<Json>>,
    /// When the event came in.
    pub unix_millis: u64,
    /// The acknowledgement without a template.
    pub ack: Option<Arc<Json>>,
}

impl Object for Context {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match key {
            "event" => self.event.as_ref().map(Tree::value),
            "connection" => self.connection.as_ref().map(Tree::value),
            "endpoint" => self.endpoint.as_ref().map(Tree::value),
            "now" => Some(Value::from(rfc3339(self.unix_millis))),
            ACK => self.ack.as_ref().map(Tree::value),
            _ => None,
        }
    }
}

fn environment() -> &'static Environment<'static> {
    static ENVIRONMENT: OnceLock<Environment<'static>> = OnceLock::new();
    ENVIRONMENT.get_or_init(filters::environment)
}

/// Templates have no blocks to extend.
fn no_blocks() -> &'static BTreeMap<&'static str, Instructions<'static>> {
    static NONE: BTreeMap<&str, Instructions<'static>> = BTreeMap::new();
    &NONE
}

impl Template {
    /// Compiles a template over [`VARIABLES`] and tries it out on an empty event.
    pub fn compile(text: &str) -> Result<Template, TemplateError> {
        Self::compile_over(text, &VARIABLES)
    }

    /// Compiles the template of an acknowledgement, which also sees [`ACK`].
    pub fn compile_ack(text: &str) -> Result<Template, TemplateError> {
        let [event, connection, endpoint, now] = VARIABLES;
        Self::compile_over(text, &[event, connection, endpoint, now, ACK])
    }

    fn compile_over(text: &str, known: &[&'static str]) -> Result<Template, TemplateError> {
        let source: Arc<str> = source::prepare(text)?.into();
        // SAFETY: the text is shared and never changed, and the struct that holds what points into it also holds it and
        // drops it last.
        let lasting: &'static str = unsafe { &*std::ptr::from_ref::<str>(&source) };
        let parsed = parse(lasting, NAME, SyntaxConfig::default()).map_err(|err| TemplateError::from_engine(&err))?;
        let uses = check::check(&parsed, known)?;
        let mut generator = CodeGenerator::new(NAME, lasting);
        generator.compile_stmt(&parsed);
        let (mut code, _) = generator.finish();
        pay_for_operators(&mut code);
        let template = Template { code, source, uses };
        template.try_out()?;
        Ok(template)
    }

    /// Whether the template looks at this variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.uses.contains(variable)
    }

    /// Evaluates the template. The result is JSON.
    pub fn render(&self, context: Context) -> Result<String, TemplateError> {
        let mut output = self.evaluate(context)?;
        output.truncate(output.trim_end().len());
        let blanks = output.len() - output.trim_start().len();
        output.drain(..blanks);
        match validate_json(output.as_bytes()) {
            Ok(()) => Ok(output),
            Err(fault) => Err(TemplateError::new(None, format!("the output is not JSON: {fault}"))),
        }
    }

    fn evaluate(&self, context: Context) -> Result<String, TemplateError> {
        tree::refill();
        let mut output = String::with_capacity(256);
        let root = Value::from_object(context);
        let mut out = make_string_output(&mut output);
        let ended = eval(environment(), &self.code, root, no_blocks(), &mut out, AutoEscape::None).map(drop);
        ended.map_err(|err| TemplateError::from_engine_about(&err, &self.source))?;
        match output.len() > limits::TEMPLATE_OUTPUT_BYTES_MAX {
            true => Err(TemplateError::from_engine(&text::too_long())),
            false => Ok(output),
        }
    }

    /// On an empty event most templates miss something, which is no fault. That one costs too much even then, or makes
    /// something else than JSON, is.
    fn try_out(&self) -> Result<(), TemplateError> {
        let context = Context {
            event: Some(Arc::new(json!({}))),
            connection: Some(Arc::new(sample_connection())),
            endpoint: Some(Arc::new(json!({"id": "ep", "path": "/", "name": null, "version": 1}))),
            unix_millis: 0,
            ack: Some(Arc::new(json!({"type": "ack", "eventId": "0", "status": "received"}))),
        };
        tree::refill();
        let mut output = String::new();
        let root = Value::from_object(context);
        let mut out = make_string_output(&mut output);
        match eval(environment(), &self.code, root, no_blocks(), &mut out, AutoEscape::None) {
            Ok(_) => validate_json(output.trim().as_bytes())
                .map_err(|fault| TemplateError::new(None, format!("the output is not JSON: {fault}"))),
            Err(err) if matches!(err.kind(), ErrorKind::OutOfFuel | ErrorKind::WriteFailure) => {
                let error = TemplateError::from_engine(&err);
                Err(TemplateError { message: format!("{}, also on an empty event", error.message), ..error })
            }
            Err(_) => Ok(()),
        }
    }
}

fn sample_connection() -> Json {
    json!({"id": "c", "connectionId": "c", "endpoint": "ep", "path": "/", "params": {}, "query": {}, "headers": {},
        "sourceIp": "127.0.0.1", "user": null, "claims": null, "connectedAt": rfc3339(0)})
}

/// Replaces the operators whose cost depends on how large their operands are. Each takes two values and leaves one, as
/// a filter with one argument does, so nothing else of the code changes.
fn pay_for_operators(code: &mut Instructions<'static>) {
    let mut at = 0;
    while let Some(instruction) = code.get_mut(at) {
        let filter = match instruction {
            Instruction::Eq => operators::EQ,
            Instruction::Ne => operators::NE,
            Instruction::Lt => operators::LT,
            Instruction::Lte => operators::LE,
            Instruction::Gt => operators::GT,
            Instruction::Gte => operators::GE,
            Instruction::In => operators::IN,
            Instruction::StringConcat => operators::CONCAT,
            Instruction::Add => operators::ADD,
            Instruction::Mul => operators::MUL,
            _ => {
                at += 1;
                continue;
            }
        };
        *instruction = Instruction::ApplyFilter(filter, Some(2), BY_NAME);
        at += 1;
    }
}

#[cfg(test)]
#[path = "bombs_tests.rs"]
mod bombs_tests;
#[cfg(test)]
mod tests;
