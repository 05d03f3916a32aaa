//! Times as texts. Pure: the clock is its caller's. Imports nothing of the crate.

use bytes::BytesMut;
use time::format_description::well_known::Rfc3339;
use time::OffsetDateTime;

/// RFC 3339 in UTC with milliseconds.
pub fn rfc3339(unix_millis: u64) -> String {
    let mut out = BytesMut::with_capacity(24);
    write_rfc3339(unix_millis, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// The same, appended.
pub fn write_rfc3339(unix_millis: u64, out: &mut BytesMut) {
    thread_local! {
        /// The text of the second that was written last: formatting a date is dear, and events come in bursts.
        static SECOND: std::cell::RefCell<(u64, [u8; 19])> = const { std::cell::RefCell::new((u64::MAX, [0; 19])) };
    }
    let seconds = unix_millis / 1000;
    SECOND.with_borrow_mut(|(known, text)| {
        if *known != seconds {
            let date = OffsetDateTime::from_unix_timestamp(seconds as i64)
                .ok()
                .and_then(|date| date.format(&Rfc3339).ok())
                .filter(|formatted| formatted.len() >= 19);
            if let Some(date) = date {
                text.copy_from_slice(&date.as_bytes()[..19]);
                *known = seconds;
            }
        }
        out.extend_from_slice(text);
    });
    let millis = (unix_millis % 1000) as u16;
    let digit = |n: u16| b'0' + (n % 10) as u8;
    out.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_kept() {
        for (millis, text) in [(0, "1970-01-01T00:00:00.000Z"), (1_700_000_000_123, "2023-11-14T22:13:20.123Z")] {
            assert_eq!(rfc3339(millis), text);
            assert_eq!(rfc3339(millis), text, "from memory");
        }
    }
}
