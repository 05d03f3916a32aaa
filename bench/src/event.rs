//! The JSON event that travels both ways: written by clients and push senders, recognised by whoever receives it.
//! Pure. Its head has a fixed shape, so that a receiver reads three numbers instead of parsing JSON; the gateway
//! passes valid JSON on byte-identical, which is what this relies on.

use bytes::{BufMut, BytesMut};

/// Run number of the events that only tell the backend which connection belongs to which client.
pub const HELLO_RUN: u64 = 0;

/// Head of an event: which run it counts for, whose window it occupies, and when it was sent.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Stamp {
    pub run: u64,
    /// Index of the client (inbound) or of the sender (pushes).
    pub slot: u64,
    /// Nanoseconds on this process's clock (`meter::now_nanos`).
    pub sent_nanos: u64,
}

impl Stamp {
    /// Appends the event, padded to about `bytes` in all (never below what the head takes).
    pub fn write(&self, bytes: usize, out: &mut BytesMut) {
        self.write_with(None, bytes, out);
    }

    /// The same with an `id` that comes back in the event's ack: when it was sent.
    pub fn write_with_id(&self, bytes: usize, out: &mut BytesMut) {
        self.write_with(Some(self.sent_nanos), bytes, out);
    }

    fn write_with(&self, id: Option<u64>, bytes: usize, out: &mut BytesMut) {
        let start = out.len();
        out.put_slice(b"{\"run\":");
        write_number(self.run, out);
        out.put_slice(b",\"slot\":");
        write_number(self.slot, out);
        out.put_slice(b",\"ts\":");
        write_number(self.sent_nanos, out);
        if let Some(id) = id {
            out.put_slice(b",\"id\":");
            write_number(id, out);
        }
        out.put_slice(b",\"action\":\"bench\",\"pad\":\"");
        let closing = b"\"}";
        let padding = bytes.saturating_sub(out.len() - start + closing.len());
        out.put_bytes(b'x', padding);
        out.put_slice(closing);
    }

    /// The stamp of one of our own events; `None` for anything else.
    pub fn read(body: &[u8]) -> Option<Self> {
        let (run, rest) = read_number(body.strip_prefix(b"{\"run\":")?)?;
        let (slot, rest) = read_number(rest.strip_prefix(b",\"slot\":")?)?;
        let (sent_nanos, _) = read_number(rest.strip_prefix(b",\"ts\":")?)?;
        Some(Self { run, slot, sent_nanos })
    }
}

/// The `id` of the event that the gateway acknowledges in its own words; `None` for anything else.
pub fn read_ack(body: &[u8]) -> Option<u64> {
    const ID: &[u8] = b"\"clientEventId\":";
    body.strip_prefix(b"{\"type\":\"ack\",")?;
    let id = memchr::memmem::find(body, ID)? + ID.len();
    Some(read_number(&body[id..])?.0)
}

pub fn write_number(mut number: u64, out: &mut BytesMut) {
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.put_slice(&digits[start..]);
}

/// Leading decimal digits and what follows them; `None` without digits or when they overflow.
pub fn read_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut number = 0u64;
    for byte in &bytes[..digits] {
        number = number.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
    }
    (digits > 0).then_some((number, &bytes[digits..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_is_json_of_the_wanted_size() {
        let stamp = Stamp { run: 3, slot: 0, sent_nanos: u64::MAX };
        let mut out = BytesMut::new();
        stamp.write(128, &mut out);
        assert_eq!(out.len(), 128);
        assert_eq!(Stamp::read(&out), Some(stamp));
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["ts"], u64::MAX);
        assert_eq!(value["action"], "bench");
    }

    #[test]
    fn an_ack_tells_when_its_event_was_sent() {
        let mut out = BytesMut::new();
        Stamp { run: 3, slot: 0, sent_nanos: 77 }.write_with_id(128, &mut out);
        assert_eq!(out.len(), 128);
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&out).unwrap()["id"], 77);
        let ack = br#"{"type":"ack","eventId":"01M8","status":"delivered","clientEventId":77}"#;
        assert_eq!(read_ack(ack), Some(77));
        assert_eq!(read_ack(br#"{"type":"error","clientEventId":77}"#), None);
    }

    #[test]
    fn other_bodies_have_no_stamp() {
        for body in
            ["", "{}", "{\"run\":", "{\"run\":1,\"slot\":x", "{\"run\":99999999999999999999,\"slot\":1,\"ts\":1"]
        {
            assert_eq!(Stamp::read(body.as_bytes()), None, "{body}");
        }
    }
}
