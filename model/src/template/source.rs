//! A template's text before it is parsed: its static limits, which blocks it may have, and which of its expressions
//! stand inside a JSON string. Each `{{ … }}` is given the filter that prints it where it stands. No line is added, so
//! the engine's line numbers are those of the author.

use minijinja::machinery::{tokenize, Span, Token};
use minijinja::syntax::SyntaxConfig;

use super::filters::{PRINT_JSON, PRINT_TEXT};
use super::TemplateError;
use crate::limits;

/// The text as it is parsed.
pub(super) fn prepare(source: &str) -> Result<String, TemplateError> {
    if source.len() > limits::TEMPLATE_BYTES_MAX {
        let max = limits::TEMPLATE_BYTES_MAX;
        return Err(TemplateError::new(None, format!("templates have at most {max} bytes, this has {}", source.len())));
    }
    if source.contains("wsgateway_") {
        return Err(TemplateError::new(None, "names that begin with \"wsgateway_\" are taken"));
    }
    let mut reader = Reader { source, out: String::with_capacity(source.len() + 64), ..Reader::default() };
    for item in tokenize(source, false, SyntaxConfig::default()) {
        let (token, span) = item.map_err(|err| TemplateError::from_engine(&err))?;
        reader.token(&token, span)?;
    }
    reader.out.push_str(&source[reader.copied..]);
    Ok(reader.out)
}

/// Whether the text so far ends inside a JSON string, and whether behind a backslash there.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Quoting {
    inside: bool,
    escaped: bool,
}

/// A block that is open.
struct Block {
    is_loop: bool,
    line: usize,
    start: Quoting,
    /// How its branches so far ended.
    ends: Vec<Quoting>,
    has_else: bool,
}

#[derive(Default)]
struct Reader<'s> {
    source: &'s str,
    out: String,
    /// Up to here the source is in `out`.
    copied: usize,
    quoting: Quoting,
    open: Vec<Block>,
    tokens_in_tag: usize,
    brackets: usize,
    at_block_start: bool,
    empty_tag: bool,
}

impl Reader<'_> {
    fn token(&mut self, token: &Token<'_>, span: Span) -> Result<(), TemplateError> {
        let line = usize::from(span.start_line);
        match token {
            Token::TemplateData(text) => self.data(text),
            Token::VariableStart => {
                self.begin();
                self.empty_tag = true;
                self.insert(span.end_offset as usize, "(");
            }
            Token::VariableEnd => {
                if self.empty_tag {
                    return Err(TemplateError::new(Some(line), "{{ }} needs an expression"));
                }
                let filter = if self.quoting.inside { PRINT_TEXT } else { PRINT_JSON };
                self.insert(span.start_offset as usize, &format!(")|{filter} "));
            }
            Token::BlockStart => {
                self.begin();
                self.at_block_start = true;
            }
            Token::BlockEnd => {}
            other => {
                self.empty_tag = false;
                self.inside_tag(other, line)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self) {
        self.tokens_in_tag = 0;
        self.brackets = 0;
    }

    fn insert(&mut self, at: usize, text: &str) {
        self.out.push_str(&self.source[self.copied..at]);
        self.out.push_str(text);
        self.copied = at;
    }

    fn data(&mut self, text: &str) {
        let Quoting { mut inside, mut escaped } = self.quoting;
        for byte in text.bytes() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if inside => escaped = true,
                b'"' => inside = !inside,
                _ => {}
            }
        }
        self.quoting = Quoting { inside, escaped };
    }

    fn inside_tag(&mut self, token: &Token<'_>, line: usize) -> Result<(), TemplateError> {
        self.tokens_in_tag += 1;
        match token {
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => self.brackets += 1,
            Token::ParenClose | Token::BracketClose | Token::BraceClose => {
                self.brackets = self.brackets.saturating_sub(1);
            }
            _ => {}
        }
        if self.tokens_in_tag > limits::TEMPLATE_TAG_TOKENS_MAX {
            let max = limits::TEMPLATE_TAG_TOKENS_MAX;
            return Err(TemplateError::new(Some(line), format!("an expression has at most {max} words and signs")));
        }
        if self.brackets > limits::TEMPLATE_BRACKETS_MAX {
            let max = limits::TEMPLATE_BRACKETS_MAX;
            return Err(TemplateError::new(Some(line), format!("brackets nest at most {max} deep")));
        }
        if std::mem::take(&mut self.at_block_start) {
            if let Token::Ident(name) = token {
                return self.block(name, line);
            }
        }
        Ok(())
    }

    /// What the parser will refuse anyway – an end without a beginning – is left to it.
    fn block(&mut self, name: &str, line: usize) -> Result<(), TemplateError> {
        match name {
            "if" | "for" => {
                let block =
                    Block { is_loop: name == "for", line, start: self.quoting, ends: Vec::new(), has_else: false };
                self.open.push(block);
                if self.open.len() > limits::TEMPLATE_BLOCKS_MAX {
                    let max = limits::TEMPLATE_BLOCKS_MAX;
                    return Err(TemplateError::new(Some(line), format!("blocks nest at most {max} deep")));
                }
            }
            "elif" | "else" => {
                if let Some(block) = self.open.last_mut() {
                    block.ends.push(self.quoting);
                    block.has_else |= name == "else";
                    self.quoting = block.start;
                }
            }
            "endif" | "endfor" => {
                let Some(mut block) = self.open.pop() else { return Ok(()) };
                block.ends.push(self.quoting);
                // A loop may run any number of times, an if without else may not run.
                if block.is_loop || !block.has_else {
                    block.ends.push(block.start);
                }
                if block.ends.iter().any(|end| *end != self.quoting) {
                    let message = "a JSON string must begin and end in the same branch of {% if %} and in the same turn of {% for %}";
                    return Err(TemplateError::new(Some(block.line), message));
                }
            }
            "set" | "with" | "endwith" => {}
            other => {
                let message = format!("{{% {other} %}} is not available here; if, for, set and with are");
                return Err(TemplateError::new(Some(line), message));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(source: &str) -> String {
        prepare(source).unwrap().replace("wsgateway_", "")
    }

    #[test]
    fn expressions_are_printed_where_they_stand() {
        assert_eq!(
            printed(r#"{"a": {{ x }}, "b": "<{{- y -}}> \" {{z}}"}"#),
            r#"{"a": {{( x )|json }}, "b": "<{{-( y )|text -}}> \" {{(z)|text }}"}"#
        );
        assert_eq!(
            printed("{% if a %}\"{{x}}\"{% else %}{{x}}{% endif %}"),
            "{% if a %}\"{{(x)|text }}\"{% else %}{{(x)|json }}{% endif %}"
        );
        assert_eq!(printed("{# \" #}{{ '\"' }}"), "{# \" #}{{( '\"' )|json }}");
        assert_eq!(
            printed("{% raw %}\"{{ x }}{% endraw %}{{ y }}\""),
            "{% raw %}\"{{ x }}{% endraw %}{{( y )|text }}\""
        );
    }

    #[test]
    fn a_string_does_not_cross_a_branch() {
        for bad in ["{% if a %}\"{% endif %}x", "{% for a in b %}\"{% endfor %}", "{% if a %}\"{% else %}{% endif %}"] {
            assert!(prepare(bad).unwrap_err().message.contains("same branch"), "{bad}");
        }
        prepare("{% if a %}\"x{% else %}\"y{% endif %}\"").unwrap();
        prepare("\"{% for a in b %}{{ a }},{% endfor %}\"").unwrap();
    }

    #[test]
    fn the_limits_are_static() {
        let nested = format!("{}{}", "{% if a %}".repeat(40), "{% endif %}".repeat(40));
        let long = "x".repeat(limits::TEMPLATE_BYTES_MAX + 1);
        for (source, part, line) in [
            (long.as_str(), "at most 32768 bytes", None),
            (&nested, "blocks nest", Some(1)),
            (&format!("\n{{{{ {} }}}}", "(".repeat(100)), "brackets nest", Some(2)),
            (&format!("{{{{ {}1 }}}}", "not ".repeat(600)), "words and signs", Some(1)),
            ("\n\n{{ }}", "needs an expression", Some(3)),
            ("{% include 'x' %}", "not available", Some(1)),
            ("{{ x", "", Some(1)),
        ] {
            let outcome = prepare(source);
            if part.is_empty() {
                continue; // the parser's to say
            }
            let error = outcome.unwrap_err();
            assert!(error.message.contains(part) && error.line == line, "{error:?}");
        }
    }
}
