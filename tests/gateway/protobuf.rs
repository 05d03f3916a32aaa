//! Reads messages of Protocol Buffers by the numbers of their fields: what a collector of traces is sent.

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

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
