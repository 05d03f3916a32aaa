//! The bounded queue of encoded frames between the gateway and one client's socket. Owned by the connection's worker;
//! no lock. Frames are reference-counted, so that a broadcast's copies share their bytes. No IO here: the driver writes.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::ledger::{self, Ledger};
use super::watch::Watch;
use crate::model::coalesce::CoalesceKey;
use crate::model::endpoint::{OutboxSettings, WhenFull};
use crate::model::resume::MESSAGE_OVERHEAD_BYTES;

/// Room for the gateway's own control frames (pong, close) beyond the policy's bytes: they must get out of a full queue.
const CONTROL_RESERVE_BYTES: usize = 4096;

/// Answers to pings that wait for a client that does not read them. Beyond that the newest takes the place of the one
/// before it, which RFC 6455 §5.5.3 allows.
const PONGS_MAX: usize = 16;

/// Frames that wait together share buffers of this size: on its own each is rounded up by the allocator, a quarter when it is
/// unlucky, and has a counter beside it.
const SHARED_BUFFER_BYTES: usize = 16 * 1024;
/// Only behind so many bytes that wait, so that a client that is a little late costs no such buffer.
const SHARED_FROM_BYTES: usize = 8 * 1024;
/// A longer frame has its own.
const SHARED_FRAME_BYTES_MAX: usize = 4 * 1024;

/// Opcodes of RFC 6455 §5.2 that the gateway writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// Appends one unmasked, unfragmented frame.
pub fn encode_frame(opcode: Opcode, payload: &[u8], out: &mut BytesMut) {
    out.reserve(payload.len() + 10);
    out.extend_from_slice(&[0x80 | opcode as u8]);
    match payload.len() {
        len @ 0..=125 => out.extend_from_slice(&[len as u8]),
        len @ 126..=65535 => {
            out.extend_from_slice(&[126]);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.extend_from_slice(&[127]);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// One encoded frame as its own buffer.
pub fn frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + 10);
    encode_frame(opcode, payload, &mut out);
    out.freeze()
}

/// What became of a frame given to [`Outbox::push`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// With how many others gave way to it.
    Yes { dropped: u64 },
    /// The frame was not queued, as the policy says: `dropNewest`, or a frame larger than the whole outbox.
    Refused,
    /// The policy is to close the connection: 1013.
    Close,
}

/// What a frame in the queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Counted against the limits, and droppable.
    Message,
    /// The same; a newer message of its key takes its place.
    Keyed(CoalesceKey),
    /// Promised before the socket was lost: outside the limits, and not droppable.
    Owed,
    /// The gateway's own: neither counted as a message nor droppable.
    Control,
    /// The answer to a client's ping: the same, and only a few of them.
    Pong,
    /// A ping whose pong confirms what left before it.
    Mark(u64),
}

impl Kind {
    fn is_droppable(self) -> bool {
        matches!(self, Kind::Message | Kind::Keyed(_))
    }

    fn is_message(self) -> bool {
        self.is_droppable() || self == Kind::Owed
    }
}

#[derive(Debug)]
struct Entry {
    bytes: Bytes,
    kind: Kind,
    /// Of a message that someone waits for, or that does not live for ever.
    watch: Option<Box<Watch>>,
}

/// Frames not yet taken by the socket. The first may be partly written.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Entry>,
    /// Without what is owed.
    bytes: usize,
    owed_bytes: usize,
    messages: usize,
    front_written: bool,
    /// Something in it does not live for ever.
    expiring: bool,
    /// The rest of the buffer that the last frames share.
    shared: Option<Box<BytesMut>>,
    /// Of a connection that may be resumed.
    pub ledger: Option<Box<Ledger>>,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// One whose first bytes are the answer to the handshake: what follows is nothing without it, so it is never dropped.
    pub fn behind(answer: Bytes) -> Outbox {
        let mut outbox = Outbox::default();
        outbox.append(answer, Kind::Control);
        outbox.front_written = true;
        outbox
    }

    /// Unsent bytes; shown to operators as `pendingBytes`.
    pub fn bytes(&self) -> usize {
        self.bytes + self.owed_bytes
    }

    /// Moves the message that was queued last into the buffer that it shares with those before it. For one that leaves in its
    /// order: what goes before others, or was never queued, would leave a whole buffer to the few that stay.
    pub fn share_last(&mut self) {
        let Some(last) = self.queue.back_mut() else { return };
        if self.bytes < SHARED_FROM_BYTES || last.bytes.len() > SHARED_FRAME_BYTES_MAX {
            return;
        }
        let shared = self.shared.get_or_insert_default();
        if shared.capacity() < last.bytes.len() {
            **shared = BytesMut::with_capacity(SHARED_BUFFER_BYTES);
        }
        shared.extend_from_slice(&last.bytes);
        last.bytes = shared.split().freeze();
    }

    /// Queues a message frame under the endpoint's policy. `key`: what the policy's path finds in the message, if it
    /// coalesces.
    pub fn push(&mut self, frame: Bytes, policy: &OutboxSettings, key: Option<CoalesceKey>) -> Queued {
        if frame.len() > policy.max_bytes {
            return Queued::Refused;
        }
        let mut dropped = self.coalesce(key);
        if self.bytes + frame.len() > policy.max_bytes || self.messages + 1 > policy.max_messages {
            self.drop_expired(Instant::now());
        }
        while self.bytes + frame.len() > policy.max_bytes || self.messages + 1 > policy.max_messages {
            match self.make_room(policy.when_full) {
                Ok(()) => dropped += 1,
                Err(queued) => return queued,
            }
        }
        self.append(frame, key.map_or(Kind::Message, Kind::Keyed));
        Queued::Yes { dropped }
    }

    /// The same while there is no socket: what was sent last on the old one counts too, and the bounds are the resume
    /// rule's.
    pub fn push_while_away(&mut self, frame: Bytes, when_full: WhenFull, key: Option<CoalesceKey>) -> Queued {
        let cost = ledger::cost(&frame);
        if !self.ledger.as_ref().is_some_and(|ledger| ledger.could_keep(cost)) {
            return Queued::Refused;
        }
        let mut dropped = self.coalesce(key);
        self.drop_expired(Instant::now());
        loop {
            let waiting = self.waiting_cost();
            let Some(ledger) = &mut self.ledger else { return Queued::Refused };
            ledger.waits(waiting);
            if waiting + cost <= ledger.room_bytes() && ledger.reserve(cost) {
                break;
            }
            match self.make_room(when_full) {
                Ok(()) => dropped += 1,
                Err(queued) => return queued,
            }
        }
        self.append(frame, key.map_or(Kind::Message, Kind::Keyed));
        Queued::Yes { dropped }
    }

    fn waiting_cost(&self) -> usize {
        self.bytes + self.messages * MESSAGE_OVERHEAD_BYTES
    }

    /// Lets one waiting message go, or says what becomes of the new one.
    fn make_room(&mut self, when_full: WhenFull) -> Result<(), Queued> {
        match when_full {
            WhenFull::Close | WhenFull::Coalesce => Err(Queued::Close),
            WhenFull::DropNewest => Err(Queued::Refused),
            WhenFull::DropOldest => match self.drop_first(Kind::is_droppable) {
                true => Ok(()),
                false => Err(Queued::Refused),
            },
        }
    }

    /// Drops the waiting message of this key, of which there is one at most.
    fn coalesce(&mut self, key: Option<CoalesceKey>) -> u64 {
        let Some(key) = key else { return 0 };
        u64::from(self.drop_first(|kind| kind == Kind::Keyed(key)))
    }

    /// Queues the rest of a message whose beginning the socket has taken already: it cannot be refused any more.
    pub fn push_partly_written(&mut self, whole: &Bytes, written: usize) {
        debug_assert!(self.queue.is_empty());
        if let Some(ledger) = &mut self.ledger {
            ledger.begin(whole);
        }
        self.append(whole.slice(written..), Kind::Message);
        self.front_written = true;
    }

    /// Queues a control frame. `false` when even the reserve is used up: the client does not read at all.
    #[must_use]
    pub fn push_control(&mut self, frame: Bytes, policy: &OutboxSettings) -> bool {
        self.push_own(frame, Kind::Control, policy)
    }

    /// Queues a ping whose pong confirms what left before it; without a ledger a plain one.
    #[must_use]
    pub fn push_ping(&mut self, policy: &OutboxSettings) -> bool {
        let Some(ledger) = &mut self.ledger else { return self.push_control(frame(Opcode::Ping, b""), policy) };
        let number = ledger.next_mark();
        self.push_own(frame(Opcode::Ping, &number.to_be_bytes()), Kind::Mark(number), policy)
    }

    fn push_own(&mut self, frame: Bytes, kind: Kind, policy: &OutboxSettings) -> bool {
        if self.bytes + frame.len() > policy.max_bytes + CONTROL_RESERVE_BYTES {
            return false;
        }
        self.append(frame, kind);
        true
    }

    /// Queues the answer to a ping: a few of them, whatever a client that does not read them sends.
    pub fn push_pong(&mut self, frame: Bytes) {
        let from = usize::from(self.front_written);
        if self.queue.iter().skip(from).filter(|entry| entry.kind == Kind::Pong).count() < PONGS_MAX {
            return self.append(frame, Kind::Pong);
        }
        if let Some(newest) = self.queue.iter_mut().skip(from).rev().find(|entry| entry.kind == Kind::Pong) {
            self.bytes = self.bytes - newest.bytes.len() + frame.len();
            newest.bytes = frame;
        }
    }

    fn append(&mut self, bytes: Bytes, kind: Kind) {
        self.append_entry(Entry { bytes, kind, watch: None });
    }

    fn append_entry(&mut self, entry: Entry) {
        self.expiring |= entry.watch.as_ref().is_some_and(|watch| watch.expires.is_some());
        self.count(&entry.bytes, entry.kind);
        self.queue.push_back(entry);
    }

    /// Watches over the message that was queued last.
    pub fn watch_last(&mut self, watch: Watch) {
        self.expiring |= watch.expires.is_some();
        if let Some(last) = self.queue.back_mut() {
            last.watch = Some(Box::new(watch));
        }
    }

    /// Drops messages whose time is over and of which nothing has been written.
    pub fn drop_expired(&mut self, now: Instant) {
        if !self.expiring {
            return;
        }
        let begun = usize::from(self.front_written);
        let mut place = begun;
        self.expiring = false;
        while let Some(entry) = self.queue.get(place) {
            let over = entry.kind.is_message() && entry.watch.as_ref().is_some_and(|watch| watch.is_expired(now));
            self.expiring |= !over && entry.watch.as_ref().is_some_and(|watch| watch.expires.is_some());
            if !over {
                place += 1;
            } else if let Some(Entry { bytes, kind, watch }) = self.queue.remove(place) {
                match kind {
                    Kind::Owed => self.owed_bytes -= bytes.len(),
                    _ => self.bytes -= bytes.len(),
                }
                self.messages -= usize::from(kind.is_droppable());
                watch.into_iter().for_each(|watch| watch.expire());
            }
        }
    }

    fn count(&mut self, bytes: &Bytes, kind: Kind) {
        match kind {
            Kind::Owed => self.owed_bytes += bytes.len(),
            _ => self.bytes += bytes.len(),
        }
        self.messages += usize::from(kind.is_droppable());
    }

    /// Drops the oldest frame of such a kind of which nothing has been written.
    fn drop_first(&mut self, of: impl Fn(Kind) -> bool) -> bool {
        let from = usize::from(self.front_written);
        let Some(at) = self.queue.iter().skip(from).position(|entry| of(entry.kind)) else { return false };
        if let Some(entry) = self.queue.remove(at + from) {
            self.bytes -= entry.bytes.len();
            self.messages -= 1;
        }
        true
    }

    /// The frames at the head, for one vectored write.
    pub fn slices<'a>(&'a self, into: &mut [std::io::IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slot, entry) in into.iter_mut().zip(&self.queue) {
            *slot = std::io::IoSlice::new(&entry.bytes);
            filled += 1;
        }
        filled
    }

    /// The socket took so many bytes from the head.
    pub fn written(&mut self, mut count: usize) {
        while let Some(front) = self.queue.front_mut() {
            let taken = count.min(front.bytes.len());
            match front.kind {
                Kind::Owed => self.owed_bytes -= taken,
                _ => self.bytes -= taken,
            }
            if count < front.bytes.len() {
                if let (true, true, Some(ledger)) = (count > 0, front.kind.is_message(), &mut self.ledger) {
                    ledger.begin(&front.bytes);
                }
                self.front_written |= count > 0;
                let _ = front.bytes.split_to(count);
                return;
            }
            count -= taken;
            self.messages -= usize::from(front.kind.is_droppable());
            self.front_written = false;
            let Some(Entry { bytes, kind, watch }) = self.queue.pop_front() else { return };
            watch.into_iter().for_each(|watch| watch.written());
            if let Some(ledger) = &mut self.ledger {
                match kind {
                    Kind::Mark(number) => ledger.marked(number),
                    Kind::Control | Kind::Pong => {}
                    Kind::Message | Kind::Keyed(_) | Kind::Owed => ledger.sent(bytes),
                }
            }
        }
        self.shared = None;
        if self.queue.capacity() > 64 {
            self.queue.shrink_to(0); // an idle connection keeps no buffer
        }
    }

    /// The socket is gone, and another is expected: what it has not taken whole waits, the gateway's own frames are void.
    pub fn detach(&mut self) {
        let begun = self.ledger.as_mut().and_then(|ledger| ledger.take_begun());
        let mut waiting = std::mem::take(&mut self.queue);
        if let (true, Some(front), Some(begun)) = (self.front_written, waiting.front_mut(), begun) {
            front.bytes = begun;
        }
        (self.bytes, self.owed_bytes, self.messages, self.front_written) = (0, 0, 0, false);
        for mut entry in waiting.into_iter().filter(|entry| entry.kind.is_message()) {
            entry.kind = if entry.kind == Kind::Owed { Kind::Message } else { entry.kind };
            self.append_entry(entry);
        }
        let waiting = self.waiting_cost();
        if let Some(ledger) = &mut self.ledger {
            // Promised while there was a socket: without room for it, it waits uncounted.
            let _no_room = ledger.reserve(waiting);
        }
    }

    /// A new socket, of a client that has received so many messages: `first`, then what it has not got, then what waits.
    pub fn attach(&mut self, received: u64, first: Bytes) {
        let again = self.ledger.as_mut().map(|ledger| ledger.go_on_from(received)).unwrap_or_default();
        let waiting = std::mem::take(&mut self.queue);
        (self.bytes, self.owed_bytes, self.messages, self.front_written) = (0, 0, 0, false);
        self.append(first, Kind::Control);
        again.into_iter().for_each(|bytes| self.append(bytes, Kind::Owed));
        waiting.into_iter().for_each(|entry| self.append_entry(Entry { kind: Kind::Owed, ..entry }));
    }

    /// Drops what is queued, but never the rest of a frame that has begun: what follows would be read as its payload.
    pub fn clear_unbegun(&mut self) {
        let begun = if self.front_written { self.queue.pop_front() } else { None };
        self.clear();
        if let Some(begun) = begun {
            self.append_entry(begun);
            self.front_written = true;
        }
    }

    /// Nothing more will be written.
    pub fn clear(&mut self) {
        *self = Outbox { ledger: self.ledger.take(), ..Outbox::default() };
    }

    /// The socket has taken the start of a frame and not its end.
    pub fn is_within_frame(&self) -> bool {
        self.front_written
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
