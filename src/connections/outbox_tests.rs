//! Tests of the outbox.

use std::sync::Arc;

use super::*;
use crate::connections::ledger::Budget;
use crate::connections::watch::Fate;
use crate::model::coalesce::CoalesceBy;
use crate::model::json_path::JsonPath;

fn policy(when_full: WhenFull) -> OutboxSettings {
    OutboxSettings { max_bytes: 100, max_messages: 3, when_full, coalesce_by: None }
}

fn bytes(len: usize) -> Bytes {
    Bytes::from(vec![b'x'; len])
}

#[test]
fn bounds_bytes_and_messages() {
    let mut outbox = Outbox::default();
    let close = policy(WhenFull::Close);
    assert_eq!(outbox.push(bytes(101), &close, None), Queued::Refused, "a frame that can never fit");
    for _ in 0..3 {
        assert_eq!(outbox.push(bytes(10), &close, None), Queued::Yes { dropped: 0 });
    }
    assert_eq!(outbox.push(bytes(10), &close, None), Queued::Close);
    assert_eq!(outbox.push(bytes(10), &policy(WhenFull::DropNewest), None), Queued::Refused);
    assert_eq!(outbox.bytes(), 30);
}

#[test]
fn drop_oldest_never_cuts_a_frame_that_has_begun() {
    let mut outbox = Outbox::default();
    let policy = policy(WhenFull::DropOldest);
    for len in [10, 20, 30] {
        assert_eq!(outbox.push(bytes(len), &policy, None), Queued::Yes { dropped: 0 });
    }
    outbox.written(4);
    assert_eq!(outbox.push(bytes(40), &policy, None), Queued::Yes { dropped: 1 });
    let lens: Vec<usize> = outbox.queue.iter().map(|entry| entry.bytes.len()).collect();
    assert_eq!(lens, [6, 30, 40]);
}

#[test]
fn written_counts_across_frames() {
    let mut outbox = Outbox::default();
    let policy = policy(WhenFull::Close);
    for len in [10, 20] {
        outbox.push(bytes(len), &policy, None);
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
        outbox.push(bytes(len), &policy, None);
    }
    outbox.written(4);
    outbox.clear_unbegun();
    assert_eq!((outbox.bytes(), outbox.messages), (6, 1));
    outbox.written(6);
    outbox.push(bytes(10), &policy, None);
    outbox.clear_unbegun();
    assert!(outbox.is_empty());
}

#[test]
fn control_frames_have_a_reserve_but_not_without_end() {
    let mut outbox = Outbox::default();
    let policy = policy(WhenFull::Close);
    outbox.push(bytes(100), &policy, None);
    let queued = (0..10_000).take_while(|_| outbox.push_control(bytes(127), &policy)).count();
    assert_eq!(queued, CONTROL_RESERVE_BYTES / 127);
}

#[test]
fn pongs_that_nobody_reads_are_a_few() {
    let mut outbox = Outbox::default();
    assert_eq!(outbox.push(bytes(10), &policy(WhenFull::Close), None), Queued::Yes { dropped: 0 });
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

fn watched(expires: Option<Instant>) -> (Watch, tokio::sync::oneshot::Receiver<Fate>) {
    let (tell, fate) = tokio::sync::oneshot::channel();
    (Watch { fate: Some(tell), expires, expired: Default::default() }, fate)
}

#[test]
fn who_waits_for_a_message_hears_what_became_of_it() {
    let mut outbox = Outbox::default();
    let policy = policy(WhenFull::DropOldest);
    let now = Instant::now();
    let mut fates = Vec::new();
    for expires in [Some(now), None, Some(now)] {
        assert_eq!(outbox.push(bytes(20), &policy, None), Queued::Yes { dropped: 0 });
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
        outbox.push(bytes(10), &policy, None);
        outbox.watch_last(watched(expires).0);
    }
    assert_eq!(outbox.push(bytes(11), &policy, None), Queued::Yes { dropped: 0 });
    let lens: Vec<usize> = outbox.queue.iter().map(|entry| entry.bytes.len()).collect();
    assert_eq!(lens, [10, 10, 11]);
}

#[test]
fn who_waits_for_a_message_of_a_lost_client_hears_when_the_next_socket_has_it() {
    let (mut outbox, _budget) = resumable(10_000);
    outbox.detach();
    let now = Instant::now();
    let mut fates = Vec::new();
    for expires in [None, Some(now + std::time::Duration::from_secs(60))] {
        outbox.push_while_away(bytes(10), WhenFull::Close, None);
        let (watch, fate) = watched(expires);
        outbox.watch_last(watch);
        fates.push(fate);
    }
    outbox.attach(0, message(0));
    outbox.drop_expired(now + std::time::Duration::from_secs(61));
    assert_eq!((fates[1].try_recv(), outbox.bytes()), (Ok(Fate::Expired), 11));
    outbox.written(11);
    assert_eq!(fates[0].try_recv(), Ok(Fate::Written));
}

#[test]
fn encodes_all_three_lengths() {
    for (len, header) in [(5, 2), (126, 4), (70_000, 10)] {
        let encoded = frame(Opcode::Text, &vec![b'x'; len]);
        assert_eq!(encoded.len(), len + header);
        assert_eq!(encoded[0], 0x81);
    }
}

/// Messages of one byte, so that they can be told from each other.
fn message(number: u8) -> Bytes {
    Bytes::from(vec![number])
}

fn waiting(outbox: &Outbox) -> Vec<u8> {
    outbox.queue.iter().map(|entry| entry.bytes[0]).collect()
}

fn key(text: &str) -> Option<CoalesceKey> {
    let by = CoalesceBy::new(JsonPath::parse("$.k").unwrap());
    by.key(format!("{{\"k\": \"{text}\"}}").as_bytes())
}

#[test]
fn coalescing_keeps_the_newest_of_each_key_where_it_came() {
    let mut outbox = Outbox::default();
    let policy = OutboxSettings { max_messages: 4, ..policy(WhenFull::Coalesce) };
    for (number, of) in [(1, key("a")), (2, None), (3, key("b"))] {
        assert_eq!(outbox.push(message(number), &policy, of), Queued::Yes { dropped: 0 });
    }
    assert_eq!(outbox.push(message(4), &policy, key("a")), Queued::Yes { dropped: 1 });
    assert_eq!(waiting(&outbox), [2, 3, 4]);
    assert_eq!(outbox.push(message(5), &policy, None), Queued::Yes { dropped: 0 });
    assert_eq!(outbox.push(message(6), &policy, key("b")), Queued::Yes { dropped: 1 }, "full, and it takes a place");
    assert_eq!((waiting(&outbox), outbox.messages, outbox.bytes()), (vec![2, 4, 5, 6], 4, 4));
    assert_eq!(outbox.push(message(7), &policy, None), Queued::Close, "nothing gives way to it");
    assert_eq!(outbox.push(message(7), &policy, key("c")), Queued::Close);
}

#[test]
fn coalescing_leaves_a_frame_that_has_begun() {
    let mut outbox = Outbox::default();
    let policy = policy(WhenFull::Coalesce);
    outbox.push(bytes(10), &policy, key("a"));
    outbox.written(4);
    assert_eq!(outbox.push(message(2), &policy, key("a")), Queued::Yes { dropped: 0 });
    assert_eq!(outbox.push(message(3), &policy, key("a")), Queued::Yes { dropped: 1 });
    assert_eq!((outbox.queue[0].bytes.len(), outbox.queue.len(), outbox.bytes()), (6, 2, 7));
}

fn resumable(max_bytes: usize) -> (Outbox, Arc<Budget>) {
    let budget = Budget::new(1_000_000);
    let ledger = Some(Box::new(Ledger::new(max_bytes, budget.clone())));
    (Outbox { ledger, ..Outbox::default() }, budget)
}

#[test]
fn what_a_lost_socket_had_taken_is_sent_again_before_what_waited() {
    let (mut outbox, budget) = resumable(10_000);
    let policy = policy(WhenFull::Close);
    for number in 1..=3 {
        outbox.push(Bytes::from(vec![number; 10]), &policy, None);
    }
    assert!(outbox.push_ping(&policy));
    outbox.written(25);
    outbox.detach();
    assert_eq!((outbox.bytes(), outbox.is_within_frame()), (10, false), "the third, whole; no ping");
    for number in 4..=9 {
        let queued = outbox.push_while_away(Bytes::from(vec![number; 10]), WhenFull::Close, None);
        assert_eq!(queued, Queued::Yes { dropped: 0 }, "the outbox's own bounds are for slow clients");
    }
    outbox.attach(1, message(0));
    assert_eq!(waiting(&outbox), [0, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!((outbox.queue[2].bytes.len(), outbox.bytes, outbox.messages), (10, 1, 0));
    assert_eq!(budget.used(), 0);
    assert_eq!(outbox.push(message(10), &policy, None), Queued::Yes { dropped: 0 }, "what is owed leaves room");
    outbox.written(1 + 25);
    outbox.detach();
    assert!(outbox.ledger.as_ref().unwrap().can_go_on_from(3) && !outbox.ledger.as_ref().unwrap().can_go_on_from(4));
    outbox.attach(2, message(0));
    assert_eq!(waiting(&outbox), [0, 3, 4, 5, 6, 7, 8, 9, 10]);
}

#[test]
fn what_waits_for_a_lost_client_is_bounded_by_its_rule() {
    for (when_full, end) in [
        (WhenFull::Close, Queued::Close),
        (WhenFull::Coalesce, Queued::Close),
        (WhenFull::DropNewest, Queued::Refused),
        (WhenFull::DropOldest, Queued::Yes { dropped: 1 }),
    ] {
        let (mut outbox, budget) = resumable(3 * 65);
        assert_eq!(outbox.push(message(1), &policy(when_full), None), Queued::Yes { dropped: 0 });
        outbox.written(1);
        outbox.detach();
        for number in 2..=3 {
            assert_eq!(outbox.push_while_away(message(number), when_full, None), Queued::Yes { dropped: 0 });
        }
        assert_eq!(outbox.push_while_away(message(4), when_full, None), end, "{when_full:?}");
        assert_eq!(outbox.push_while_away(bytes(200), when_full, None), Queued::Refused, "{when_full:?}");
        assert_eq!(budget.used(), 3 * 65);
        drop(outbox);
        assert_eq!(budget.used(), 0);
    }
}

#[test]
fn pings_of_a_resumable_connection_tell_what_left_before_them() {
    let (mut outbox, budget) = resumable(10_000);
    let policy = policy(WhenFull::Close);
    outbox.push(message(1), &policy, None);
    assert!(outbox.push_ping(&policy));
    outbox.push(message(2), &policy, None);
    let ping = outbox.queue[1].bytes.clone();
    outbox.written(outbox.bytes());
    let number = u64::from_be_bytes(ping[2..].try_into().unwrap());
    assert!(outbox.ledger.as_mut().unwrap().pong(number));
    assert_eq!(budget.used(), 65);
    assert!(!outbox.ledger.as_ref().unwrap().can_go_on_from(0));
}

/// Queues as outlet does.
fn queue(outbox: &mut Outbox, policy: &OutboxSettings, payload: &[u8]) -> Queued {
    let queued = outbox.push(frame(Opcode::Text, payload), policy, None);
    if let Queued::Yes { .. } = queued {
        outbox.share_last();
    }
    queued
}

/// How many frames lie right behind the one before them.
fn neighbours(outbox: &Outbox) -> usize {
    let pairs = outbox.queue.iter().zip(outbox.queue.iter().skip(1));
    pairs.filter(|(a, b)| a.bytes.as_ptr_range().end == b.bytes.as_ptr()).count()
}

#[test]
fn frames_that_wait_together_share_buffers_and_stay_what_they_are() {
    let policy = OutboxSettings { max_bytes: 1 << 20, max_messages: 1_000, ..policy(WhenFull::Close) };
    let mut outbox = Outbox::default();
    let payload = |n: usize| vec![n as u8; [10, 130, 3_000, 5_000, 0][n % 5]];
    for n in 0..200 {
        assert_eq!(queue(&mut outbox, &policy, &payload(n)), Queued::Yes { dropped: 0 });
    }
    assert!(neighbours(&outbox) > 80, "small ones lie behind each other");
    for n in 0..200 {
        assert_eq!(outbox.queue[0].bytes, frame(Opcode::Text, &payload(n)), "{n}");
        let length = outbox.queue[0].bytes.len();
        outbox.written(length);
    }
    assert!(outbox.is_empty() && outbox.shared.is_none(), "an idle connection keeps no buffer");
}

#[test]
fn messages_that_are_refused_take_no_room_in_shared_buffers() {
    let policy = OutboxSettings { max_bytes: 1 << 20, max_messages: 100, ..policy(WhenFull::DropNewest) };
    let mut outbox = Outbox::default();
    for n in 0..2_000u32 {
        let queued = queue(&mut outbox, &policy, &[n as u8; 500]);
        assert_eq!(queued == Queued::Refused, n >= 100 && n % 20 != 0, "{n}");
        if n >= 99 && n % 20 == 19 {
            let length = outbox.queue[0].bytes.len();
            outbox.written(length);
        }
    }
    assert!(neighbours(&outbox) > 90, "a few buffers hold them all: {}", neighbours(&outbox));
}

#[test]
fn the_answer_to_the_handshake_is_first_and_never_dropped() {
    let mut outbox = Outbox::behind(Bytes::from_static(b"HTTP/1.1 101"));
    for n in 0..9 {
        let _full = outbox.push(frame(Opcode::Text, &[n; 30]), &policy(WhenFull::DropOldest), None);
    }
    outbox.clear_unbegun();
    let mut slices = [std::io::IoSlice::new(&[]); 4];
    assert_eq!(outbox.slices(&mut slices), 1);
    assert_eq!(&*slices[0], b"HTTP/1.1 101");
    outbox.written(12);
    assert!(outbox.is_empty() && outbox.bytes() == 0 && !outbox.is_within_frame());
}
