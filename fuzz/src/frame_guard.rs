//! The guard over a client's frame headers, against a second reading of RFC 6455 that has the whole stream before it. The
//! input is the message limit (two bytes), the size of the pieces that arrive (one), the window (one), and the stream.
//! Shared by the fuzz target and `tests/fuzz_corpus.rs`.

#[path = "../../src/connections/frame_guard.rs"]
#[allow(dead_code)]
mod guard;

use guard::{FrameGuard, Room, Violation, FRAGMENTS_PER_MESSAGE_MAX, FRAGMENT_BYTES_MIN};

/// Control frames that may come in all.
const CONTROLS_MAX: u32 = 40;

pub fn check(data: &[u8]) {
    let [high, low, piece, window, stream @ ..] = data else { return };
    let limit = usize::from(u16::from_be_bytes([*high, *low]));
    let expected = reference(stream, limit as u64);
    let piece = usize::from(*piece).max(1);
    assert_eq!(in_pieces(stream, limit, piece, u32::from(*window).max(1)), expected, "in pieces of {piece}");
    assert_eq!(in_pieces(stream, limit, stream.len().max(1), u32::MAX), expected, "at once");
}

/// Messages that end before the stream does or is refused, and why it is refused.
type Verdict = (u32, Option<Violation>);

fn in_pieces(stream: &[u8], limit: usize, piece: usize, window: u32) -> Verdict {
    let mut guard = FrameGuard::new(limit);
    let (mut messages, mut controls) = (0, 0);
    for mut bytes in stream.chunks(piece) {
        while !bytes.is_empty() {
            let room = Room { messages: window, controls: CONTROLS_MAX - controls };
            let scan = guard.scan(bytes, room);
            assert!(scan.controls <= room.controls, "{scan:?} beyond {room:?}");
            controls += scan.controls;
            assert!(scan.messages <= window, "{scan:?} beyond a window of {window}");
            messages += scan.messages;
            if scan.violation.is_some() {
                return (messages, scan.violation);
            }
            assert!(scan.pass > 0 && scan.pass <= bytes.len(), "{scan:?} of {}", bytes.len());
            assert!(scan.pass == bytes.len() || scan.messages == window, "{scan:?} stopped without a reason");
            bytes = &bytes[scan.pass..];
        }
    }
    (messages, None)
}

fn reference(mut stream: &[u8], limit: u64) -> Verdict {
    let (mut messages, mut size, mut fragments) = (0, 0_u64, 0_u32);
    let mut controls = 0;
    loop {
        let [first, second, rest @ ..] = stream else { return (messages, None) };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let (length, extended) = match (second & 0x7f, rest) {
            (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 2),
            (127, [a, b, c, d, e, f, g, h, ..]) => (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 8),
            (126 | 127, _) => return (messages, None),
            (short, _) => (u64::from(short), 0),
        };
        let Some(payload) = rest.get(extended + mask..) else { return (messages, None) };
        let is_control = first & 0x08 != 0;
        if is_control && length > 125 {
            return (messages, Some(Violation::LongControlFrame));
        }
        controls += u32::from(is_control);
        if controls > CONTROLS_MAX {
            return (messages, Some(Violation::TooManyControlFrames));
        }
        if !is_control {
            let begins = first & 0x0f != 0;
            (size, fragments) = if begins { (0, 0) } else { (size, fragments) };
            size = size.saturating_add(length);
            fragments += 1;
            if size > limit {
                return (messages, Some(Violation::TooBig));
            }
            if fragments > FRAGMENTS_PER_MESSAGE_MAX && size < u64::from(fragments) * FRAGMENT_BYTES_MIN {
                return (messages, Some(Violation::TooManyFragments));
            }
        }
        if (payload.len() as u64) < length {
            return (messages, None);
        }
        messages += u32::from(!is_control && first & 0x80 != 0);
        stream = &payload[length as usize..];
    }
}
