//! What a parsed template may contain: known variables, filters, tests and functions, nothing whose cost fuel cannot
//! bound. Whatever is refused here is refused when the document is written, with its line.

use std::collections::BTreeSet;

use minijinja::machinery::ast::{BinOpKind, CallArg, Expr, Stmt};

use super::filters::{FILTERS, RANGE, TESTS, UNDEFINED};
use super::TemplateError;

/// What templates can see, in the order of their documentation.
pub const VARIABLES: [&str; 4] = ["event", "connection", "endpoint", "now"];

/// One more in templates of acknowledgements.
pub const ACK: &str = "ack";

/// Checks the whole template and says which of `known` it looks at.
pub(super) fn check(template: &Stmt<'_>, known: &[&'static str]) -> Result<BTreeSet<&'static str>, TemplateError> {
    let mut checker = Checker { known, assigned: BTreeSet::new(), used: BTreeSet::new() };
    checker.assignments(std::slice::from_ref(template));
    checker.statement(template)?;
    Ok(checker.used)
}

struct Checker<'k> {
    known: &'k [&'static str],
    /// Names that the template gives to values, anywhere.
    assigned: BTreeSet<String>,
    used: BTreeSet<&'static str>,
}

type Checked = Result<(), TemplateError>;

fn refuse(line: u16, message: impl Into<String>) -> Checked {
    Err(TemplateError::new(Some(usize::from(line)), message))
}

impl Checker<'_> {
    fn assignments(&mut self, statements: &[Stmt<'_>]) {
        for statement in statements {
            match statement {
                Stmt::Template(template) => self.assignments(&template.children),
                Stmt::ForLoop(block) => {
                    self.target(&block.target);
                    self.assignments(&block.body);
                    self.assignments(&block.else_body);
                }
                Stmt::IfCond(block) => {
                    self.assignments(&block.true_body);
                    self.assignments(&block.false_body);
                }
                Stmt::WithBlock(block) => {
                    block.assignments.iter().for_each(|(target, _)| self.target(target));
                    self.assignments(&block.body);
                }
                Stmt::Set(set) => self.target(&set.target),
                _ => {}
            }
        }
    }

    fn target(&mut self, target: &Expr<'_>) {
        match target {
            Expr::Var(name) => drop(self.assigned.insert(name.id.to_owned())),
            Expr::List(list) => list.items.iter().for_each(|item| self.target(item)),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| self.target(item)),
            _ => {}
        }
    }

    /// Recursion: bounded by the nesting that `source` allows.
    fn statements(&mut self, statements: &[Stmt<'_>]) -> Checked {
        statements.iter().try_for_each(|statement| self.statement(statement))
    }

    fn statement(&mut self, statement: &Stmt<'_>) -> Checked {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitRaw(_) => Ok(()),
            Stmt::EmitExpr(printed) => self.expression(&printed.expr),
            Stmt::ForLoop(block) => {
                if block.recursive {
                    return refuse(block.span().start_line, "recursive loops are not available");
                }
                self.expression(&block.iter)?;
                block.filter_expr.iter().try_for_each(|filter| self.expression(filter))?;
                self.statements(&block.body)?;
                self.statements(&block.else_body)
            }
            Stmt::IfCond(block) => {
                self.expression(&block.expr)?;
                self.statements(&block.true_body)?;
                self.statements(&block.false_body)
            }
            Stmt::WithBlock(block) => {
                for (target, value) in &block.assignments {
                    self.assigned_to(target)?;
                    self.expression(value)?;
                }
                self.statements(&block.body)
            }
            Stmt::Set(set) => {
                self.assigned_to(&set.target)?;
                self.expression(&set.expr)
            }
            Stmt::SetBlock(block) => refuse(block.span().start_line, "set needs a value: {% set name = … %}"),
            Stmt::AutoEscape(block) => refuse(block.span().start_line, "{% autoescape %} is not available"),
            Stmt::FilterBlock(block) => refuse(block.span().start_line, "{% filter %} is not available"),
            Stmt::Do(block) => refuse(block.span().start_line, "{% do %} is not available"),
        }
    }

    fn assigned_to(&self, target: &Expr<'_>) -> Checked {
        match target {
            Expr::Var(name) if self.known.contains(&name.id) => {
                refuse(name.span().start_line, format!("{} cannot be set", name.id))
            }
            Expr::GetAttr(_) => refuse(target.span().start_line, "only whole variables can be set"),
            _ => Ok(()),
        }
    }

    fn all(&mut self, expressions: &[Expr<'_>]) -> Checked {
        expressions.iter().try_for_each(|expression| self.expression(expression))
    }

    /// Recursion: bounded by the words and signs that one expression may have.
    fn expression(&mut self, expression: &Expr<'_>) -> Checked {
        let line = expression.span().start_line;
        match expression {
            Expr::Const(_) => Ok(()),
            Expr::Var(name) => self.variable(name.id, line),
            Expr::UnaryOp(operation) => self.expression(&operation.expr),
            Expr::BinOp(operation) => {
                if matches!(operation.op, BinOpKind::Pow) {
                    return refuse(line, "the operator ** is not available");
                }
                self.expression(&operation.left)?;
                self.expression(&operation.right)
            }
            Expr::IfExpr(choice) => {
                self.expression(&choice.test_expr)?;
                self.expression(&choice.true_expr)?;
                choice.false_expr.iter().try_for_each(|other| self.expression(other))
            }
            Expr::Filter(filter) => {
                let internal = filter.name.starts_with("wsgateway_");
                if !internal && !FILTERS.contains(&filter.name) {
                    return refuse(line, unknown("filter", filter.name, &FILTERS));
                }
                filter.expr.iter().try_for_each(|value| self.expression(value))?;
                self.arguments(&filter.args, line)
            }
            Expr::Test(test) => {
                let operator = matches!(test.name, "==" | "!=" | "<" | "<=" | ">" | ">=");
                if operator || !(test.name == UNDEFINED || TESTS.contains(&test.name)) {
                    return refuse(line, unknown("test", test.name, &TESTS));
                }
                self.expression(&test.expr)?;
                self.arguments(&test.args, line)
            }
            Expr::GetAttr(member) => self.expression(&member.expr),
            Expr::GetItem(item) => {
                self.expression(&item.expr)?;
                self.expression(&item.subscript_expr)
            }
            Expr::Call(call) => match &call.expr {
                Expr::Var(name) if name.id == RANGE => self.arguments(&call.args, line),
                _ => refuse(line, "only range() can be called"),
            },
            Expr::List(list) => self.all(&list.items),
            Expr::Tuple(tuple) => self.all(&tuple.items),
            Expr::Map(map) => {
                if map.keys.iter().any(|key| !matches!(key, Expr::Const(_))) {
                    return refuse(line, "names in {…} inside an expression must be texts in quotes");
                }
                self.all(&map.values)
            }
            Expr::Slice(_) => refuse(line, "slices [a:b] are not available; see the filters truncate, first and last"),
            Expr::Compare(_) => refuse(line, "comparisons in a row are not available: write a < b and b < c"),
        }
    }

    fn arguments(&mut self, arguments: &[CallArg<'_>], line: u16) -> Checked {
        for argument in arguments {
            match argument {
                CallArg::Pos(value) | CallArg::Kwarg(_, value) => self.expression(value)?,
                CallArg::PosSplat(_) | CallArg::KwargSplat(_) => {
                    return refuse(line, "arguments with * are not available");
                }
            }
        }
        Ok(())
    }

    fn variable(&mut self, name: &str, line: u16) -> Checked {
        if let Some(known) = self.known.iter().find(|known| **known == name) {
            self.used.insert(known);
            return Ok(());
        }
        if name == "loop" || self.assigned.contains(name) {
            return Ok(());
        }
        refuse(line, format!("there is no variable {name:?}; there are {}", self.known.join(", ")))
    }
}

fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    format!("there is no {what} {name:?}; there are {}", known.join(", "))
}
