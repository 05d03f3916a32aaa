//! Watches frame *headers* as bytes pass from the socket to the codec: refuses an oversized message before its payload
//! is buffered, caps fragments and control frames, and passes no more messages than the in-flight window has room for.
//! Pure: bytes in, verdict out; [`super::socket`] performs it. Everything else that is wrong with a frame is the codec's
//! to find.

/// Fragments of one message, whatever their size (a 128 KiB message in 1 KiB pieces has 128). A message may have more
/// when they carry something: see [`FRAGMENT_BYTES_MIN`].
pub const FRAGMENTS_PER_MESSAGE_MAX: u32 = 1024;

/// Beyond [`FRAGMENTS_PER_MESSAGE_MAX`] the fragments of a message carry at least so much on average: smaller ones cost
/// more in headers than they bring. The Autobahn cases have messages of 4 MiB in pieces of 64 bytes.
pub const FRAGMENT_BYTES_MIN: u64 = 32;

/// RFC 6455 §5.5.
const CONTROL_BYTES_MAX: u64 = 125;

/// Longest frame header: 2 bytes, 8 of length, 4 of mask (RFC 6455 §5.2).
const HEADER_BYTES_MAX: usize = 14;

/// Why the guard stopped the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The message is, or will be, larger than the endpoint allows: 1009.
    TooBig,
    /// More fragments than [`FRAGMENTS_PER_MESSAGE_MAX`], and small ones: 1008.
    TooManyFragments,
    /// A control frame that is longer than RFC 6455 §5.5 allows: 1002. The codec would make room for it first.
    LongControlFrame,
    /// More control frames than there is room for: 1008.
    TooManyControlFrames,
}

/// How much may pass.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Data messages that may end; then the rest waits.
    pub messages: u32,
    /// Control frames that may begin; one more is a violation.
    pub controls: u32,
}

/// What to do with the bytes given to [`FrameGuard::scan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// So many leading bytes may go to the codec now.
    pub pass: usize,
    /// So many data messages end within them.
    pub messages: u32,
    /// So many control frames begin within them.
    pub controls: u32,
    /// Set when the stream must stop after `pass` bytes.
    pub violation: Option<Violation>,
}

/// Header-level state of one connection's incoming stream.
#[derive(Debug)]
pub struct FrameGuard {
    max_message_bytes: u64,
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    /// Bytes of the current frame's payload still to come.
    payload_left: u64,
    /// Payload bytes of the fragments of the message so far, and how many fragments.
    message_bytes: u64,
    fragments: u32,
    /// The frame whose payload is passing ends a data message.
    ends_message: bool,
}

/// What a frame's header says of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Control,
}

impl FrameGuard {
    pub fn new(max_message_bytes: usize) -> FrameGuard {
        FrameGuard {
            max_message_bytes: max_message_bytes as u64,
            header: [0; HEADER_BYTES_MAX],
            header_len: 0,
            payload_left: 0,
            message_bytes: 0,
            fragments: 0,
            ends_message: false,
        }
    }

    /// A new configuration's limit holds from the next frame on.
    pub fn set_max_message_bytes(&mut self, bytes: usize) {
        self.max_message_bytes = bytes as u64;
    }

    /// Looks at `bytes` and says how many of them may pass.
    pub fn scan(&mut self, bytes: &[u8], room: Room) -> Scan {
        let mut at = 0;
        let mut messages = 0;
        let mut controls = 0;
        while at < bytes.len() {
            if messages == room.messages {
                break;
            }
            if self.payload_left > 0 {
                let step = self.payload_left.min((bytes.len() - at) as u64);
                at += step as usize;
                self.payload_left -= step;
                if self.payload_left == 0 && self.ends_message {
                    messages += 1;
                    self.ends_message = false;
                }
                continue;
            }
            self.header[self.header_len as usize] = bytes[at];
            self.header_len += 1;
            at += 1;
            let Some(payload) = self.header_payload() else { continue };
            let admitted = match self.admit(payload) {
                Ok(Kind::Control) if controls == room.controls => Err(Violation::TooManyControlFrames),
                admitted => admitted,
            };
            match admitted {
                Ok(Kind::Control) => controls += 1,
                Ok(Kind::Data) => {}
                Err(violation) => {
                    // The header itself stays back: the codec must not begin to wait for the payload.
                    let held = (self.header_len as usize).min(at);
                    return Scan { pass: at - held, messages, controls, violation: Some(violation) };
                }
            }
            self.header_len = 0;
            self.payload_left = payload;
            if payload == 0 && self.ends_message {
                messages += 1;
                self.ends_message = false;
            }
        }
        Scan { pass: at, messages, controls, violation: None }
    }

    /// The payload length, once the header is complete.
    fn header_payload(&self) -> Option<u64> {
        let have = self.header_len as usize;
        if have < 2 {
            return None;
        }
        let masked = self.header[1] & 0x80 != 0;
        let short = self.header[1] & 0x7f;
        let length_bytes = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if have < 2 + length_bytes + if masked { 4 } else { 0 } {
            return None;
        }
        Some(match short {
            126 => u64::from(u16::from_be_bytes([self.header[2], self.header[3]])),
            127 => self.header[2..10].iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)),
            short => u64::from(short),
        })
    }

    /// Checks a complete header against the limits and notes what its frame does to the message.
    fn admit(&mut self, payload: u64) -> Result<Kind, Violation> {
        let fin = self.header[0] & 0x80 != 0;
        let opcode = self.header[0] & 0x0f;
        if opcode >= 8 {
            // Control frames may come between fragments.
            return if payload > CONTROL_BYTES_MAX { Err(Violation::LongControlFrame) } else { Ok(Kind::Control) };
        }
        if opcode != 0 {
            self.message_bytes = 0;
            self.fragments = 0;
        }
        self.fragments += 1;
        self.message_bytes = self.message_bytes.saturating_add(payload);
        if self.message_bytes > self.max_message_bytes {
            return Err(Violation::TooBig);
        }
        let many = self.fragments > FRAGMENTS_PER_MESSAGE_MAX;
        if many && self.message_bytes < u64::from(self.fragments) * FRAGMENT_BYTES_MIN {
            return Err(Violation::TooManyFragments);
        }
        self.ends_message = fin;
        Ok(Kind::Data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let mut out = vec![first];
        match payload {
            0..=125 => out.push(0x80 | payload as u8),
            126..=65535 => {
                out.push(0x80 | 126);
                out.extend((payload as u16).to_be_bytes());
            }
            _ => {
                out.push(0x80 | 127);
                out.extend((payload as u64).to_be_bytes());
            }
        }
        out.extend([1, 2, 3, 4]);
        out.extend(std::iter::repeat_n(b'x', payload));
        out
    }

    fn room(messages: u32) -> Room {
        Room { messages, controls: 9 }
    }

    #[test]
    fn passes_whole_frames_and_counts_messages() {
        let mut bytes = frame(0x81, 10);
        bytes.extend(frame(0x89, 5));
        bytes.extend(frame(0x81, 0));
        let mut guard = FrameGuard::new(100);
        assert_eq!(guard.scan(&bytes, room(10)), Scan { pass: bytes.len(), messages: 2, controls: 1, violation: None });
    }

    #[test]
    fn gives_the_same_answer_byte_by_byte() {
        let mut bytes = frame(0x01, 300);
        bytes.extend(frame(0x80, 70_000));
        let mut guard = FrameGuard::new(100_000);
        let mut messages = 0;
        for byte in &bytes {
            let scan = guard.scan(std::slice::from_ref(byte), room(1));
            assert_eq!((scan.pass, scan.violation), (1, None));
            messages += scan.messages;
        }
        assert_eq!(messages, 1);
    }

    #[test]
    fn refuses_an_oversized_frame_on_its_header() {
        let mut bytes = frame(0x81, 5);
        let first = bytes.len();
        bytes.extend(&frame(0x81, 200)[..8]);
        let mut guard = FrameGuard::new(100);
        assert_eq!(
            guard.scan(&bytes, room(9)),
            Scan { pass: first, messages: 1, controls: 0, violation: Some(Violation::TooBig) }
        );
    }

    #[test]
    fn adds_up_fragments_and_survives_lengths_that_overflow() {
        let mut guard = FrameGuard::new(100);
        assert_eq!(guard.scan(&frame(0x01, 60), room(9)).violation, None);
        assert_eq!(
            guard.scan(&frame(0x89, 100), room(9)).violation,
            None,
            "a control frame is not part of the message"
        );
        assert_eq!(guard.scan(&frame(0x80, 60), room(9)).violation, Some(Violation::TooBig));

        let mut guard = FrameGuard::new(100);
        let huge = [0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4];
        assert_eq!(guard.scan(&huge, room(9)).violation, Some(Violation::TooBig));
    }

    #[test]
    fn refuses_long_control_frames_on_their_header() {
        let huge_ping = [0x89, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
        let scan = FrameGuard::new(100).scan(&huge_ping, room(9));
        assert_eq!(scan, Scan { pass: 0, messages: 0, controls: 0, violation: Some(Violation::LongControlFrame) });
        assert_eq!(FrameGuard::new(100).scan(&frame(0x88, 126), room(9)).violation, Some(Violation::LongControlFrame));
        assert_eq!(FrameGuard::new(100).scan(&frame(0x88, 125), room(9)).violation, None);
    }

    #[test]
    fn caps_fragments() {
        let mut guard = FrameGuard::new(1 << 20);
        assert_eq!(guard.scan(&frame(0x01, 1), room(9)).violation, None);
        let mut violation = None;
        for _ in 0..FRAGMENTS_PER_MESSAGE_MAX {
            violation = violation.or(guard.scan(&frame(0x00, 0), room(9)).violation);
        }
        assert_eq!(violation, Some(Violation::TooManyFragments));
    }

    #[test]
    fn many_fragments_may_be_had_when_they_carry_something() {
        for (size, refused) in [(FRAGMENT_BYTES_MIN as usize, false), (FRAGMENT_BYTES_MIN as usize - 1, true)] {
            let mut guard = FrameGuard::new(1 << 20);
            assert_eq!(guard.scan(&frame(0x01, size), room(9)).violation, None);
            let mut rest =
                (0..4 * FRAGMENTS_PER_MESSAGE_MAX).map(|_| guard.scan(&frame(0x00, size), room(9)).violation);
            let violation = rest.find_map(|violation| violation);
            assert_eq!(violation.is_some(), refused, "pieces of {size}");
        }
    }

    #[test]
    fn stops_at_the_budget() {
        let one = frame(0x81, 3);
        let bytes: Vec<u8> = std::iter::repeat_n(one.clone(), 5).flatten().collect();
        let mut guard = FrameGuard::new(100);
        let scan = guard.scan(&bytes, room(2));
        assert_eq!(scan, Scan { pass: one.len() * 2, messages: 2, controls: 0, violation: None });
        assert_eq!(guard.scan(&bytes[scan.pass..], room(9)).messages, 3);
    }

    #[test]
    fn stops_before_the_control_frame_that_is_one_too_many() {
        let ping = frame(0x89, 7);
        let bytes: Vec<u8> = std::iter::repeat_n(ping.clone(), 20).flatten().collect();
        let scan = FrameGuard::new(100).scan(&bytes, room(9));
        let violation = Some(Violation::TooManyControlFrames);
        assert_eq!(scan, Scan { pass: ping.len() * 9, messages: 0, controls: 9, violation });
        assert_eq!(FrameGuard::new(100).scan(&bytes[..ping.len() * 9], room(9)).violation, None);
    }
}
