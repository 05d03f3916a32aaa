//! What a connection that may be resumed has sent and cannot be sure of: the frames since the last that its client is
//! known to have. Pure; kept by the outbox, which tells it of every message that has left.
//!
//! The client confirms without knowing: every ping carries a number, and by its pong the client's WebSocket has got all
//! that was sent before that ping.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use bytes::Bytes;

use crate::model::resume::MESSAGE_OVERHEAD_BYTES;

/// Pings whose pongs are waited for. Older ones confirm nothing any more.
const MARKS_MAX: usize = 16;
/// A ping goes out when so much of what may be kept has been sent since the last one: well before the oldest must go.
const MARK_EVERY: usize = 4;

/// What all connections of a node together may keep.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    max: usize,
}

impl Budget {
    pub fn new(max: usize) -> Arc<Budget> {
        Arc::new(Budget { used: AtomicUsize::new(0), max })
    }

    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.max);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What a frame counts.
pub fn cost(frame: &Bytes) -> usize {
    frame.len() + MESSAGE_OVERHEAD_BYTES
}

/// The sent messages of one connection.
#[derive(Debug)]
pub struct Ledger {
    max_bytes: usize,
    budget: Arc<Budget>,
    /// The last of those sent, oldest first, without gaps.
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
    /// Taken from the budget for what waits while there is no socket.
    waiting_bytes: usize,
    /// How many messages have been handed to sockets, whole.
    sent: u64,
    /// The whole of the message that the socket has taken a part of.
    begun: Option<Bytes>,
    /// Numbers of pings that have left, and what had been sent before each.
    marks: VecDeque<(u64, u64)>,
    last_mark: u64,
    sent_since_mark: usize,
}

impl Ledger {
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    pub fn new(max_bytes: usize, budget: Arc<Budget>) -> Ledger {
        Ledger {
            max_bytes,
            budget,
            kept: VecDeque::new(),
            kept_bytes: 0,
            waiting_bytes: 0,
            sent: 0,
            begun: None,
            marks: VecDeque::new(),
            last_mark: 0,
            sent_since_mark: 0,
        }
    }

    /// A part of this message has left.
    pub fn begin(&mut self, whole: &Bytes) {
        self.begun.get_or_insert_with(|| whole.clone());
    }

    pub fn take_begun(&mut self) -> Option<Bytes> {
        self.begun.take()
    }

    /// A message has left, whole. `rest`: what of it left last.
    pub fn sent(&mut self, rest: Bytes) {
        let frame = self.begun.take().unwrap_or(rest);
        let cost = cost(&frame);
        self.sent += 1;
        self.sent_since_mark += cost;
        while self.kept_bytes + cost > self.max_bytes && self.forget_oldest() {}
        while !self.budget.take(cost) {
            if !self.forget_oldest() {
                return; // no room on the whole node: it cannot be sent again
            }
        }
        if cost > self.max_bytes {
            self.budget.give_back(cost);
            return;
        }
        self.kept_bytes += cost;
        self.kept.push_back(frame);
    }

    fn forget_oldest(&mut self) -> bool {
        let Some(oldest) = self.kept.pop_front() else { return false };
        let cost = cost(&oldest);
        self.kept_bytes -= cost;
        self.budget.give_back(cost);
        true
    }

    /// The client is known to have so many messages.
    fn confirm(&mut self, received: u64) {
        while self.sent - (self.kept.len() as u64) < received && self.forget_oldest() {}
        if self.kept.is_empty() {
            self.kept.shrink_to(0);
        }
    }

    /// Whether so much has left since the last ping that it is time for another.
    pub fn wants_mark(&self) -> bool {
        self.sent_since_mark > self.max_bytes / MARK_EVERY
    }

    /// The number of a ping that is queued now.
    pub fn next_mark(&mut self) -> u64 {
        self.sent_since_mark = 0;
        self.last_mark += 1;
        self.last_mark
    }

    /// That ping has left.
    pub fn marked(&mut self, number: u64) {
        if self.marks.len() == MARKS_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back((number, self.sent));
    }

    /// Its pong has come: false when no such ping is waited for.
    pub fn pong(&mut self, number: u64) -> bool {
        let Some(at) = self.marks.iter().position(|(mark, _)| *mark == number) else { return false };
        let (_, sent) = self.marks[at];
        self.marks.drain(..=at);
        self.confirm(sent);
        true
    }

    /// Whether a client that has received so many messages can be sent the rest.
    pub fn can_go_on_from(&self, received: u64) -> bool {
        (self.sent - self.kept.len() as u64..=self.sent).contains(&received)
    }

    /// What must be sent again to a client that has received so many messages: from here on it counts as not sent.
    pub fn go_on_from(&mut self, received: u64) -> VecDeque<Bytes> {
        self.confirm(received);
        self.sent -= self.kept.len() as u64;
        self.marks.clear();
        self.sent_since_mark = 0;
        self.budget.give_back(self.kept_bytes + self.waiting_bytes);
        (self.kept_bytes, self.waiting_bytes) = (0, 0);
        std::mem::take(&mut self.kept)
    }

    // ---- while there is no socket

    /// False: a message that is too large to be kept whatever else is.
    pub fn could_keep(&self, cost: usize) -> bool {
        cost <= self.max_bytes
    }

    /// What may wait beside what is kept.
    pub fn room_bytes(&self) -> usize {
        self.max_bytes.saturating_sub(self.kept_bytes)
    }

    /// Asks the node's budget for a message that is to wait.
    pub fn reserve(&mut self, cost: usize) -> bool {
        let taken = self.budget.take(cost);
        self.waiting_bytes += if taken { cost } else { 0 };
        taken
    }

    /// So much waits now, and no more than was reserved.
    pub fn waits(&mut self, cost: usize) {
        self.budget.give_back(self.waiting_bytes.saturating_sub(cost));
        self.waiting_bytes = self.waiting_bytes.min(cost);
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.budget.give_back(self.kept_bytes + self.waiting_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u8) -> Bytes {
        Bytes::from(vec![number; 36])
    }

    fn ledger(messages: usize, node: usize) -> (Ledger, Arc<Budget>) {
        let budget = Budget::new(node * 100);
        (Ledger::new(messages * 100, budget.clone()), budget)
    }

    fn numbers(frames: VecDeque<Bytes>) -> Vec<u8> {
        frames.iter().map(|frame| frame[0]).collect()
    }

    #[test]
    fn keeps_what_is_not_known_to_be_received() {
        let (mut ledger, budget) = ledger(10, 100);
        for number in 1..=4 {
            ledger.sent(frame(number));
        }
        let ping = ledger.next_mark();
        ledger.marked(ping);
        ledger.sent(frame(5));
        assert!(!ledger.pong(ping + 1) && ledger.pong(ping) && !ledger.pong(ping));
        assert_eq!(budget.used(), 100);
        for (received, possible) in [(3, false), (4, true), (5, true), (6, false)] {
            assert_eq!(ledger.can_go_on_from(received), possible, "{received}");
        }
        assert_eq!(numbers(ledger.go_on_from(4)), [5]);
        assert_eq!(budget.used(), 0);
        ledger.sent(frame(5));
        assert!(ledger.can_go_on_from(5) && !ledger.can_go_on_from(6));
    }

    #[test]
    fn what_is_too_much_is_known_to_be_missing() {
        let (mut ledger, budget) = ledger(3, 100);
        for number in 1..=5 {
            ledger.sent(frame(number));
        }
        assert!(!ledger.can_go_on_from(1) && ledger.can_go_on_from(2));
        assert_eq!(numbers(ledger.go_on_from(3)), [4, 5]);
        ledger.sent(Bytes::from(vec![9; 1000]));
        assert!(!ledger.can_go_on_from(3) && ledger.can_go_on_from(4), "a message that can never be kept");
        drop(ledger);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn all_connections_share_the_nodes_budget() {
        let budget = Budget::new(250);
        let (mut one, mut other) = (Ledger::new(1000, budget.clone()), Ledger::new(1000, budget.clone()));
        one.sent(frame(1));
        one.sent(frame(2));
        other.sent(frame(1));
        assert!(!other.can_go_on_from(0) && other.can_go_on_from(1), "there was no room for it");
        one.sent(frame(3));
        assert!(!one.can_go_on_from(0) && one.can_go_on_from(1), "its oldest made room");
        assert!(!one.reserve(100));
        assert_eq!(numbers(one.go_on_from(1)), [2, 3]);
        assert!(one.reserve(200) && !other.reserve(100));
        one.waits(100);
        assert_eq!(budget.used(), 100);
        drop((one, other));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_begun_message_is_sent_when_it_is_whole() {
        let (mut ledger, _) = ledger(10, 100);
        let whole = frame(1);
        ledger.begin(&whole);
        ledger.begin(&whole.slice(5..));
        assert!(!ledger.can_go_on_from(1));
        ledger.sent(whole.slice(20..));
        assert_eq!(ledger.go_on_from(0), [whole]);
    }

    #[test]
    fn a_ping_is_due_long_before_something_must_go() {
        let (mut ledger, _) = ledger(8, 100);
        let sent = (0..).take_while(|_| {
            ledger.sent(frame(1));
            !ledger.wants_mark()
        });
        assert_eq!(sent.count(), 2);
        ledger.next_mark();
        assert!(!ledger.wants_mark());
    }
}
