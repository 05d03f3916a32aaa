//! RFC 6455 frames as a client writes and reads them. Pure: bytes in, bytes out; used by `client` alone.
//! By hand, because the load program should cost as little as it can beside the server on the same machine.

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub const TEXT: u8 = 0x1;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
/// Largest length that fits the second byte; 126 and 127 announce 16 and 64 bits of length (RFC 6455, 5.2).
const SHORT_LENGTH_MAX: usize = 125;
/// A server under test has no reason to send more in one frame; more means that the stream is out of step.
const PAYLOAD_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Appends one unfragmented frame, masked as the protocol demands of clients.
pub fn write_masked(opcode: u8, payload: &[u8], mask: [u8; 4], out: &mut BytesMut) {
    out.reserve(payload.len() + 14);
    out.put_u8(FINAL | opcode);
    match payload.len() {
        length @ 0..=SHORT_LENGTH_MAX => out.put_u8(MASKED | length as u8),
        length if length <= usize::from(u16::MAX) => {
            out.put_u8(MASKED | 126);
            out.put_u16(length as u16);
        }
        length => {
            out.put_u8(MASKED | 127);
            out.put_u64(length as u64);
        }
    }
    out.put_slice(&mask);
    let start = out.len();
    out.put_slice(payload);
    for four in out[start..].chunks_mut(4) {
        four.iter_mut().zip(mask).for_each(|(byte, key)| *byte ^= key);
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub opcode: u8,
    pub payload: Bytes,
}

/// Takes one whole frame off `input`. `Ok(None)`: more bytes are needed. `Err`: not what a server may send us.
pub fn read_unmasked(input: &mut BytesMut) -> Result<Option<Frame>, &'static str> {
    let [first, second, rest @ ..] = &input[..] else { return Ok(None) };
    if second & MASKED != 0 {
        return Err("the server masked a frame");
    }
    if first & FINAL == 0 || first & 0x0F == 0 {
        return Err("the server fragmented a message");
    }
    let opcode = first & 0x0F;
    let (header, length) = match (second, rest) {
        (126, [a, b, ..]) => (4, u64::from(u16::from_be_bytes([*a, *b]))),
        (127, [a, b, c, d, e, f, g, h, ..]) => (10, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h])),
        (126 | 127, _) => return Ok(None),
        (short, _) => (2, u64::from(*short)),
    };
    if length > PAYLOAD_BYTES_MAX {
        return Err("the server announced an absurdly long frame");
    }
    let length = length as usize;
    if input.len() < header + length {
        return Ok(None);
    }
    input.advance(header);
    Ok(Some(Frame { opcode, payload: input.split_to(length).freeze() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_6455_section_5_7() {
        let mut out = BytesMut::new();
        write_masked(TEXT, b"Hello", [0x37, 0xfa, 0x21, 0x3d], &mut out);
        assert_eq!(out[..], [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn every_length_form_is_what_the_servers_codec_reads() {
        use actix_http::ws;
        use tokio_util::codec::Decoder;
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let mut out = BytesMut::new();
            write_masked(TEXT, &payload, [1, 2, 3, 4], &mut out);
            let frame = ws::Codec::new().max_size(1 << 20).decode(&mut out).unwrap().unwrap();
            assert_eq!(frame, ws::Frame::Text(payload.into()), "{length}");
        }
    }

    #[test]
    fn reads_what_the_servers_codec_writes_byte_by_byte() {
        use actix_http::ws;
        use tokio_util::codec::Encoder;
        for length in [0, 125, 126, 65_536] {
            let text = "y".repeat(length);
            let mut written = BytesMut::new();
            ws::Codec::new().encode(ws::Message::Text(text.clone().into()), &mut written).unwrap();
            let mut input = BytesMut::new();
            let last = written.len() - 1;
            for (index, byte) in written.iter().enumerate() {
                input.put_u8(*byte);
                match read_unmasked(&mut input).unwrap() {
                    Some(frame) => {
                        assert_eq!((index, frame), (last, Frame { opcode: TEXT, payload: text.clone().into() }))
                    }
                    None => assert!(index < last),
                }
            }
        }
    }

    #[test]
    fn refuses_masked_fragmented_and_absurd_frames() {
        for bytes in [&[0x81u8, 0x80][..], &[0x01, 0x00], &[0x80, 0x00], &[0x82, 127, 1, 0, 0, 0, 0, 0, 0, 0]] {
            assert!(read_unmasked(&mut BytesMut::from(bytes)).is_err(), "{bytes:?}");
        }
    }
}
