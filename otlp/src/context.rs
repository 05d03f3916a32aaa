//! Where an event stands in its trace, as the W3C recommendation "Trace Context" (level 2) has it: ids that are never zero,
//! and the header `traceparent` read and written. Plain values; imports nothing but its neighbour `tracestate`.

use std::fmt;
use std::num::{NonZeroU128, NonZeroU64};

use crate::tracestate::TraceState;

/// Bytes of a `traceparent` of version 00: version, trace id, parent id and flags in hexadecimal, and dashes.
pub const TRACEPARENT_BYTES: usize = 55;

pub(crate) const SAMPLED: u8 = 0x01;
/// Level 2: the last seven bytes of the trace id are random.
const RANDOM: u8 = 0x02;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

impl TraceId {
    pub fn random() -> TraceId {
        TraceId(NonZeroU128::new(rand::random()).unwrap_or(NonZeroU128::MIN))
    }

    /// None: zero is no id.
    pub fn new(id: u128) -> Option<TraceId> {
        NonZeroU128::new(id).map(TraceId)
    }

    pub fn get(self) -> u128 {
        self.0.get()
    }

    pub fn to_bytes(self) -> [u8; 16] {
        self.get().to_be_bytes()
    }
}

impl SpanId {
    pub fn random() -> SpanId {
        SpanId(NonZeroU64::new(rand::random()).unwrap_or(NonZeroU64::MIN))
    }

    /// None: zero is no id.
    pub fn new(id: u64) -> Option<SpanId> {
        NonZeroU64::new(id).map(SpanId)
    }

    pub fn get(self) -> u64 {
        self.0.get()
    }

    pub fn to_bytes(self) -> [u8; 8] {
        self.get().to_be_bytes()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One span of a trace, as the next one is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    /// The span is recorded, and those below it should be.
    pub sampled: bool,
    /// Whoever made the trace id says that its last seven bytes are random.
    pub random: bool,
    pub tracestate: Option<TraceState>,
}

impl TraceContext {
    /// The first span of a new trace.
    pub fn root(sampled: bool) -> TraceContext {
        TraceContext { trace_id: TraceId::random(), span_id: SpanId::random(), sampled, random: true, tracestate: None }
    }

    /// A new span below this one, with the same decision.
    pub fn child(&self) -> TraceContext {
        TraceContext { span_id: SpanId::random(), ..self.clone() }
    }

    /// Reads the one `traceparent` of a request; several are none. What is not as the recommendation says is no
    /// context at all: then a new trace begins. Of later versions what version 00 has is read.
    pub fn parse(traceparent: &[u8]) -> Option<TraceContext> {
        let (known, rest) = traceparent.split_at_checked(TRACEPARENT_BYTES)?;
        let dashes = [2, 35, 52].iter().all(|at| known[*at] == b'-');
        let version = hex(&known[..2])?;
        let fits = match version {
            0x00 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest[0] == b'-',
        };
        if !dashes || !fits {
            return None;
        }
        // Two digits fit a byte, and sixteen fit eight of them.
        let flags = hex(&known[53..])? as u8;
        Some(TraceContext {
            trace_id: TraceId::new(hex(&known[3..35])?)?,
            span_id: SpanId::new(hex(&known[36..52])? as u64)?,
            sampled: flags & SAMPLED != 0,
            random: flags & RANDOM != 0,
            tracestate: None,
        })
    }

    /// The same with what the headers `tracestate` of the request say.
    pub fn with_tracestate<'v>(self, values: impl IntoIterator<Item = &'v [u8]>) -> TraceContext {
        TraceContext { tracestate: TraceState::parse(values), ..self }
    }

    pub fn flags(&self) -> u8 {
        (SAMPLED * u8::from(self.sampled)) | (RANDOM * u8::from(self.random))
    }

    /// The header that tells this context, version 00.
    pub fn traceparent(&self) -> [u8; TRACEPARENT_BYTES] {
        let mut out = [b'-'; TRACEPARENT_BYTES];
        write_hex(&[0], &mut out[..2]);
        write_hex(&self.trace_id.to_bytes(), &mut out[3..35]);
        write_hex(&self.span_id.to_bytes(), &mut out[36..52]);
        write_hex(&[self.flags()], &mut out[53..]);
        out
    }
}

/// Up to 32 digits; capital letters are none.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((number << 4) | u128::from(value))
    })
}

fn write_hex(bytes: &[u8], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the recommendation, section 3.2.3.
    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parse(text: &str) -> Option<TraceContext> {
        TraceContext::parse(text.as_bytes())
    }

    #[test]
    fn the_examples_of_the_recommendation() {
        let context = parse(EXAMPLE).unwrap();
        assert_eq!(context.trace_id.get(), 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!(context.span_id.get(), 0x00f0_67aa_0ba9_02b7);
        assert!(context.sampled && !context.random);
        assert_eq!(context.traceparent(), EXAMPLE.as_bytes());
        let not_sampled = parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00").unwrap();
        assert!(!not_sampled.sampled);
        assert_eq!(context.trace_id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.span_id.to_string(), "00f067aa0ba902b7");
    }

    #[test]
    fn flags_that_are_known_are_kept_and_others_are_not() {
        for (flags, sampled, random, written) in
            [("02", false, true, "02"), ("03", true, true, "03"), ("ff", true, true, "03"), ("fc", false, false, "00")]
        {
            let context = parse(&format!("{}{flags}", &EXAMPLE[..53])).unwrap();
            assert_eq!((context.sampled, context.random), (sampled, random), "{flags}");
            assert_eq!(&context.traceparent()[53..], written.as_bytes());
            assert_eq!(context.child().flags(), context.flags());
        }
    }

    #[test]
    fn later_versions_are_read_as_far_as_they_are_known() {
        for text in [
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-will-be-like",
            "fe-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
        ] {
            assert_eq!(parse(text), parse(EXAMPLE), "{text}");
        }
    }

    #[test]
    fn what_is_no_context() {
        for text in [
            "",
            "00",
            // Zero ids, version ff.
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            // More than version 00 has, and a later one that goes on without a dash.
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.x",
            // Capital letters, other letters, other lengths, other separators, blanks.
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00F067AA0BA902B7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0A",
            "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47361-00f067aa0ba902b7-0",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-é",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn whatever_bytes_come_what_is_read_can_be_written() {
        let mut read = 0;
        for round in 0..20_000_usize {
            let mut bytes = EXAMPLE.as_bytes().to_vec();
            for _ in 0..round % 4 {
                let at = rand::random_range(0..bytes.len());
                bytes[at] =
                    if round % 2 == 0 { rand::random() } else { b"0123456789abcdefF-"[rand::random_range(0..18)] };
            }
            bytes.truncate(rand::random_range(40..200));
            if let Some(context) = TraceContext::parse(&bytes) {
                assert_eq!(TraceContext::parse(&context.traceparent()), Some(context));
                read += 1;
            }
        }
        assert!(read > 1_000, "{read}");
    }

    #[test]
    fn what_is_written_is_read() {
        for _ in 0..1_000 {
            let root = TraceContext::root(rand::random());
            assert_eq!(TraceContext::parse(&root.traceparent()), Some(root.clone()));
            let child = root.child();
            assert_eq!((child.trace_id, child.sampled), (root.trace_id, root.sampled));
            assert_ne!(child.span_id, root.span_id);
        }
    }
}
