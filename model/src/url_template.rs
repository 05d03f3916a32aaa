//! A backend's URL with `{param}` placeholders that the connection's path fills. Called by dispatch (render) and
//! config (parse); imports nothing of the crate.

use std::borrow::Cow;

/// A destination: literal text and placeholders, in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UrlTemplate {
    parts: Vec<UrlPart>,
}

/// One piece of a destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UrlPart {
    /// Sent as it is.
    Literal(String),
    /// The value of a path parameter, percent-encoded; a catch-all's slashes are kept.
    Param {
        /// Name in the endpoint's path.
        name: String,
        /// True for `{*name}` in the endpoint's path.
        catch_all: bool,
    },
}

/// Why a destination could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlTemplateError {
    /// Braces that do not pair up, or an empty name.
    #[error("placeholders are written {{name}}")]
    Syntax,
    /// The connection has no such parameter.
    #[error("the path has no parameter {0:?}")]
    UnknownParam(String),
    /// A client chose values that make `.` or `..` segments: it would leave the part of the service it was given.
    #[error("path parameters may not make '.' or '..' segments")]
    DotSegment,
}

impl UrlTemplate {
    /// Splits `text`. `is_catch_all` says what the endpoint's path declares a name to be; None: not at all.
    pub fn parse(text: &str, is_catch_all: impl Fn(&str) -> Option<bool>) -> Result<Self, UrlTemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (literal, tail) = rest.split_at(open);
            let close = tail.find('}').filter(|close| *close > 1).ok_or(UrlTemplateError::Syntax)?;
            let name = &tail[1..close];
            if name.contains('{') {
                return Err(UrlTemplateError::Syntax);
            }
            let catch_all = is_catch_all(name).ok_or_else(|| UrlTemplateError::UnknownParam(name.to_owned()))?;
            if !literal.is_empty() {
                parts.push(UrlPart::Literal(literal.to_owned()));
            }
            parts.push(UrlPart::Param { name: name.to_owned(), catch_all });
            rest = &tail[close + 1..];
        }
        if !rest.is_empty() || parts.is_empty() {
            parts.push(UrlPart::Literal(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    /// The pieces, in order.
    pub fn parts(&self) -> &[UrlPart] {
        &self.parts
    }

    /// `scheme://host:port`, which placeholders are not part of.
    pub fn origin(&self) -> &str {
        let Some(UrlPart::Literal(text)) = self.parts.first() else { return "" };
        let host = text.find("://").map_or(0, |at| at + 3);
        let end = text[host..].find(['/', '?']).map_or(text.len(), |at| host + at);
        &text[..end]
    }

    /// The whole URL when it has no placeholders: such a backend's request can be made once.
    pub fn as_constant(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [UrlPart::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The URL for one connection, whose parameters `param` looks up (decoded values).
    pub fn render<'p>(&self, param: impl Fn(&str) -> Option<&'p str>) -> Result<Cow<'_, str>, UrlTemplateError> {
        if let Some(text) = self.as_constant() {
            return Ok(Cow::Borrowed(text));
        }
        let mut url = String::with_capacity(128);
        for part in &self.parts {
            match part {
                UrlPart::Literal(text) => url.push_str(text),
                UrlPart::Param { name, catch_all } => {
                    let value = param(name).ok_or_else(|| UrlTemplateError::UnknownParam(name.clone()))?;
                    push_encoded(&mut url, value, *catch_all);
                }
            }
        }
        let path = url.split(['?', '#']).next().unwrap_or_default();
        if path.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(UrlTemplateError::DotSegment);
        }
        Ok(Cow::Owned(url))
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn push_encoded(url: &mut String, value: &str, keep_slashes: bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => url.push(char::from(byte)),
            b'/' if keep_slashes => url.push('/'),
            _ => {
                url.push('%');
                url.push(char::from(HEX[usize::from(byte >> 4)]));
                url.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(name: &str) -> Option<bool> {
        match name {
            "room" => Some(false),
            "rest" => Some(true),
            _ => None,
        }
    }

    #[test]
    fn renders_encoded() {
        let template = UrlTemplate::parse("http://h/a/{room}/b/{rest}?q={room}", declared).unwrap();
        let url = template.render(|name| Some(if name == "room" { "x/ y?é" } else { "1/2" })).unwrap();
        assert_eq!(url, "http://h/a/x%2F%20y%3F%C3%A9/b/1/2?q=x%2F%20y%3F%C3%A9");
        assert_eq!((template.as_constant(), template.origin()), (None, "http://h"));
        assert_eq!(UrlTemplate::parse("https://h:1?q={room}", declared).unwrap().origin(), "https://h:1");
        assert_eq!(UrlTemplate::parse("http://h/a", declared).unwrap().as_constant(), Some("http://h/a"));
    }

    #[test]
    fn refuses_climbing_out() {
        let template = UrlTemplate::parse("http://h/{room}{room}/{rest}", declared).unwrap();
        for (room, rest) in [(".", "a"), ("a", "../b"), ("a", "b/.."), ("a", ".")] {
            let rendered = template.render(|name| Some(if name == "room" { room } else { rest }));
            assert_eq!(rendered, Err(UrlTemplateError::DotSegment), "{room} {rest}");
        }
        let encoded = template.render(|name| Some(if name == "room" { "%2e" } else { "x" }));
        assert_eq!(encoded.unwrap(), "http://h/%252e%252e/x");
    }

    #[test]
    fn refuses_bad_templates() {
        for bad in ["http://h/{", "http://h/}", "http://h/{}", "http://h/{{room}}"] {
            assert_eq!(UrlTemplate::parse(bad, declared), Err(UrlTemplateError::Syntax), "{bad}");
        }
        let unknown = UrlTemplate::parse("http://h/{user}", declared);
        assert_eq!(unknown, Err(UrlTemplateError::UnknownParam("user".into())));
    }
}
