//! Is the message JSON, and does anyone need to look inside? Without custom routes no tree is built, only checked, and
//! otherwise only of what they look at.

use std::sync::Arc;

use serde_json::Value;

use crate::json_check::{validate_json, JsonFault};
use crate::projection::{Projection, ReadPart};

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

/// Checks a message, and reads what is looked at.
pub fn decode(data: &[u8], looked_at: Option<&Projection>) -> Result<Decoded, JsonFault> {
    let Some(projection) = looked_at else { return validate_json(data).map(|()| Decoded::Checked) };
    Ok(match projection.read(data)? {
        ReadPart::Read(tree) => Decoded::Tree(Arc::new(tree)),
        // A number beyond a double's range, say: that is legal, but no expression can be true of it.
        ReadPart::NoTree => Decoded::Checked,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_a_tree_only_when_asked() {
        let (whole, nothing) = (Projection::whole(), Projection::default());
        assert_eq!(decode(b"{\"a\":1}", None), Ok(Decoded::Checked));
        assert_eq!(decode(b"[1]", Some(&whole)), Ok(Decoded::Tree(Arc::new(serde_json::json!([1])))));
        assert_eq!(decode(b"{\"a\":1}", Some(&nothing)), Ok(Decoded::Tree(Arc::new(serde_json::json!({})))));
        for looked_at in [None, Some(&whole)] {
            assert_eq!(decode(b"1e999", looked_at), Ok(Decoded::Checked), "legal JSON, no double");
        }
        for looked_at in [None, Some(&whole), Some(&nothing)] {
            for bad in [&b"{\"a\":}"[..], b"", b"{} x", b"nul", b"\"\\x\""] {
                assert!(decode(bad, looked_at).is_err(), "{bad:?}");
            }
        }
    }
}
