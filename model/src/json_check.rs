//! Is this a JSON text? Answered without building a tree. Called by inbound; imports nothing of the crate.

use serde::de::IgnoredAny;

use super::limits::JSON_DEPTH_MAX;

/// Why bytes are no JSON text (RFC 8259).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct JsonFault {
    /// Byte offset, where it is known.
    pub offset: Option<usize>,
    /// For the client, in one line.
    pub message: String,
}

/// Checks that `bytes` are one JSON value in UTF-8, nested at most [`JSON_DEPTH_MAX`] deep.
///
/// Two texts pass that serde_json's tree refuses, as the grammar allows them: a number beyond f64, and a lone surrogate escape.
pub fn validate_json(bytes: &[u8]) -> Result<(), JsonFault> {
    let text = utf8(bytes)?;
    if text.starts_with('\u{feff}') {
        return Err(JsonFault { offset: Some(0), message: "a JSON text starts without a byte order mark".to_owned() });
    }
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => check_depth(text),
        Err(error) => {
            let offset = offset_of(text, error.line(), error.column());
            Err(JsonFault { offset: Some(offset), message: error.to_string() })
        }
    }
}

/// The bytes as text.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, JsonFault> {
    simdutf8::compat::from_utf8(bytes)
        .map_err(|error| JsonFault { offset: Some(error.valid_up_to()), message: "the text is not UTF-8".to_owned() })
}

/// `IgnoredAny` walks without recursion and so without serde_json's depth limit: it is restated here, so that a text that
/// passes can also be read into a tree.
pub(super) fn check_depth(text: &str) -> Result<(), JsonFault> {
    let bytes = text.as_bytes();
    // Most texts hold too few brackets to be too deep, and counting them is one vectorised pass.
    if bytes.iter().filter(|b| matches!(b, b'[' | b'{')).count() <= JSON_DEPTH_MAX {
        return Ok(());
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (offset, byte) in bytes.iter().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            _ => {}
        }
        if depth > JSON_DEPTH_MAX {
            let message = format!("nested deeper than {JSON_DEPTH_MAX} levels");
            return Err(JsonFault { offset: Some(offset), message });
        }
    }
    Ok(())
}

/// serde_json counts lines and columns from 1 (column 0: right after a line break), in bytes.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let start = match line {
        0 | 1 => 0,
        _ => text.bytes().enumerate().filter(|(_, b)| *b == b'\n').nth(line - 2).map_or(0, |(at, _)| at + 1),
    };
    (start + column.saturating_sub(1)).min(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_any_json_text() {
        for good in
            ["1", "\"a\"", " null ", "[]", "{\"a\":[1,2,{\"b\":null}]}", "-0.1e5", "\t\r\n[ ]\n", "\"\\ud83d\\ude00\""]
        {
            assert_eq!(validate_json(good.as_bytes()), Ok(()), "{good}");
        }
        let brackets_in_text = format!("\"\\\"{}\"", "[".repeat(500));
        assert_eq!(validate_json(brackets_in_text.as_bytes()), Ok(()));
        let flat = format!("[{}[]]", "[],".repeat(500));
        assert_eq!(validate_json(flat.as_bytes()), Ok(()));
    }

    #[test]
    fn refuses_what_is_none() {
        for bad in [
            "",
            " ",
            "{",
            "[1,]",
            "{a:1}",
            "{\"a\":1,}",
            "nul",
            "01",
            "1 2",
            "'a'",
            "\"\n\"",
            "// c\n1",
            "NaN",
            "+1",
            ".5",
        ] {
            assert!(validate_json(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(validate_json(b"\"\xff\"").unwrap_err().offset, Some(1));
        assert_eq!(validate_json(b"\xef\xbb\xbf1").unwrap_err().offset, Some(0));
        assert_eq!(validate_json(b"[1,\n x]").unwrap_err().offset, Some(5));
    }

    #[test]
    fn depth_limit_is_that_of_the_tree_parser() {
        for depth in [JSON_DEPTH_MAX, JSON_DEPTH_MAX + 1] {
            let text = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            assert_eq!(
                validate_json(text.as_bytes()).is_ok(),
                serde_json::from_str::<serde_json::Value>(&text).is_ok(),
                "{depth}"
            );
        }
        let bomb = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(validate_json(bomb.as_bytes()).is_err());
        assert!(validate_json("[".repeat(1_000_000).as_bytes()).is_err());
    }
}
