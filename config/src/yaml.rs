//! YAML 1.2 (core schema) as JSON text, event by event: no tree, bounded depth, and aliases written out within a bound,
//! so that no small file becomes a large document. What JSON cannot say, or what is mostly a slip, is refused with its
//! place: keys given twice, tags, keys that are no scalars, infinities, several documents. Numbers keep their digits.
//!
//! Called by source_text; imports it, findings and model.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use wsgateway_model::limits;

use super::source_text::{inside, Member, Place, Places, Read, SourceFault, SOURCE_BYTES_MAX};

/// Reads one YAML document.
pub(super) fn read(text: &str) -> Result<Read, SourceFault> {
    // A byte order mark is legal before YAML, and no part of it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        out: String::with_capacity(text.len()),
        places: Places::default(),
        anchors: HashMap::new(),
        tests: None,
        depth: 0,
    };
    let mut read = false;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamStart | Event::DocumentEnd => {}
            Event::StreamEnd if read => break,
            Event::StreamEnd => return Err(SourceFault::new(place(&span), "", "the document is empty")),
            Event::DocumentStart(_) if read => {
                let message = "is a second document in the same text; each endpoint has its own file";
                return Err(SourceFault::new(place(&span), "", message));
            }
            Event::DocumentStart(_) => {
                let (event, span) = reader.next()?;
                reader.value(event, &span, "")?;
                read = true;
            }
            _ => return Err(SourceFault::new(place(&span), "", "is no place for a value")),
        }
    }
    Ok(Read { json: reader.out, places: reader.places, tests: reader.tests })
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    out: String,
    places: Places,
    /// What is in `out` for each anchor; none yet while inside it.
    anchors: HashMap<usize, Range<usize>>,
    tests: Option<Member>,
    depth: usize,
}

/// The parser counts columns from 0.
fn place(span: &Span) -> Place {
    Place { line: span.start.line(), column: span.start.col() + 1 }
}

fn refuse_tag(tag: Option<Cow<'_, Tag>>, span: &Span, path: &str) -> Result<(), SourceFault> {
    match tag {
        None => Ok(()),
        Some(tag) => {
            let message =
                format!("has the tag {}{}; tags are not accepted, quote what is a text", tag.handle, tag.suffix);
            Err(SourceFault::new(place(span), path, message))
        }
    }
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), SourceFault> {
        loop {
            match self.parser.next_event() {
                Some(Ok((Event::Nothing, _))) => {}
                Some(Ok(found)) => return Ok(found),
                Some(Err(error)) => {
                    let place = Place { line: error.marker().line(), column: error.marker().col() + 1 };
                    return Err(SourceFault::new(place, "", format!("the document is not YAML: {}", error.info())));
                }
                None => return Ok((Event::StreamEnd, Span::default())),
            }
        }
    }

    /// Writes one value. Recursion: bounded by the depth that JSON texts may have.
    fn value(&mut self, event: Event<'t>, span: &Span, path: &str) -> Result<(), SourceFault> {
        let start = self.out.len();
        let anchor = match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag, span, path)?;
                let json = scalar(&text, style).map_err(|message| SourceFault::new(place(span), path, message))?;
                self.out.push_str(&json);
                anchor
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_tag(tag, span, path)?;
                self.deeper(span, path)?;
                self.items(path)?;
                anchor
            }
            Event::MappingStart(anchor, tag) => {
                refuse_tag(tag, span, path)?;
                self.deeper(span, path)?;
                self.members(path)?;
                anchor
            }
            Event::Alias(anchor) => {
                let Some(known) = self.anchors.get(&anchor).cloned() else {
                    return Err(SourceFault::new(place(span), path, "is an alias inside of what it stands for"));
                };
                self.bounded(known.len(), span, path)?;
                let copy = self.out[known].to_owned();
                self.out.push_str(&copy);
                0
            }
            _ => return Err(SourceFault::new(place(span), path, "needs a value")),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, start..self.out.len());
        }
        self.bounded(0, span, path)
    }

    fn bounded(&self, more: usize, span: &Span, path: &str) -> Result<(), SourceFault> {
        if self.out.len().saturating_add(more) <= SOURCE_BYTES_MAX {
            return Ok(());
        }
        let message = format!("the document has more than {SOURCE_BYTES_MAX} bytes when its aliases are written out");
        Err(SourceFault::new(place(span), path, message))
    }

    fn deeper(&mut self, span: &Span, path: &str) -> Result<(), SourceFault> {
        self.depth += 1;
        if self.depth > limits::JSON_DEPTH_MAX {
            let message = format!("nests deeper than {} levels", limits::JSON_DEPTH_MAX);
            // A path so deep says less than the place does.
            let path = path.get(..80).unwrap_or(path);
            return Err(SourceFault::new(place(span), path, message));
        }
        Ok(())
    }

    fn items(&mut self, path: &str) -> Result<(), SourceFault> {
        self.out.push('[');
        for index in 0.. {
            let (event, span) = self.next()?;
            if event == Event::SequenceEnd {
                break;
            }
            if index > 0 {
                self.out.push_str(", ");
            }
            let inner = inside(path, None, index);
            self.places.add(&inner, place(&span));
            self.value(event, &span, &inner)?;
        }
        self.out.push(']');
        self.depth -= 1;
        Ok(())
    }

    fn members(&mut self, path: &str) -> Result<(), SourceFault> {
        self.out.push('{');
        let mut names = HashSet::new();
        for index in 0.. {
            let (event, span) = self.next()?;
            let name = match event {
                Event::MappingEnd => break,
                Event::Scalar(name, _, _, tag) => {
                    refuse_tag(tag, &span, path)?;
                    name
                }
                _ => return Err(SourceFault::new(place(&span), path, "has a key that is no plain text")),
            };
            if index > 0 {
                self.out.push_str(", ");
            }
            let inner = inside(path, Some(&name), 0);
            self.places.add(&inner, place(&span));
            if !names.insert(name.clone()) {
                return Err(SourceFault::new(place(&span), &inner, "is given twice"));
            }
            let whole = self.out.len();
            self.out.push_str(&quoted(&name));
            self.out.push_str(": ");
            let value = self.out.len();
            let key_line = span.start.line();
            let (event, span) = self.next()?;
            if matches!(event, Event::Scalar(_, ScalarStyle::Literal, ..)) {
                self.places.add_text(&inner, key_line + 1);
            }
            self.value(event, &span, &inner)?;
            if path.is_empty() && name == "tests" {
                self.tests = Some(Member { whole: whole..self.out.len(), value: value..self.out.len() });
            }
        }
        self.out.push('}');
        self.depth -= 1;
        Ok(())
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A scalar by the rules of YAML's core schema, as JSON.
fn scalar(text: &str, style: ScalarStyle) -> Result<String, String> {
    if style != ScalarStyle::Plain {
        return Ok(quoted(text));
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok("null".to_owned()),
        "true" | "True" | "TRUE" => return Ok("true".to_owned()),
        "false" | "False" | "FALSE" => return Ok("false".to_owned()),
        ".nan" | ".NaN" | ".NAN" => return Err("is no number that JSON has".to_owned()),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Err("is no number that JSON has".to_owned());
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        let digits = text.strip_prefix(prefix).filter(|d| !d.is_empty() && d.chars().all(|c| c.is_digit(radix)));
        if let Some(digits) = digits {
            let number = u64::from_str_radix(digits, radix);
            return number.map(|n| n.to_string()).map_err(|_| format!("the number {text} is too large"));
        }
    }
    Ok(decimal(text, unsigned).unwrap_or_else(|| quoted(text)))
}

/// `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`, digit by digit, as JSON writes it.
fn decimal(text: &str, unsigned: &str) -> Option<String> {
    let is_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], &unsigned[at..]),
        None => (unsigned, ""),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_digits = exponent.get(1..).unwrap_or_default();
    let exponent_digits = exponent_digits.strip_prefix(['-', '+']).unwrap_or(exponent_digits);
    let is_number = is_digits(whole)
        && is_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && is_digits(exponent_digits)
        && exponent.is_empty() == exponent_digits.is_empty();
    if !is_number {
        return None;
    }
    let sign = if text.starts_with('-') { "-" } else { "" };
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    };
    let point = if fraction.is_empty() { "" } else { "." };
    Some(format!("{sign}{whole}{point}{fraction}{exponent}"))
}

#[cfg(test)]
#[path = "yaml_tests.rs"]
mod tests;
