//! An endpoint file as someone wrote it, in JSON or YAML: read into the JSON text that is stored, with the line and
//! column of every value, so that what is wrong with a document can be shown where it stands in the file.
//!
//! A JSON file keeps its bytes. The file's `tests` (see cli/check) are no part of the document and are cut out. Called
//! by the command line and, for YAML bodies, by the admin surface; imports findings, yaml and model.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use wsgateway_model::{json_check, limits};

use super::findings::{member, Finding};
use super::yaml;

/// A file may be larger than the document in it: it may have tests, and comments.
pub const SOURCE_BYTES_MAX: usize = 4 * limits::DOCUMENT_BYTES_MAX;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 8259.
    Json,
    /// YAML 1.2, core schema; of which JSON is a part.
    Yaml,
}

/// A place in a text; both count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// Why a text could not be read at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFault {
    /// Where.
    pub place: Place,
    /// What, in the words of all findings.
    pub finding: Finding,
}

impl SourceFault {
    pub(super) fn new(place: Place, path: &str, message: impl Into<String>) -> SourceFault {
        SourceFault { place, finding: Finding { path: path.to_owned(), message: message.into() } }
    }
}

/// The places of a text's values, by path (`routes[3].expression.or[0]`).
#[derive(Debug, Default)]
pub(super) struct Places {
    by_path: HashMap<String, Place>,
    texts: HashMap<String, usize>,
    bytes: usize,
}

/// Long names in each other would make the paths far larger than the text: values beyond have their parent's place.
const PATH_BYTES_MAX: usize = 2048;
const PLACES_BYTES_MAX: usize = 16 * 1024 * 1024;

impl Places {
    pub(super) fn add(&mut self, path: &str, place: Place) {
        if self.bytes < PLACES_BYTES_MAX {
            self.bytes += path.len();
            self.by_path.entry(path.to_owned()).or_insert(place);
        }
    }

    /// The value at a path is a text of several lines, of which the first stands in this line.
    pub(super) fn add_text(&mut self, path: &str, line: usize) {
        self.texts.insert(path.to_owned(), line);
    }
}

/// The path of a member or item, as long as it is of a length that is shown.
pub(super) fn inside(path: &str, name: Option<&str>, index: usize) -> String {
    match name {
        _ if path.len() + name.map_or(0, str::len) > PATH_BYTES_MAX => path.to_owned(),
        Some(name) => member(path, name),
        None => format!("{path}[{index}]"),
    }
}

/// What a reader of one format makes.
pub(super) struct Read {
    pub(super) json: String,
    pub(super) places: Places,
    /// The bytes of the member `tests` in `json`: from its name to the end of its value.
    pub(super) tests: Option<Member>,
}

/// Where a member of an object stands.
pub(super) struct Member {
    pub(super) whole: Range<usize>,
    pub(super) value: Range<usize>,
}

/// A file that was read.
#[derive(Debug)]
pub struct SourceText {
    /// The endpoint document.
    pub json: String,
    /// The value of the file's `tests`, as JSON.
    pub tests: Option<String>,
    places: Places,
}

impl SourceText {
    /// Reads a text.
    pub fn read(text: &str, format: Format) -> Result<SourceText, SourceFault> {
        if text.len() > SOURCE_BYTES_MAX {
            let message = format!("the file must have at most {SOURCE_BYTES_MAX} bytes, has {}", text.len());
            return Err(SourceFault::new(Place { line: 1, column: 1 }, "", message));
        }
        let read = match format {
            Format::Json => read_json(text)?,
            Format::Yaml => yaml::read(text)?,
        };
        let Some(member) = read.tests else {
            return Ok(SourceText { json: read.json, tests: None, places: read.places });
        };
        let tests = read.json[member.value.clone()].to_owned();
        Ok(SourceText { json: without(&read.json, member.whole), tests: Some(tests), places: read.places })
    }

    #[cfg(test)]
    pub(super) fn places_bytes(&self) -> usize {
        self.places.bytes
    }

    /// Where the given line (from 1) of the text at a path stands; None: the text does not stand line by line.
    pub fn line_of_text(&self, path: &str, line: usize) -> Option<Place> {
        let first = self.places.texts.get(path)?;
        Some(Place { line: first + line - 1, column: 1 })
    }

    /// Where the value at a path stands; for what is missing, the place of what it is missing from.
    pub fn place(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            if let Some(place) = self.places.by_path.get(path) {
                return *place;
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = &path[..cut],
                None => return Place { line: 1, column: 1 },
            }
        }
    }
}

/// An object's text without one of its members and that member's comma.
fn without(json: &str, member: Range<usize>) -> String {
    let (before, after) = (&json[..member.start], &json[member.end..]);
    match (after.trim_start().strip_prefix(','), before.trim_end().strip_suffix(',')) {
        (Some(after), _) => format!("{before}{after}"),
        (None, Some(before)) => format!("{before}{after}"),
        (None, None) => format!("{before}{after}"),
    }
}

fn read_json(text: &str) -> Result<Read, SourceFault> {
    if let Err(fault) = json_check::validate_json(text.as_bytes()) {
        let before = &text[..floor(text, fault.offset.unwrap_or(0))];
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let place = Place { line: before.matches('\n').count() + 1, column };
        // The place is said once, and as one of the file.
        let message = fault.message.split(" at line ").next().unwrap_or_default().to_owned();
        return Err(SourceFault::new(place, "", format!("the document is not JSON: {message}")));
    }
    let mut walker =
        Walker { text, at: 0, place: Place { line: 1, column: 1 }, places: Places::default(), tests: None };
    walker.value("")?;
    Ok(Read { json: text.to_owned(), places: walker.places, tests: walker.tests })
}

fn floor(text: &str, mut offset: usize) -> usize {
    offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// Walks over a text that is JSON.
struct Walker<'t> {
    text: &'t str,
    at: usize,
    place: Place,
    places: Places,
    tests: Option<Member>,
}

impl Walker<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn step(&mut self) {
        match self.peek() {
            Some(b'\n') => self.place = Place { line: self.place.line + 1, column: 1 },
            // The first byte of a character counts for all of it.
            Some(byte) if byte & 0b1100_0000 != 0b1000_0000 => self.place.column += 1,
            _ => {}
        }
        self.at += 1;
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.step();
        }
    }

    /// Recursion: bounded by the depth that `validate_json` allows.
    fn value(&mut self, path: &str) -> Result<(), SourceFault> {
        self.skip_blanks();
        match self.peek() {
            Some(b'{') => self.members(path),
            Some(b'[') => self.items(path),
            Some(b'"') => {
                self.string();
                Ok(())
            }
            _ => {
                while !matches!(self.peek(), None | Some(b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r')) {
                    self.step();
                }
                Ok(())
            }
        }
    }

    fn string(&mut self) -> Range<usize> {
        let start = self.at;
        self.step();
        while let Some(byte) = self.peek() {
            if byte == b'\\' {
                self.step();
            }
            self.step();
            if byte == b'"' {
                break;
            }
        }
        start..self.at
    }

    fn members(&mut self, path: &str) -> Result<(), SourceFault> {
        self.step();
        let mut names = HashSet::new();
        loop {
            self.skip_blanks();
            match self.peek() {
                Some(b'"') => {}
                Some(b',') => {
                    self.step();
                    continue;
                }
                _ => break,
            }
            let place = self.place;
            let range = self.string();
            // A lone surrogate escape is legal JSON that no text can hold; it names no field that is known.
            let name = serde_json::from_str::<String>(&self.text[range.clone()]).unwrap_or_default();
            let inner = inside(path, Some(&name), 0);
            self.places.add(&inner, place);
            if !names.insert(name.clone()) {
                return Err(SourceFault::new(place, &inner, "is given twice"));
            }
            self.skip_blanks();
            self.step(); // the colon
            self.skip_blanks();
            let start = self.at;
            self.value(&inner)?;
            if path.is_empty() && name == "tests" {
                self.tests = Some(Member { whole: range.start..self.at, value: start..self.at });
            }
        }
        self.step();
        Ok(())
    }

    fn items(&mut self, path: &str) -> Result<(), SourceFault> {
        self.step();
        let mut index = 0;
        loop {
            self.skip_blanks();
            match self.peek() {
                None | Some(b']') => break,
                Some(b',') => {
                    self.step();
                    index += 1;
                    continue;
                }
                _ => {}
            }
            let inner = inside(path, None, index);
            self.places.add(&inner, self.place);
            self.value(&inner)?;
        }
        self.step();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: usize, column: usize) -> Place {
        Place { line, column }
    }

    #[test]
    fn json_keeps_its_bytes_and_knows_its_places() {
        let text = "{ \"path\":\"/a\",\n  \"é\\\"\": {\"x\": 1.50},\n  \"routes\" : [ {\"name\": \"ö\", \"key\": null},\n 7 ] }";
        let read = SourceText::read(text, Format::Json).unwrap();
        assert_eq!((read.json.as_str(), read.tests.as_deref()), (text, None));
        for (path, place) in [
            ("path", at(1, 3)),
            ("[\"é\\\"\"].x", at(2, 11)),
            ("routes", at(3, 3)),
            ("routes[0]", at(3, 16)),
            ("routes[0].key", at(3, 30)),
            ("routes[0].expression.or[3]", at(3, 16)),
            ("routes[1]", at(4, 2)),
            ("nothing", at(1, 1)),
            ("", at(1, 1)),
        ] {
            assert_eq!(read.place(path), place, "{path}");
        }
    }

    #[test]
    fn json_that_is_none_names_the_place() {
        let fault = SourceText::read("{\"a\": 1,\n \"é\": nul}", Format::Json).unwrap_err();
        assert_eq!(fault.place.line, 2);
        assert!(fault.finding.message.contains("not JSON") && !fault.finding.message.contains("at line"), "{fault:?}");
        let twice = SourceText::read("{\"a\": {\"b\": 1,\n \"b\": 2}}", Format::Json).unwrap_err();
        assert_eq!((twice.place, twice.finding.path.as_str()), (at(2, 2), "a.b"));
    }

    #[test]
    fn tests_are_cut_out_wherever_they_stand() {
        for (text, rest) in [
            (r#"{"path": "/a", "tests": [{"a": "}"}]}"#, r#"{"path": "/a"}"#),
            (r#"{"tests": [1], "path": "/a"}"#, r#"{ "path": "/a"}"#),
            (r#"{"tests": [1] }"#, "{ }"),
            (r#"{"a": {"tests": 1}, "tests": [1] , "b": 2}"#, r#"{"a": {"tests": 1},  "b": 2}"#),
        ] {
            let read = SourceText::read(text, Format::Json).unwrap();
            assert_eq!(read.json, rest);
            assert!(read.tests.unwrap().starts_with('['), "{text}");
        }
    }
}
