//! Which custom routes an event takes: expressions and keys, compiled once, evaluated per event without allocating.
//!
//! Called by inbound/route; built by config/compile. Imports json_path and projection.

use std::cmp::Ordering;
use std::collections::HashMap;

use regex::Regex;
use serde_json::{Number, Value};

use super::json_path::JsonPath;
use super::projection::Projection;

/// The JSON that expressions of source "connection" look at: id, path, params, query, headers, user, claims, sourceIp.
pub trait ConnectionFacts {
    /// Made on first use at the latest; asked for at most once per test, never for endpoints that don't look at it.
    fn facts(&self) -> &Value;
}

impl ConnectionFacts for Value {
    fn facts(&self) -> &Value {
        self
    }
}

/// What a test looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The client's event.
    Event,
    /// The connection's facts.
    Connection,
}

/// A condition on an event.
#[derive(Debug, Clone)]
pub enum Expression {
    /// All of them.
    And(Vec<Expression>),
    /// At least one.
    Or(Vec<Expression>),
    /// Not this one.
    Not(Box<Expression>),
    /// Some node at the path passes the check; a path without nodes passes none but `Exists(false)`.
    Test {
        /// Where to look.
        source: Source,
        /// What to look at there.
        path: JsonPath,
        /// What to ask.
        check: Check,
    },
}

/// A question about one JSON value. Types are never coerced; numbers compare by value (8 equals 8.0).
#[derive(Debug, Clone)]
pub enum Check {
    /// The same value.
    Equal(Value),
    /// Another value.
    NotEqual(Value),
    /// A string in which the regex finds a match anywhere (anchor with ^ and $).
    Matches(Regex),
    /// A number or string in this order to the bound; strings by code points.
    Ordered(OrderOp, Value),
    /// One of these values.
    In(Vec<Value>),
    /// An array with this element, or a string with this substring.
    Contains(Value),
    /// A string with this beginning.
    StartsWith(String),
    /// There is a node, null included (true), or none (false).
    Exists(bool),
}

/// The four order operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderOp {
    /// `>`
    Gt,
    /// `>=`
    Gte,
    /// `<`
    Lt,
    /// `<=`
    Lte,
}

impl Check {
    /// The operator as documents name it, and the value it compares with.
    pub fn describe(&self) -> (&'static str, Value) {
        match self {
            Check::Equal(value) => ("equal", value.clone()),
            Check::NotEqual(value) => ("notEqual", value.clone()),
            Check::Matches(regex) => ("matches", regex.as_str().into()),
            Check::Ordered(op, bound) => (op.as_str(), bound.clone()),
            Check::In(values) => ("in", values.clone().into()),
            Check::Contains(value) => ("contains", value.clone()),
            Check::StartsWith(prefix) => ("startsWith", prefix.as_str().into()),
            Check::Exists(expected) => ("exists", (*expected).into()),
        }
    }

    fn passes(&self, value: &Value) -> bool {
        match self {
            Check::Equal(expected) => json_eq(value, expected),
            Check::NotEqual(expected) => !json_eq(value, expected),
            Check::Matches(regex) => value.as_str().is_some_and(|text| regex.is_match(text)),
            Check::Ordered(op, bound) => order(value, bound).is_some_and(|ordering| op.holds(ordering)),
            Check::In(values) => values.iter().any(|expected| json_eq(value, expected)),
            Check::Contains(expected) => match (value, expected) {
                (Value::Array(items), _) => items.iter().any(|item| json_eq(item, expected)),
                (Value::String(text), Value::String(part)) => text.contains(part.as_str()),
                _ => false,
            },
            Check::StartsWith(prefix) => value.as_str().is_some_and(|text| text.starts_with(prefix.as_str())),
            Check::Exists(expected) => *expected,
        }
    }
}

impl OrderOp {
    fn as_str(self) -> &'static str {
        match self {
            OrderOp::Gt => "gt",
            OrderOp::Gte => "gte",
            OrderOp::Lt => "lt",
            OrderOp::Lte => "lte",
        }
    }

    fn holds(self, ordering: Ordering) -> bool {
        match self {
            OrderOp::Gt => ordering == Ordering::Greater,
            OrderOp::Gte => ordering != Ordering::Less,
            OrderOp::Lt => ordering == Ordering::Less,
            OrderOp::Lte => ordering != Ordering::Greater,
        }
    }
}

/// Equality of JSON values, numbers by value.
fn json_eq(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => number_order(left, right) == Some(Ordering::Equal),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| json_eq(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, value)| right.get(name).is_some_and(|other| json_eq(value, other)))
        }
        _ => left == right,
    }
}

fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => number_order(left, right),
        (Value::String(left), Value::String(right)) => Some(left.as_str().cmp(right.as_str())),
        _ => None,
    }
}

/// Exact among integers; an integer against a fraction as f64, so beyond 2^53 to f64's precision.
fn number_order(left: &Number, right: &Number) -> Option<Ordering> {
    if let (Some(left), Some(right)) = (integer(left), integer(right)) {
        return Some(left.cmp(&right));
    }
    left.as_f64()?.partial_cmp(&right.as_f64()?)
}

fn integer(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

/// The custom routes of an endpoint. An index is a position among the custom routes, in document order.
#[derive(Debug, Default)]
pub struct CustomRoutes {
    /// Every distinct (source, path); tests name them by position.
    paths: Vec<(Source, JsonPath)>,
    selector: Option<JsonPath>,
    /// Routes of each key, ascending.
    by_key: HashMap<String, Vec<usize>>,
    /// Routes with an expression, ascending.
    by_expression: Vec<(usize, Node)>,
    /// By route: does an event that matched go on?
    go_on: Vec<bool>,
}

/// An [`Expression`] whose paths are positions in `paths`.
#[derive(Debug)]
enum Node {
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Test(usize, Check),
}

/// Puts [`CustomRoutes`] together, in document order.
#[derive(Debug, Default)]
pub struct CustomRoutesBuilder {
    routes: CustomRoutes,
}

impl CustomRoutesBuilder {
    /// `selector` finds the key of an event for routes that give a key.
    pub fn new(selector: Option<JsonPath>) -> Self {
        Self { routes: CustomRoutes { selector, ..CustomRoutes::default() } }
    }

    /// The next route: taken when the selector's value is this string.
    pub fn push_key(&mut self, key: &str, go_on: bool) {
        let index = self.routes.go_on.len();
        self.routes.go_on.push(go_on);
        self.routes.by_key.entry(key.to_owned()).or_default().push(index);
    }

    /// The next route: taken when the expression holds.
    pub fn push_expression(&mut self, expression: Expression, go_on: bool) {
        let index = self.routes.go_on.len();
        self.routes.go_on.push(go_on);
        let node = self.intern(expression);
        self.routes.by_expression.push((index, node));
    }

    /// Done.
    pub fn build(self) -> CustomRoutes {
        self.routes
    }

    fn intern(&mut self, expression: Expression) -> Node {
        match expression {
            Expression::And(parts) => Node::And(parts.into_iter().map(|part| self.intern(part)).collect()),
            Expression::Or(parts) => Node::Or(parts.into_iter().map(|part| self.intern(part)).collect()),
            Expression::Not(part) => Node::Not(Box::new(self.intern(*part))),
            Expression::Test { source, path, check } => {
                let paths = &mut self.routes.paths;
                let known = paths.iter().position(|(s, p)| *s == source && p.as_str() == path.as_str());
                let id = known.unwrap_or_else(|| {
                    paths.push((source, path));
                    paths.len() - 1
                });
                Node::Test(id, check)
            }
        }
    }
}

/// Memory of route selection, kept from event to event so that it is allocated once; one per worker.
#[derive(Debug, Default)]
pub struct RouteScratch {
    found: Vec<Found<'static>>,
    selected: Vec<usize>,
}

/// What a path found in the event at hand.
#[derive(Debug)]
enum Found<'v> {
    NotYetAsked,
    Nothing,
    One(&'v Value),
    Many(Vec<&'v Value>),
}

/// The same allocation for another lifetime: collecting an emptied vector's iterator reuses its memory.
fn recycle<'a>(mut found: Vec<Found<'_>>) -> Vec<Found<'a>> {
    found.clear();
    found.into_iter().map(|_| Found::NotYetAsked).collect()
}

impl CustomRoutes {
    /// Adds what of an event decides on its routes.
    pub fn add_looked_at(&self, projection: &mut Projection) {
        if !self.by_key.is_empty() {
            self.selector.iter().for_each(|selector| projection.add(selector));
        }
        let of_events = self.paths.iter().filter(|(source, _)| *source == Source::Event);
        of_events.for_each(|(_, path)| projection.add(path));
    }

    /// Number of custom routes.
    pub fn len(&self) -> usize {
        self.go_on.len()
    }

    /// True without custom routes.
    pub fn is_empty(&self) -> bool {
        self.go_on.is_empty()
    }

    /// The key of a route that has one, and whether an event that took the route goes on.
    pub fn describe(&self, index: usize) -> (Option<&str>, bool) {
        let key = self.by_key.iter().find(|(_, routes)| routes.contains(&index)).map(|(key, _)| key.as_str());
        (key, self.go_on.get(index).copied().unwrap_or(false))
    }

    /// The selector that routes with a key compare with.
    pub fn selector(&self) -> Option<&JsonPath> {
        self.selector.as_ref()
    }

    /// The routes that the event takes, ascending; none: the default route's turn. The first match ends the search
    /// unless its route says to go on.
    pub fn select<'s>(
        &self,
        event: &Value,
        connection: &dyn ConnectionFacts,
        scratch: &'s mut RouteScratch,
    ) -> &'s [usize] {
        self.select_watched(event, connection, scratch, &mut ())
    }

    /// As `select`, and `watch` is told of every step.
    pub fn select_watched<'s>(
        &self,
        event: &Value,
        connection: &dyn ConnectionFacts,
        scratch: &'s mut RouteScratch,
        watch: &mut impl Watch,
    ) -> &'s [usize] {
        scratch.selected.clear();
        if self.go_on.is_empty() {
            return &scratch.selected;
        }
        let mut found = recycle(std::mem::take(&mut scratch.found));
        found.resize_with(self.paths.len(), || Found::NotYetAsked);
        let mut evaluation = Evaluation { routes: self, event, connection, found, watch };
        let mut keyed = self.routes_of_key(event).iter().copied().peekable();
        let mut conditional = self.by_expression.iter().peekable();
        loop {
            let index = match (keyed.peek(), conditional.peek()) {
                (Some(key), Some((expression, _))) if key < expression => keyed.next(),
                (Some(_), None) => keyed.next(),
                (_, Some(_)) => {
                    conditional.next().filter(|(index, node)| evaluation.route(*index, node)).map(|(index, _)| *index)
                }
                (None, None) => break,
            };
            let Some(index) = index else { continue };
            scratch.selected.push(index);
            if !self.go_on.get(index).copied().unwrap_or(false) {
                break;
            }
        }
        scratch.found = recycle(evaluation.found);
        &scratch.selected
    }

    fn routes_of_key(&self, event: &Value) -> &[usize] {
        if self.by_key.is_empty() {
            return &[];
        }
        let key = self.selector.as_ref().and_then(|selector| selector.first(event)).and_then(Value::as_str);
        key.and_then(|key| self.by_key.get(key)).map_or(&[], Vec::as_slice)
    }
}

/// The kind of a step of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepKind {
    /// All parts.
    And,
    /// One part.
    Or,
    /// The opposite of its part.
    Not,
    /// A comparison.
    Test,
}

/// Is told what route selection does, in order. The watch of serving is `()`, which leaves nothing of it in the code.
pub trait Watch {
    /// The expression of this route is looked at next.
    fn route(&mut self, _index: usize) {}
    /// A step begins; those of its parts that are looked at come before its end.
    fn enter(&mut self, _kind: StepKind) {}
    /// What the comparison that has begun sees.
    fn sees(&mut self, _source: Source, _path: &JsonPath, _check: &Check, _found: &[&Value]) {}
    /// The step that began last ends.
    fn leave(&mut self, _held: bool) {}
}

impl Watch for () {}

/// One event's way through the conditions.
struct Evaluation<'r, 'v, 'w, W: Watch> {
    routes: &'r CustomRoutes,
    event: &'v Value,
    connection: &'v dyn ConnectionFacts,
    found: Vec<Found<'v>>,
    watch: &'w mut W,
}

impl<W: Watch> Evaluation<'_, '_, '_, W> {
    fn route(&mut self, index: usize, node: &Node) -> bool {
        self.watch.route(index);
        self.holds(node)
    }

    /// Recursion: bounded by the expression depth that validation allows.
    fn holds(&mut self, node: &Node) -> bool {
        self.watch.enter(match node {
            Node::And(_) => StepKind::And,
            Node::Or(_) => StepKind::Or,
            Node::Not(_) => StepKind::Not,
            Node::Test(..) => StepKind::Test,
        });
        let held = match node {
            Node::And(parts) => parts.iter().all(|part| self.holds(part)),
            Node::Or(parts) => parts.iter().any(|part| self.holds(part)),
            Node::Not(part) => !self.holds(part),
            Node::Test(id, check) => self.passes(*id, check),
        };
        self.watch.leave(held);
        held
    }

    fn passes(&mut self, id: usize, check: &Check) -> bool {
        let (Some(slot), Some((source, path))) = (self.found.get_mut(id), self.routes.paths.get(id)) else {
            return false;
        };
        if matches!(slot, Found::NotYetAsked) {
            let root = match source {
                Source::Event => self.event,
                Source::Connection => self.connection.facts(),
            };
            *slot = match path.is_singular() {
                true => path.first(root).map_or(Found::Nothing, Found::One),
                false => Found::Many(path.all(root)),
            };
        }
        match slot {
            Found::One(node) => self.watch.sees(*source, path, check, &[node]),
            Found::Many(nodes) => self.watch.sees(*source, path, check, nodes),
            Found::Nothing | Found::NotYetAsked => self.watch.sees(*source, path, check, &[]),
        }
        match (slot, check) {
            (Found::One(_), Check::Exists(expected)) => *expected,
            (Found::Many(nodes), Check::Exists(expected)) => *expected != nodes.is_empty(),
            (Found::Nothing | Found::NotYetAsked, Check::Exists(expected)) => !expected,
            (Found::Nothing | Found::NotYetAsked, _) => false,
            (Found::One(node), check) => check.passes(node),
            (Found::Many(nodes), check) => nodes.iter().any(|node| check.passes(node)),
        }
    }
}

#[cfg(test)]
#[path = "expression_tests.rs"]
mod tests;
