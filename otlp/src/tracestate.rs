//! What vendors add to a trace context (`tracestate`): carried on as it came, never looked into. Called by context.

use std::fmt;
use std::sync::Arc;

/// As much as the recommendation wants to be carried on at least; what is above goes, entry by entry.
pub const TRACESTATE_BYTES_MAX: usize = 512;
/// Entries longer than this go first (section 3.3.1.5).
const LONG_ENTRY_BYTES: usize = 128;
/// Section 3.3.1.1.
const ENTRIES_MAX: usize = 32;

/// A list of entries `key=value`, at most 512 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct TraceState(Arc<str>);

impl TraceState {
    /// Reads the headers of one request as one list. None: there is nothing, or something that is no such list, which
    /// costs the trace nothing but this.
    pub fn parse<'v>(values: impl IntoIterator<Item = &'v [u8]>) -> Option<TraceState> {
        let mut entries = Vec::new();
        for value in values {
            let text = std::str::from_utf8(value).ok()?;
            for entry in text.split(',').map(|entry| entry.trim_matches([' ', '\t'])).filter(|entry| !entry.is_empty())
            {
                if entries.len() == ENTRIES_MAX || !is_entry(entry) {
                    return None;
                }
                entries.push(entry);
            }
        }
        shorten(&mut entries);
        (!entries.is_empty()).then(|| TraceState(entries.join(",").into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TraceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

fn is_entry(entry: &str) -> bool {
    let Some((key, value)) = entry.split_once('=') else { return false };
    let begins = key.bytes().next().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit());
    let of_key = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(&byte);
    let of_value = |byte: u8| matches!(byte, 0x20..=0x7e) && byte != b'=';
    begins && key.len() <= 256 && key.bytes().all(of_key) && value.len() <= 256 && value.bytes().all(of_value)
}

/// Removes whole entries until the rest fits: the long ones first, from the end, where the oldest stand.
fn shorten(entries: &mut Vec<&str>) {
    let total = |entries: &[&str]| entries.iter().map(|entry| entry.len() + 1).sum::<usize>().saturating_sub(1);
    while total(entries) > TRACESTATE_BYTES_MAX {
        let long = entries.iter().rposition(|entry| entry.len() > LONG_ENTRY_BYTES);
        entries.remove(long.unwrap_or(entries.len() - 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(values: &[&str]) -> Option<String> {
        TraceState::parse(values.iter().map(|value| value.as_bytes())).map(|state| state.as_str().to_owned())
    }

    #[test]
    fn lists_are_carried_on() {
        for (values, is) in [
            (&["rojo=00f067aa0ba902b7"][..], "rojo=00f067aa0ba902b7"),
            (&["rojo=00f067aa0ba902b7, congo=t61rcWkgMzE"], "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
            (&["rojo=1", "congo=2,,", "\t"], "rojo=1,congo=2"),
            (&["fw529a3039@dt=FfD;x:/1 2"], "fw529a3039@dt=FfD;x:/1 2"),
        ] {
            assert_eq!(parse(values).as_deref(), Some(is));
        }
    }

    #[test]
    fn what_is_no_list_is_nothing() {
        let long = format!("a={}", "x".repeat(257));
        let many = vec!["a=1"; 33].join(",");
        for value in ["", " , ", "rojo", "=1", "Rojo=1", "a=b=c", "a=é", "a=1,b", "a b=1", &long, &many] {
            assert_eq!(parse(&[value]), None, "{value}");
        }
        assert_eq!(TraceState::parse([&b"a=\xff"[..]]), None);
    }

    #[test]
    fn what_is_too_long_loses_long_entries_then_the_oldest() {
        let long = format!("long={}", "x".repeat(200));
        let short: Vec<String> = (0..20).map(|at| format!("k{at:02}={}", "y".repeat(30))).collect();
        let state = parse(&[&format!("{},{long},{}", short[..3].join(","), short[3..].join(","))]).unwrap();
        assert!(state.len() <= TRACESTATE_BYTES_MAX, "{}", state.len());
        assert!(!state.contains("long"), "{state}");
        assert_eq!(state, short[..14].join(","));
    }
}
