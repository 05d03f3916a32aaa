//! JSONPath (RFC 9535), compiled once per endpoint version and safe to run on a client's event.
//!
//! jsonpath-rust parses paths and decides filters. The walk is ours: jsonpath-rust builds the text of every node's own
//! path, which one long member name over a long array turns into gigabytes. Called by expression, dispatch (record keys)
//! and config; imports limits only.

use jsonpath_rust::parser::model::{
    Comparable, Comparison, Filter, FilterAtom, FnArg, JpQuery, Segment, Selector, SingularQuery, Test, TestFunction,
};
use jsonpath_rust::parser::parse_json_path;
use jsonpath_rust::query::js_path_process;
use serde_json::Value;

use super::limits;

/// A compiled path.
#[derive(Debug, Clone)]
pub struct JsonPath {
    text: String,
    steps: Vec<Step>,
    singular: bool,
}

/// Why a text is not taken as a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonPathError {
    /// Not RFC 9535.
    #[error("is not a JSONPath (RFC 9535): {0}")]
    Syntax(String),
    /// Longer than allowed.
    #[error("JSONPaths have at most {max} bytes, this has {0}", max = limits::JSON_PATH_BYTES_MAX)]
    Length(usize),
    /// Parentheses and brackets in each other.
    #[error("brackets and parentheses nest at most {} deep", limits::JSON_PATH_NESTING_MAX)]
    Nesting,
    /// More than one `..`.
    #[error("at most {} descendant segment (..) is allowed", limits::JSON_PATH_DESCENDANTS_MAX)]
    Descendants,
    /// Too many selectors in unions.
    #[error("the selectors of all unions multiply to at most {}", limits::JSON_PATH_UNION_PRODUCT_MAX)]
    Unions,
    /// Too many filters.
    #[error("at most {} filters are allowed", limits::JSON_PATH_FILTERS_MAX)]
    Filters,
    /// A filter with a query of its own that starts at the root or can find many nodes.
    #[error("inside a filter, paths start with @ and only name members and indexes")]
    FilterQuery,
    /// match() and search() compile their regex at every evaluation.
    #[error("{0}() is not allowed inside paths; use the operator \"matches\"")]
    Regex(&'static str),
    /// A function of jsonpath-rust that no standard knows.
    #[error("function {0}() is not part of RFC 9535")]
    Function(String),
}

/// One segment, or one selector of a union.
#[derive(Debug, Clone)]
enum Step {
    Name(String),
    Index(i64),
    Wildcard,
    Slice(Option<i64>, Option<i64>, Option<i64>),
    /// A query of this one filter.
    Filter(JpQuery),
    Union(Vec<Step>),
    Descendant(Box<Step>),
}

/// The same text is the same path.
impl PartialEq for JsonPath {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl JsonPath {
    /// Compiles `text`, within the static limits that keep evaluation cheap on any event.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        if text.len() > limits::JSON_PATH_BYTES_MAX {
            return Err(JsonPathError::Length(text.len()));
        }
        if text.trim() != text {
            return Err(JsonPathError::Syntax("no space before or after it".to_owned()));
        }
        check_nesting(text)?;
        let query: JpQuery = parse_json_path(text).map_err(|error| JsonPathError::Syntax(syntax_message(&error)))?;
        let mut counts = Counts { unions: 1, ..Counts::default() };
        let steps = query.segments.into_iter().map(|segment| counts.step(segment)).collect::<Result<Vec<_>, _>>()?;
        let singular = steps.iter().all(|step| matches!(step, Step::Name(_) | Step::Index(_)));
        Ok(Self { text: text.to_owned(), steps, singular })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// True when it can find one node at most: names and indexes only.
    pub fn is_singular(&self) -> bool {
        self.singular
    }

    /// The names it begins with: all that it can find is below them.
    pub fn leading_names(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map_while(|step| match step {
            Step::Name(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The first node, in document order as far as the path has one.
    pub fn first<'v>(&self, root: &'v Value) -> Option<&'v Value> {
        if self.singular {
            return self.walk(root);
        }
        self.all(root).first().copied()
    }

    /// Every node.
    pub fn all<'v>(&self, root: &'v Value) -> Vec<&'v Value> {
        if self.singular {
            return self.walk(root).into_iter().collect();
        }
        let mut nodes = vec![root];
        for step in &self.steps {
            let mut found = Vec::new();
            for node in nodes {
                step.apply(node, &mut found);
            }
            nodes = found;
        }
        nodes
    }

    /// The hot case, without a list: every step finds one node or none.
    fn walk<'v>(&self, root: &'v Value) -> Option<&'v Value> {
        self.steps.iter().try_fold(root, |node, step| match step {
            Step::Name(name) => node.as_object()?.get(name),
            Step::Index(index) => at(node.as_array()?, *index),
            _ => None,
        })
    }
}

impl Step {
    fn apply<'v>(&self, node: &'v Value, found: &mut Vec<&'v Value>) {
        match self {
            Step::Name(name) => found.extend(node.as_object().and_then(|members| members.get(name))),
            Step::Index(index) => found.extend(node.as_array().and_then(|items| at(items, *index))),
            Step::Wildcard => found.extend(children(node)),
            Step::Slice(start, end, step) => {
                if let Some(items) = node.as_array() {
                    slice(items, *start, *end, step.unwrap_or(1), found);
                }
            }
            Step::Filter(filter) => apply_filter(filter, node, found),
            Step::Union(steps) => steps.iter().for_each(|step| step.apply(node, found)),
            Step::Descendant(step) => {
                step.apply(node, found);
                // Depth: that of the event, which the JSON parser bounds.
                children(node).filter(|child| child.is_array() || child.is_object()).for_each(|child| {
                    self.apply(child, found);
                });
            }
        }
    }
}

fn children(node: &Value) -> impl Iterator<Item = &Value> {
    let items = node.as_array().map(|items| items.iter());
    let members = node.as_object().map(|members| members.values());
    items.into_iter().flatten().chain(members.into_iter().flatten())
}

fn at(items: &[Value], index: i64) -> Option<&Value> {
    let index = if index < 0 { i64::try_from(items.len()).ok()?.checked_add(index)? } else { index };
    items.get(usize::try_from(index).ok()?)
}

/// RFC 9535, 2.3.4.2.
fn slice<'v>(items: &'v [Value], start: Option<i64>, end: Option<i64>, step: i64, found: &mut Vec<&'v Value>) {
    let len = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let absolute = |index: i64| if index >= 0 { index } else { len.saturating_add(index) };
    let (mut index, stop) = match step {
        0 => return,
        1.. => (absolute(start.unwrap_or(0)).clamp(0, len), absolute(end.unwrap_or(len)).clamp(0, len)),
        _ => {
            (start.map_or(len - 1, absolute).clamp(-1, len - 1), end.map_or(-1, |end| absolute(end).clamp(-1, len - 1)))
        }
    };
    while (step > 0 && index < stop) || (step < 0 && index > stop) {
        found.extend(at(items, index));
        index = index.saturating_add(step);
    }
}

/// The children of `node` for which the filter holds. The node is the query's root, which is why filters may not
/// contain `$`: jsonpath-rust cannot be given both.
fn apply_filter<'v>(filter: &JpQuery, node: &'v Value, found: &mut Vec<&'v Value>) {
    if !node.is_array() && !node.is_object() {
        return;
    }
    // An Err would be a value instead of nodes, which a filter segment never yields.
    found.extend(js_path_process(filter, node).unwrap_or_default().into_iter().map(|found| found.val));
}

/// What the static limits count while a parsed path becomes steps.
#[derive(Default)]
struct Counts {
    descendants: usize,
    unions: usize,
    filters: usize,
}

impl Counts {
    fn step(&mut self, segment: Segment) -> Result<Step, JsonPathError> {
        match segment {
            Segment::Descendant(inner) => {
                self.descendants += 1;
                if self.descendants > limits::JSON_PATH_DESCENDANTS_MAX {
                    return Err(JsonPathError::Descendants);
                }
                Ok(Step::Descendant(Box::new(self.step(*inner)?)))
            }
            Segment::Selector(selector) => self.selector(selector),
            Segment::Selectors(selectors) => {
                self.unions = self.unions.saturating_mul(selectors.len());
                if self.unions > limits::JSON_PATH_UNION_PRODUCT_MAX {
                    return Err(JsonPathError::Unions);
                }
                let mut steps = selectors.into_iter().map(|s| self.selector(s)).collect::<Result<Vec<_>, _>>()?;
                match (steps.len(), steps.pop()) {
                    (1, Some(only)) => Ok(only),
                    (_, last) => {
                        steps.extend(last);
                        Ok(Step::Union(steps))
                    }
                }
            }
        }
    }

    fn selector(&mut self, selector: Selector) -> Result<Step, JsonPathError> {
        Ok(match selector {
            Selector::Name(name) => Step::Name(name),
            Selector::Index(index) => Step::Index(index),
            Selector::Wildcard => Step::Wildcard,
            Selector::Slice(start, end, step) => Step::Slice(start, end, step),
            Selector::Filter(filter) => {
                self.filters += 1;
                if self.filters > limits::JSON_PATH_FILTERS_MAX {
                    return Err(JsonPathError::Filters);
                }
                check_filter(&filter)?;
                Step::Filter(JpQuery::new(vec![Segment::Selector(Selector::Filter(filter))]))
            }
        })
    }
}

fn check_filter(filter: &Filter) -> Result<(), JsonPathError> {
    match filter {
        Filter::Or(filters) | Filter::And(filters) => filters.iter().try_for_each(check_filter),
        Filter::Atom(FilterAtom::Filter { expr, .. }) => check_filter(expr),
        Filter::Atom(FilterAtom::Test { expr, .. }) => check_test(expr),
        Filter::Atom(FilterAtom::Comparison(comparison)) => check_comparison(comparison),
    }
}

fn check_comparison(comparison: &Comparison) -> Result<(), JsonPathError> {
    let (left, right) = comparison.vals();
    [left, right].into_iter().try_for_each(|side| match side {
        Comparable::Function(function) => check_function(function),
        Comparable::SingularQuery(SingularQuery::Root(_)) => Err(JsonPathError::FilterQuery),
        Comparable::Literal(_) | Comparable::SingularQuery(_) => Ok(()),
    })
}

fn check_test(test: &Test) -> Result<(), JsonPathError> {
    let segments = match test {
        Test::RelQuery(segments) => segments,
        Test::AbsQuery(_) => return Err(JsonPathError::FilterQuery),
        Test::Function(function) => return check_function(function),
    };
    match segments.iter().all(is_singular) {
        true => Ok(()),
        false => Err(JsonPathError::FilterQuery),
    }
}

fn is_singular(segment: &Segment) -> bool {
    match segment {
        Segment::Selector(selector) => matches!(selector, Selector::Name(_) | Selector::Index(_)),
        Segment::Selectors(selectors) => matches!(selectors.as_slice(), [Selector::Name(_) | Selector::Index(_)]),
        Segment::Descendant(_) => false,
    }
}

fn check_function(function: &TestFunction) -> Result<(), JsonPathError> {
    let argument = match function {
        TestFunction::Match(..) => return Err(JsonPathError::Regex("match")),
        TestFunction::Search(..) => return Err(JsonPathError::Regex("search")),
        TestFunction::Custom(name, _) => return Err(JsonPathError::Function(name.clone())),
        TestFunction::Length(argument) => argument,
        TestFunction::Value(argument) | TestFunction::Count(argument) => argument,
    };
    match argument {
        FnArg::Literal(_) => Ok(()),
        FnArg::Test(test) => check_test(test),
        FnArg::Filter(filter) => check_filter(filter),
    }
}

/// Before the parser: it recurses with the nesting, and backtracks; and it takes `$.a b` for the one name "a b".
fn check_nesting(text: &str) -> Result<(), JsonPathError> {
    let (mut depth, mut quote, mut escaped) = (0usize, None, false);
    let (mut name_before, mut space_before) = (false, false);
    for byte in text.bytes() {
        let in_name = quote.is_none() && (byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii());
        if name_before && space_before && in_name {
            return Err(JsonPathError::Syntax("a space inside a name needs brackets and quotes".to_owned()));
        }
        space_before = byte.is_ascii_whitespace();
        name_before = in_name || (name_before && space_before);
        match (quote, byte) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(open), _) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"') => quote = Some(byte),
            (None, b'(' | b'[') => depth += 1,
            (None, b')' | b']') => depth = depth.saturating_sub(1),
            (None, _) => {}
        }
        if depth > limits::JSON_PATH_NESTING_MAX {
            return Err(JsonPathError::Nesting);
        }
    }
    Ok(())
}

/// The parser's report is a drawing of several lines; its last holds the reason.
fn syntax_message(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let column = text.split("-->").nth(1).and_then(|rest| rest.split(':').nth(1)).and_then(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        (!digits.is_empty()).then_some(digits)
    });
    match column {
        Some(column) => format!("error at character {column}"),
        None => text.lines().last().unwrap_or_default().trim_matches(['=', ' ']).to_owned(),
    }
}

#[cfg(test)]
#[path = "json_path_tests.rs"]
mod tests;
