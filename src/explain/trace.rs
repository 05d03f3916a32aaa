//! What route selection looked at, written down: the watch that `model::expression` tells of every step. Bounded: an
//! event may be large, and hundreds of comparisons may look at all of it.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::model::expression::{Check, Source, StepKind, Watch};
use crate::model::json_path::JsonPath;

/// Nodes shown of a path that finds many.
const FOUND_MAX: usize = 10;
/// A larger value is named by its kind.
const VALUE_NODES_MAX: usize = 50;
const VALUE_TEXT_MAX: usize = 500;
/// Of all values together; beyond, none is shown.
const SHOWN_BYTES_MAX: usize = 512 * 1024;

/// One step of an expression. Parts that were not looked at, because others had decided, are not there.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// `routes[3].expression.or[0].equal`
    pub at: String,
    pub held: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Step>,
    #[serde(skip)]
    kind: Option<StepKind>,
}

/// What a comparison asked, and what it saw.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ComparisonSeen")]
pub struct Comparison {
    pub operator: &'static str,
    pub source: &'static str,
    pub path: String,
    pub value: Value,
    /// The nodes at the path; none: it is missing.
    pub seen: Vec<Value>,
    /// How many nodes there are, when not all are shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_of: Option<usize>,
}

/// The watch.
#[derive(Debug, Default)]
pub struct Trace {
    /// By custom route, in the order in which they were looked at.
    pub routes: Vec<(usize, Step)>,
    open: Vec<Step>,
    shown: usize,
    route: usize,
}

impl Watch for Trace {
    fn route(&mut self, index: usize) {
        self.route = index;
    }

    fn enter(&mut self, kind: StepKind) {
        self.open.push(Step { kind: Some(kind), ..Step::default() });
    }

    fn sees(&mut self, source: Source, path: &JsonPath, check: &Check, found: &[&Value]) {
        let (operator, value) = check.describe();
        let seen: Vec<Value> = found.iter().take(FOUND_MAX).map(|value| self.shown(value)).collect();
        let seen_of = (found.len() > seen.len()).then_some(found.len());
        let source = if source == Source::Event { "event" } else { "connection" };
        if let Some(step) = self.open.last_mut() {
            step.comparison =
                Some(Comparison { operator, source, path: path.as_str().to_owned(), value, seen, seen_of });
        }
    }

    fn leave(&mut self, held: bool) {
        let Some(mut step) = self.open.pop() else { return };
        step.held = held;
        match self.open.last_mut() {
            Some(parent) => parent.parts.push(step),
            None => self.routes.push((self.route, step)),
        }
    }
}

impl Trace {
    fn shown(&mut self, value: &Value) -> Value {
        let mut nodes = VALUE_NODES_MAX;
        let size = size(value, &mut nodes);
        if nodes == 0 || size > VALUE_TEXT_MAX || self.shown + size > SHOWN_BYTES_MAX {
            return match value {
                Value::String(text) => format!("{}… (a long text)", text.chars().take(40).collect::<String>()).into(),
                Value::Array(items) => format!("… (a list of {})", items.len()).into(),
                _ => "… (a large object)".into(),
            };
        }
        self.shown += size;
        value.clone()
    }
}

/// About the length of a value's text; stops when `nodes` are used up.
fn size(value: &Value, nodes: &mut usize) -> usize {
    if *nodes == 0 {
        return 0;
    }
    *nodes -= 1;
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|item| size(item, nodes)).sum(),
        Value::Object(members) => members.iter().map(|(name, value)| name.len() + size(value, nodes)).sum(),
        _ => 8,
    }
}

impl Step {
    /// Writes the places, from that of the whole expression down.
    pub fn place(&mut self, at: &str) {
        self.at = match (self.kind, &self.comparison) {
            (Some(StepKind::And), _) => format!("{at}.and"),
            (Some(StepKind::Or), _) => format!("{at}.or"),
            (Some(StepKind::Not), _) => format!("{at}.not"),
            (_, Some(comparison)) => format!("{at}.{}", comparison.operator),
            (_, None) => at.to_owned(),
        };
        let is_list = self.kind != Some(StepKind::Not);
        for (index, part) in self.parts.iter_mut().enumerate() {
            let at = if is_list { format!("{}[{index}]", self.at) } else { self.at.clone() };
            part.place(&at);
        }
    }

    /// The comparisons without which the result would not be this one.
    pub fn deciders<'s>(&'s self, found: &mut Vec<&'s Step>) {
        let all = match self.kind {
            Some(StepKind::And) => self.held,
            Some(StepKind::Or) => !self.held,
            _ => true,
        };
        match (&self.comparison, all) {
            (Some(_), _) => found.push(self),
            (None, true) => self.parts.iter().for_each(|part| part.deciders(found)),
            // The last part that was looked at ended the search.
            (None, false) => self.parts.last().into_iter().for_each(|part| part.deciders(found)),
        }
    }
}
