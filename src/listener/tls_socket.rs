//! A socket under TLS that is tried like a bare one, from every thread: the session has a lock of its own, held for one
//! read or one write.

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use actix_rt::net::TcpStream;
use rustls::pki_types::CertificateDer;
use rustls::{ProtocolVersion, ServerConnection};

/// Taken in at once: one TLS record. More than this is never encrypted and unsent.
const CHUNK_BYTES: usize = 16 * 1024;

/// Records of one call, while the socket takes them.
const CHUNKS_MAX: usize = 8;

/// With AES-GCM a key of TLS 1.2 is good for 2^24 records; the handshake had some.
const RECORDS_MAX: u32 = (1 << 24) - (1 << 10);

/// Slices looked at in one call, as many as an outbox offers.
const SLICES_MAX: usize = 16;

/// Reads that bring no data of the client's, before others get their turn.
const EMPTY_READS_MAX: u32 = 16;

/// Such turns in a row, about a megabyte of nothing: a flood that no count of frames sees.
const EMPTY_TURNS_MAX: u32 = 16;

pub struct TlsSocket {
    io: TcpStream,
    session: Mutex<Session>,
}

struct Session {
    tls: ServerConnection,
    /// The last byte taken in was not owned up to, since it is encrypted but not yet out: its frame so counts as begun and
    /// unfinished, like one of which a bare socket took a part, and whoever wrote it comes again.
    withheld: bool,
    /// Of TLS 1.2, whose keys do not change.
    records: u32,
    /// Turns without data of the client's since the last that had any.
    empty_turns: u32,
}

impl Session {
    /// rustls drops what goes beyond a key's life and says nothing; with TLS 1.3 it takes the next key.
    fn count_record(&mut self) -> io::Result<()> {
        if self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_2) {
            self.records += 1;
            if self.records > RECORDS_MAX {
                return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the TLS 1.2 session's key is used up"));
            }
        }
        Ok(())
    }
}

impl TlsSocket {
    /// After the handshake.
    pub fn new(io: TcpStream, mut tls: ServerConnection) -> TlsSocket {
        tls.set_buffer_limit(Some(2 * CHUNK_BYTES));
        TlsSocket { io, session: Mutex::new(Session { tls, withheld: false, records: 0, empty_turns: 0 }) }
    }

    pub fn tcp(&self) -> &TcpStream {
        &self.io
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the client has shown of itself: its own certificate first.
    pub fn peer_certificates(&self) -> Option<Vec<CertificateDer<'static>>> {
        self.session().tls.peer_certificates().map(<[_]>::to_vec)
    }

    /// Takes frames, of which only the first may be the rest of one, and answers how many bytes of them are out.
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut session = self.session();
        if !flush(&mut session.tls, &self.io)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut taken = usize::from(std::mem::take(&mut session.withheld));
        for _ in 0..CHUNKS_MAX {
            let (parts, count) = chunk(slices, taken);
            if count == 0 {
                break;
            }
            session.count_record()?;
            taken += session.tls.writer().write_vectored(&parts[..count])?;
            if !flush(&mut session.tls, &self.io)? {
                session.withheld = true;
                break;
            }
        }
        match taken - usize::from(session.withheld) {
            0 if session.withheld => Err(io::ErrorKind::WouldBlock.into()),
            out => Ok(out),
        }
    }

    /// Reads what there is, at most `room`. `Ready(Ok(0))` is the end of the stream.
    pub fn poll_read(&self, cx: &mut Context<'_>, room: usize, mut take: impl FnMut(&[u8])) -> Poll<io::Result<usize>> {
        let mut session = self.session();
        let Session { tls, empty_turns, .. } = &mut *session;
        for _ in 0..EMPTY_READS_MAX {
            match decrypted(tls, room, &mut take)? {
                Decrypted::End => return Poll::Ready(Ok(0)),
                Decrypted::Bytes(count) => {
                    *empty_turns = 0;
                    return Poll::Ready(Ok(count));
                }
                Decrypted::Nothing => {}
            }
            match self.io.poll_read_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(err)) => return Poll::Ready(Err(err)),
                Poll::Ready(Ok(())) => {}
            }
            match tls.read_tls(&mut Bare(&self.io)) {
                Ok(0) => return Poll::Ready(Ok(0)),
                Ok(_) => {}
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => continue,
                Err(err) => return Poll::Ready(Err(err)),
            }
            let processed = tls.process_new_packets();
            // An alert that says what was wrong, or the answer to a new key. That writing fails is found by who writes.
            let _tried = flush(tls, &self.io);
            if let Err(err) = processed {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, err)));
            }
        }
        *empty_turns += 1;
        if *empty_turns > EMPTY_TURNS_MAX {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "records without data, on and on")));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Tells the client that nothing more comes. What does not fit is let go: the socket ends anyway.
    pub fn say_goodbye(&self) {
        let mut session = self.session();
        session.tls.send_close_notify();
        let _tried = flush(&mut session.tls, &self.io);
    }
}

enum Decrypted {
    Nothing,
    Bytes(usize),
    End,
}

fn decrypted(tls: &mut ServerConnection, room: usize, take: &mut impl FnMut(&[u8])) -> io::Result<Decrypted> {
    let mut reader = tls.reader();
    let mut count = 0;
    while count < room {
        match reader.fill_buf() {
            Ok([]) if count == 0 => return Ok(Decrypted::End),
            Ok([]) => break,
            Ok(bytes) => {
                let part = bytes.len().min(room - count);
                take(&bytes[..part]);
                reader.consume(part);
                count += part;
            }
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => break,
            // The end without a goodbye: WebSocket has its own.
            Err(err) if err.kind() == io::ErrorKind::UnexpectedEof && count == 0 => return Ok(Decrypted::End),
            Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(err) => return Err(err),
        }
    }
    Ok(if count == 0 { Decrypted::Nothing } else { Decrypted::Bytes(count) })
}

/// The first chunk of what `slices` hold behind the bytes to skip. Of a frame that it begins it has two bytes at least:
/// one of them may be withheld, and what is begun must show.
fn chunk<'s>(slices: &'s [IoSlice<'_>], mut skip: usize) -> ([IoSlice<'s>; SLICES_MAX], usize) {
    let mut parts = [IoSlice::new(&[]); SLICES_MAX];
    let (mut count, mut room) = (0, CHUNK_BYTES);
    for slice in slices.iter().take(SLICES_MAX) {
        let bytes: &'s [u8] = &slice[skip.min(slice.len())..];
        skip -= slice.len() - bytes.len();
        if bytes.is_empty() {
            continue;
        }
        if room < 2 && room < bytes.len() {
            break;
        }
        let taken = bytes.len().min(room);
        parts[count] = IoSlice::new(&bytes[..taken]);
        count += 1;
        room -= taken;
    }
    (parts, count)
}

/// Sends what is encrypted. `false`: not all of it goes out now.
fn flush(tls: &mut ServerConnection, io: &TcpStream) -> io::Result<bool> {
    while tls.wants_write() {
        match tls.write_tls(&mut Bare(io)) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(_) => {}
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(err) => return Err(err),
        }
    }
    Ok(true)
}

/// The socket as rustls wants it.
struct Bare<'a>(&'a TcpStream);

impl Read for Bare<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Bare<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[path = "tls_socket_tests.rs"]
mod tests;
