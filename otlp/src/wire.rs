//! The protocol's encoding (Protocol Buffers, wire format of proto3) as far as traces need it: messages are written field by field, and
//! read as fields by their numbers. Without generated types: they would bring a derive macro that changes how other build tools
//! are compiled, for a dozen messages that do not change. Called by encode and export; the numbers are there.

/// Wire types.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

/// Writes one message. What has its default is left out, as proto3 does it.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn raw(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn key(&mut self, field: u32, wire: u64) {
        self.raw(u64::from(field) << 3 | wire);
    }

    pub fn varint(&mut self, field: u32, number: u64) {
        if number != 0 {
            self.varint_present(field, number);
        }
    }

    /// Also when it is 0: one of several.
    pub fn varint_present(&mut self, field: u32, number: u64) {
        self.key(field, VARINT);
        self.raw(number);
    }

    pub fn fixed64(&mut self, field: u32, number: u64) {
        if number != 0 {
            self.key(field, FIXED64);
            self.0.extend_from_slice(&number.to_le_bytes());
        }
    }

    pub fn fixed32(&mut self, field: u32, number: u32) {
        if number != 0 {
            self.key(field, FIXED32);
            self.0.extend_from_slice(&number.to_le_bytes());
        }
    }

    pub fn bytes(&mut self, field: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.bytes_present(field, bytes);
        }
    }

    /// Also when it is empty: one of several, or a message.
    pub fn bytes_present(&mut self, field: u32, bytes: &[u8]) {
        self.key(field, LENGTH);
        self.raw(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub fn message(&mut self, field: u32, fill: impl FnOnce(&mut Writer)) {
        let mut inner = Writer::default();
        fill(&mut inner);
        self.bytes_present(field, &inner.0);
    }
}

/// One field as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'m> {
    Number(u64),
    Bytes(&'m [u8]),
}

/// The fields of one message, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields<'m>(Vec<(u32, Field<'m>)>);

impl<'m> Fields<'m> {
    /// None: that is no message.
    pub fn read(mut message: &'m [u8]) -> Option<Fields<'m>> {
        let mut fields = Vec::new();
        while !message.is_empty() {
            let key = varint(&mut message)?;
            let field = match key & 7 {
                VARINT => Field::Number(varint(&mut message)?),
                FIXED64 => Field::Number(u64::from_le_bytes(take(&mut message, 8)?.try_into().ok()?)),
                FIXED32 => Field::Number(u32::from_le_bytes(take(&mut message, 4)?.try_into().ok()?).into()),
                LENGTH => {
                    let length = usize::try_from(varint(&mut message)?).ok()?;
                    Field::Bytes(take(&mut message, length)?)
                }
                _ => return None,
            };
            fields.push((u32::try_from(key >> 3).ok()?, field));
        }
        Some(Fields(fields))
    }

    /// The last one counts; 0 if there is none.
    pub fn number(&self, field: u32) -> u64 {
        let of = |(number, found): &(u32, Field<'m>)| match found {
            Field::Number(value) if *number == field => Some(*value),
            _ => None,
        };
        self.0.iter().rev().find_map(of).unwrap_or(0)
    }

    /// All that are bytes, texts or messages.
    pub fn all(&self, field: u32) -> impl Iterator<Item = &'m [u8]> + '_ {
        self.0.iter().filter_map(move |(number, found)| match found {
            Field::Bytes(bytes) if *number == field => Some(*bytes),
            _ => None,
        })
    }

    /// The last one; empty if there is none.
    pub fn bytes(&self, field: u32) -> &'m [u8] {
        self.all(field).last().unwrap_or_default()
    }

    pub fn text(&self, field: u32) -> String {
        String::from_utf8_lossy(self.bytes(field)).into_owned()
    }

    pub fn has(&self, field: u32) -> bool {
        self.0.iter().any(|(number, _)| *number == field)
    }
}

fn take<'m>(message: &mut &'m [u8], length: usize) -> Option<&'m [u8]> {
    let (taken, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(taken)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    // Ten bytes hold 64 bits.
    for shift in (0..70).step_by(7) {
        let byte = *take(message, 1)?.first()?;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the encoding's own description.
    #[test]
    fn numbers_and_texts_are_written_as_protocol_buffers_have_them() {
        let mut writer = Writer::default();
        writer.varint(1, 150);
        writer.bytes(2, b"testing");
        writer.message(3, |inner| inner.varint(1, 150));
        writer.varint(4, 0);
        writer.bytes(5, b"");
        writer.fixed32(6, 1);
        writer.fixed64(7, 1);
        let expected = [
            &b"\x08\x96\x01"[..],
            b"\x12\x07testing",
            b"\x1a\x03\x08\x96\x01",
            b"\x35\x01\0\0\0",
            b"\x39\x01\0\0\0\0\0\0\0",
        ];
        assert_eq!(writer.into_bytes(), expected.concat());
    }

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        for number in [0, 1, 127, 128, u64::MAX] {
            writer.varint_present(9, number);
            let bytes = Writer(writer.0.clone()).into_bytes();
            assert_eq!(Fields::read(&bytes).unwrap().number(9), number);
        }
        assert_eq!(Fields::read(b"").unwrap().text(1), "");
        for broken in
            [&b"\x12\x07test"[..], b"\x0b", b"\x08", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x39\x01"]
        {
            assert_eq!(Fields::read(broken), None, "{broken:?}");
        }
    }
}
