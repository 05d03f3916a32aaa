//! The bounded queue of encoded frames between the gateway and one client's socket. Owned by the connection's worker;
//! no lock. Frames are reference-counted, so that a broadcast's copies share their bytes. No IO here: the driver writes.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::watch::Watch;
use crate::model::endpoint::{OutboxSettings, WhenFull};

/// Room for the gateway's own control frames (pong, close) beyond the policy's bytes: they must get out of a full queue.
const CONTROL_RESERVE_BYTES: usize = 4096;

/// Answers to pings that wait for a client that does not read them. Beyond that the newest takes the place of the one
/// before it, which RFC 6455 §5.5.3 allows.
const PONGS_MAX: usize = 16;

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
    Yes,
    /// The frame was not queued, as the policy says: `dropNewest`, or a frame larger than the whole outbox.
    Refused,
    /// The policy is to close the connection: 1013.
    Close,
}

#[derive(Debug)]
struct Entry {
    bytes: Bytes,
    /// Counted against the limits and droppable; control frames are neither.
    message: bool,
    /// Of a message that someone waits for, or that does not live for ever.
    watch: Option<Box<Watch>>,
}

impl Entry {
    fn is_pong(&self) -> bool {
        !self.message && self.bytes.first() == Some(&(0x80 | Opcode::Pong as u8))
    }
}

/// Frames not yet taken by the socket. The first may be partly written.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Entry>,
    bytes: usize,
    messages: usize,
    front_written: bool,
    /// Something in it does not live for ever.
    expiring: bool,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Unsent bytes; shown to operators as `pendingBytes`.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Queues a message frame under the endpoint's policy.
    pub fn push(&mut self, frame: Bytes, policy: &OutboxSettings) -> Queued {
        if frame.len() > policy.max_bytes {
            return Queued::Refused;
        }
        if self.bytes + frame.len() > policy.max_bytes || self.messages + 1 > policy.max_messages {
            self.drop_expired(Instant::now());
        }
        while self.bytes + frame.len() > policy.max_bytes || self.messages + 1 > policy.max_messages {
            match policy.when_full {
                WhenFull::Close => return Queued::Close,
                WhenFull::DropNewest => return Queued::Refused,
                WhenFull::DropOldest => {
                    if !self.drop_oldest() {
                        return Queued::Refused;
                    }
                }
            }
        }
        self.append(frame, true);
        Queued::Yes
    }

    /// Queues the rest of a message whose beginning the socket has taken already: it cannot be refused any more.
    pub fn push_partly_written(&mut self, rest: Bytes) {
        debug_assert!(self.queue.is_empty());
        self.append(rest, true);
        self.front_written = true;
    }

    /// Queues a control frame. `false` when even the reserve is used up: the client does not read at all.
    #[must_use]
    pub fn push_control(&mut self, frame: Bytes, policy: &OutboxSettings) -> bool {
        if self.bytes + frame.len() > policy.max_bytes + CONTROL_RESERVE_BYTES {
            return false;
        }
        self.append(frame, false);
        true
    }

    /// Queues the answer to a ping: a few of them, whatever a client that does not read them sends.
    pub fn push_pong(&mut self, frame: Bytes) {
        let from = usize::from(self.front_written);
        if self.queue.iter().skip(from).filter(|entry| entry.is_pong()).count() < PONGS_MAX {
            return self.append(frame, false);
        }
        if let Some(newest) = self.queue.iter_mut().skip(from).rev().find(|entry| entry.is_pong()) {
            self.bytes = self.bytes - newest.bytes.len() + frame.len();
            newest.bytes = frame;
        }
    }

    fn append(&mut self, bytes: Bytes, message: bool) {
        self.bytes += bytes.len();
        self.messages += usize::from(message);
        self.queue.push_back(Entry { bytes, message, watch: None });
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
            let over = entry.message && entry.watch.as_ref().is_some_and(|watch| watch.is_expired(now));
            self.expiring |= !over && entry.watch.as_ref().is_some_and(|watch| watch.expires.is_some());
            if !over {
                place += 1;
            } else if let Some(Entry { bytes, watch, .. }) = self.queue.remove(place) {
                self.bytes -= bytes.len();
                self.messages -= 1;
                watch.into_iter().for_each(|watch| watch.expire());
            }
        }
    }

    /// Drops the oldest message of which nothing has been written.
    fn drop_oldest(&mut self) -> bool {
        let from = usize::from(self.front_written);
        let Some(at) = self.queue.iter().skip(from).position(|entry| entry.message) else { return false };
        if let Some(entry) = self.queue.remove(at + from) {
            self.bytes -= entry.bytes.len();
            self.messages -= 1;
        }
        true
    }

    /// The next bytes for the socket.
    pub fn front(&self) -> Option<&Bytes> {
        self.queue.front().map(|entry| &entry.bytes)
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
        self.bytes -= count;
        while let Some(front) = self.queue.front_mut() {
            if count < front.bytes.len() {
                self.front_written |= count > 0;
                let _ = front.bytes.split_to(count);
                return;
            }
            count -= front.bytes.len();
            self.messages -= usize::from(front.message);
            let watch = self.queue.pop_front().and_then(|entry| entry.watch);
            watch.into_iter().for_each(|watch| watch.written());
            self.front_written = false;
        }
        if self.queue.capacity() > 64 {
            self.queue.shrink_to(0); // an idle connection keeps no buffer
        }
    }

    /// Drops what is queued, but never the rest of a frame that has begun: what follows would be read as its payload.
    pub fn clear_unbegun(&mut self) {
        let begun = if self.front_written { self.queue.pop_front() } else { None };
        *self = Outbox::default();
        if let Some(Entry { bytes, message, watch }) = begun {
            self.append(bytes, message);
            watch.into_iter().for_each(|watch| self.watch_last(*watch));
            self.front_written = true;
        }
    }

    /// Nothing more will be written.
    pub fn clear(&mut self) {
        *self = Outbox::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(when_full: WhenFull) -> OutboxSettings {
        OutboxSettings { max_bytes: 100, max_messages: 3, when_full }
    }

    fn bytes(len: usize) -> Bytes {
        Bytes::from(vec![b'x'; len])
    }

    #[test]
    fn bounds_bytes_and_messages() {
        let mut outbox = Outbox::default();
        let close = policy(WhenFull::Close);
        assert_eq!(outbox.push(bytes(101), &close), Queued::Refused, "a frame that can never fit");
        for _ in 0..3 {
            assert_eq!(outbox.push(bytes(10), &close), Queued::Yes);
        }
        assert_eq!(outbox.push(bytes(10), &close), Queued::Close);
        assert_eq!(outbox.push(bytes(10), &policy(WhenFull::DropNewest)), Queued::Refused);
        assert_eq!(outbox.bytes(), 30);
    }

    #[test]
    fn drop_oldest_never_cuts_a_frame_that_has_begun() {
        let mut outbox = Outbox::default();
        let policy = policy(WhenFull::DropOldest);
        for len in [10, 20, 30] {
            assert_eq!(outbox.push(bytes(len), &policy), Queued::Yes);
        }
        outbox.written(4);
        assert_eq!(outbox.push(bytes(40), &policy), Queued::Yes);
        let lens: Vec<usize> = outbox.queue.iter().map(|entry| entry.bytes.len()).collect();
        assert_eq!(lens, [6, 30, 40]);
    }

    #[test]
    fn written_counts_across_frames() {
        let mut outbox = Outbox::default();
        let policy = policy(WhenFull::Close);
        for len in [10, 20] {
            outbox.push(bytes(len), &policy);
        }
        assert!(outbox.push_control(bytes(5), &policy));
        outbox.written(32);
        assert_eq!((outbox.bytes(), outbox.messages), (3, 0));
        outbox.written(3);
        assert!(outbox.is_empty());
    }

    #[test]
    fn clearing_keeps_a_begun_frame_whole() {
        let mut outbox = Outbox::default();
        let policy = policy(WhenFull::Close);
        for len in [10, 20] {
            outbox.push(bytes(len), &policy);
        }
        outbox.written(4);
        outbox.clear_unbegun();
        assert_eq!((outbox.bytes(), outbox.messages), (6, 1));
        outbox.written(6);
        outbox.push(bytes(10), &policy);
        outbox.clear_unbegun();
        assert!(outbox.is_empty());
    }

    #[test]
    fn control_frames_have_a_reserve_but_not_without_end() {
        let mut outbox = Outbox::default();
        let policy = policy(WhenFull::Close);
        outbox.push(bytes(100), &policy);
        let queued = (0..10_000).take_while(|_| outbox.push_control(bytes(127), &policy)).count();
        assert_eq!(queued, CONTROL_RESERVE_BYTES / 127);
    }

    #[test]
    fn pongs_that_nobody_reads_are_a_few() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(bytes(10), &policy(WhenFull::Close)), Queued::Yes);
        for number in 0..1000_u32 {
            outbox.push_pong(frame(Opcode::Pong, &number.to_be_bytes()));
        }
        assert_eq!((outbox.queue.len(), outbox.bytes()), (1 + PONGS_MAX, 10 + PONGS_MAX * 6));
        let newest = outbox.queue.back().map(|entry| entry.bytes.clone());
        assert_eq!(newest, Some(frame(Opcode::Pong, &999_u32.to_be_bytes())));
        outbox.written(10 + 6);
        outbox.push_pong(frame(Opcode::Pong, b"next"));
        assert_eq!(outbox.queue.len(), PONGS_MAX, "there is room again");
    }

    fn watched(expires: Option<Instant>) -> (Watch, tokio::sync::oneshot::Receiver<super::super::watch::Fate>) {
        let (tell, fate) = tokio::sync::oneshot::channel();
        (Watch { fate: Some(tell), expires, expired: Default::default() }, fate)
    }

    #[test]
    fn who_waits_for_a_message_hears_what_became_of_it() {
        use super::super::watch::Fate;
        let mut outbox = Outbox::default();
        let policy = policy(WhenFull::DropOldest);
        let now = Instant::now();
        let mut fates = Vec::new();
        for expires in [Some(now), None, Some(now)] {
            assert_eq!(outbox.push(bytes(20), &policy), Queued::Yes);
            let (watch, fate) = watched(expires);
            outbox.watch_last(watch);
            fates.push(fate);
        }
        outbox.written(1);
        outbox.drop_expired(now);
        assert_eq!((outbox.bytes(), outbox.messages), (39, 2), "the first has begun");
        outbox.written(19);
        let mut told = |place: usize| fates[place].try_recv();
        assert_eq!((told(0), told(2)), (Ok(Fate::Written), Ok(Fate::Expired)));
        assert!(told(1).is_err() && !outbox.expiring);
        outbox.written(20);
        assert_eq!(told(1), Ok(Fate::Written));
        // Room is made of what is over before others are dropped.
        for expires in [None, Some(now), None] {
            outbox.push(bytes(10), &policy);
            outbox.watch_last(watched(expires).0);
        }
        assert_eq!(outbox.push(bytes(11), &policy), Queued::Yes);
        let lens: Vec<usize> = outbox.queue.iter().map(|entry| entry.bytes.len()).collect();
        assert_eq!(lens, [10, 10, 11]);
    }

    #[test]
    fn encodes_all_three_lengths() {
        for (len, header) in [(5, 2), (126, 4), (70_000, 10)] {
            let encoded = frame(Opcode::Text, &vec![b'x'; len]);
            assert_eq!(encoded.len(), len + header);
            assert_eq!(encoded[0], 0x81);
        }
    }
}
