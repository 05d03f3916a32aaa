//! Is the message JSON, and does anyone need to look inside? Without custom routes no tree is built, only checked.

use std::sync::Arc;

use serde_json::Value;

use crate::model::json_check::{validate_json, JsonFault};

/// A message that is JSON.
#[derive(Debug, PartialEq)]
pub enum Decoded {
    /// Nothing looks inside.
    Checked,
    Tree(Arc<Value>),
}

impl Decoded {
    /// What was read, if anything was.
    pub fn tree(&self) -> Option<&Arc<Value>> {
        match self {
            Decoded::Tree(tree) => Some(tree),
            Decoded::Checked => None,
        }
    }
}

/// Checks a message, and reads it when a route needs its content.
pub fn decode(data: &[u8], needs_tree: bool) -> Result<Decoded, JsonFault> {
    if needs_tree {
        if let Ok(tree) = serde_json::from_slice(data) {
            return Ok(Decoded::Tree(Arc::new(tree)));
        }
        // Not JSON, or a number beyond a double's range: that is legal, but no expression can be true of it.
    }
    validate_json(data).map(|()| Decoded::Checked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_a_tree_only_when_asked() {
        assert_eq!(decode(b"{\"a\":1}", false), Ok(Decoded::Checked));
        assert_eq!(decode(b"[1]", true), Ok(Decoded::Tree(Arc::new(serde_json::json!([1])))));
        for needs_tree in [false, true] {
            assert_eq!(decode(b"1e999", needs_tree), Ok(Decoded::Checked), "legal JSON, no double");
            for bad in [&b"{\"a\":}"[..], b"", b"{} x", b"nul", b"\"\\x\""] {
                assert!(decode(bad, needs_tree).is_err(), "{bad:?}");
            }
        }
    }
}
