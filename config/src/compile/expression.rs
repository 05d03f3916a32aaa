//! Expressions of custom routes: exactly one operator a node, values of the right kind, within the limits.
//! Called by compile; imports model and document.

use regex::RegexBuilder;
use serde_json::Value;

use crate::document::{self, Comparison, ComparisonSource};
use crate::findings::Findings;
use wsgateway_model::expression::{Check, Expression, OrderOp, Source};
use wsgateway_model::json_path::JsonPath;
use wsgateway_model::limits;

/// Compiles the expression at `path`; None: there are findings. `regexes` counts those of the whole endpoint.
pub fn compile(
    from: &document::Expression,
    path: &str,
    regexes: &mut usize,
    findings: &mut Findings,
) -> Option<Expression> {
    compile_over(from, path, regexes, None, findings)
}

/// The same where there is nothing but this source to look at.
pub fn compile_over(
    from: &document::Expression,
    path: &str,
    regexes: &mut usize,
    only: Option<Source>,
    findings: &mut Findings,
) -> Option<Expression> {
    let mut compiler = Compiler { leaves: 0, regexes, only, findings };
    let compiled = compiler.node(from, path, 1);
    let leaves = compiler.leaves;
    if leaves > limits::EXPRESSION_LEAVES_MAX {
        let max = limits::EXPRESSION_LEAVES_MAX;
        findings.add(path, format!("must have at most {max} comparisons, has {leaves}"));
        return None;
    }
    compiled
}

struct Compiler<'a> {
    leaves: usize,
    regexes: &'a mut usize,
    /// None: the event, unless a comparison names another.
    only: Option<Source>,
    findings: &'a mut Findings,
}

impl Compiler<'_> {
    fn node(&mut self, from: &document::Expression, path: &str, depth: usize) -> Option<Expression> {
        if depth > limits::EXPRESSION_DEPTH_MAX {
            self.findings.add(path, format!("nests deeper than {} levels", limits::EXPRESSION_DEPTH_MAX));
            return None;
        }
        let leaves: Vec<_> = comparisons(from).into_iter().filter_map(|(name, leaf)| Some((name, leaf?))).collect();
        let connectives = [from.and.is_some(), from.or.is_some(), from.not.is_some()];
        let operators = leaves.len() + connectives.iter().filter(|given| **given).count();
        if operators != 1 {
            let message = match operators {
                0 => "has no operator".to_owned(),
                _ => format!("must have exactly one operator, has {operators}; combine them with \"and\" or \"or\""),
            };
            self.findings.add(path, message);
        }
        let mut compiled = None;
        if let Some(parts) = &from.and {
            compiled = self.parts(parts, &format!("{path}.and"), depth).map(Expression::And);
        }
        if let Some(parts) = &from.or {
            compiled = self.parts(parts, &format!("{path}.or"), depth).map(Expression::Or);
        }
        if let Some(part) = &from.not {
            let part = self.node(part, &format!("{path}.not"), depth + 1);
            compiled = part.map(|part| Expression::Not(Box::new(part)));
        }
        for (name, leaf) in leaves {
            compiled = self.leaf(name, leaf, &format!("{path}.{name}"));
        }
        compiled.filter(|_| operators == 1)
    }

    fn parts(&mut self, parts: &[document::Expression], path: &str, depth: usize) -> Option<Vec<Expression>> {
        if parts.is_empty() {
            self.findings.add(path, "must not be empty");
            return None;
        }
        let compiled: Vec<_> = parts
            .iter()
            .enumerate()
            .map(|(index, part)| self.node(part, &format!("{path}[{index}]"), depth + 1))
            .collect();
        compiled.into_iter().collect()
    }

    fn leaf(&mut self, operator: &str, from: &Comparison, path: &str) -> Option<Expression> {
        self.leaves += 1;
        let check = match check(operator, from.value.as_ref(), self.regexes) {
            Ok(check) => Some(check),
            Err(message) => {
                self.findings.add(format!("{path}.value"), message);
                None
            }
        };
        let json_path = self.findings.take(format!("{path}.path"), JsonPath::parse(&from.path));
        let named = from.source.map(|source| match source {
            ComparisonSource::Event => Source::Event,
            ComparisonSource::Connection => Source::Connection,
        });
        if let (Some(named), Some(only)) = (named, self.only) {
            if named != only {
                self.findings.add(format!("{path}.source"), "is not there to be looked at here");
            }
        }
        let source = named.or(self.only).unwrap_or(Source::Event);
        Some(Expression::Test { source, path: json_path?, check: check? })
    }
}

/// Every comparison of a node under its name.
fn comparisons(from: &document::Expression) -> [(&'static str, Option<&Comparison>); 11] {
    [
        ("equal", from.equal.as_ref()),
        ("notEqual", from.not_equal.as_ref()),
        ("matches", from.matches.as_ref()),
        ("gt", from.gt.as_ref()),
        ("gte", from.gte.as_ref()),
        ("lt", from.lt.as_ref()),
        ("lte", from.lte.as_ref()),
        ("in", from.one_of.as_ref()),
        ("contains", from.contains.as_ref()),
        ("startsWith", from.starts_with.as_ref()),
        ("exists", from.exists.as_ref()),
    ]
}

fn check(operator: &str, value: Option<&Value>, regexes: &mut usize) -> Result<Check, String> {
    if operator == "exists" {
        return match value {
            None => Ok(Check::Exists(true)),
            Some(Value::Bool(expected)) => Ok(Check::Exists(*expected)),
            Some(_) => Err("must be true or false".to_owned()),
        };
    }
    let value = value.ok_or("is missing")?;
    let ordered = |op| match value {
        Value::Number(_) | Value::String(_) => Ok(Check::Ordered(op, value.clone())),
        _ => Err("must be a number or a string".to_owned()),
    };
    match operator {
        "equal" => Ok(Check::Equal(value.clone())),
        "notEqual" => Ok(Check::NotEqual(value.clone())),
        "contains" => Ok(Check::Contains(value.clone())),
        "gt" => ordered(OrderOp::Gt),
        "gte" => ordered(OrderOp::Gte),
        "lt" => ordered(OrderOp::Lt),
        "lte" => ordered(OrderOp::Lte),
        "in" => value.as_array().map(|values| Check::In(values.clone())).ok_or("must be a list".to_owned()),
        "startsWith" => {
            value.as_str().map(|text| Check::StartsWith(text.to_owned())).ok_or("must be a string".to_owned())
        }
        "matches" => regex(value.as_str().ok_or("must be a string")?, regexes),
        _ => Err(format!("operator {operator:?} is not known here")),
    }
}

/// Above the endpoint's maximum nothing more is built: the count alone is the finding.
fn regex(text: &str, regexes: &mut usize) -> Result<Check, String> {
    let max = limits::REGEX_BYTES_MAX;
    if text.len() > max {
        return Err(format!("must have at most {max} bytes, has {}", text.len()));
    }
    *regexes += 1;
    let text = if *regexes > limits::REGEXES_MAX { "" } else { text };
    let built = RegexBuilder::new(text)
        .size_limit(limits::REGEX_COMPILED_BYTES_MAX)
        .dfa_size_limit(limits::REGEX_COMPILED_BYTES_MAX)
        .build();
    match built {
        Ok(regex) => Ok(Check::Matches(regex)),
        Err(regex::Error::CompiledTooBig(_)) => Err("is a regular expression that compiles to too much".to_owned()),
        Err(error) => {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            Err(format!("is no regular expression: {reason}"))
        }
    }
}
