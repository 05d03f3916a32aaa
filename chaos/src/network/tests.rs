//! What the network does to what is sent over it, where it can be made.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::*;

const ARRIVES_WITHIN: Duration = Duration::from_millis(500);

/// Whether something that is sent now arrives.
fn arrives(from: &UdpSocket, to: &UdpSocket) -> bool {
    static NUMBERS: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);
    let number = NUMBERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    from.send_to(&[number], to.local_addr().unwrap()).unwrap();
    let mut got = [0];
    // What was sent before may come late.
    while to.recv(&mut got).is_ok() {
        if got[0] == number {
            return true;
        }
    }
    false
}

/// On a thread of its own: it stays in the network that it enters. None: not on this machine.
fn network() -> Option<Network> {
    match Network::enter(2) {
        Ok(network) => Some(network),
        Err(err) => {
            let said = format!("{err:#}");
            assert!(said.contains("needs root") || said.contains("there is no"), "not here, and why: {said}");
            None
        }
    }
}

fn socket(address: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.set_read_timeout(Some(ARRIVES_WITHIN)).unwrap();
    socket
}

#[test]
fn what_is_cut_is_cut_and_the_switch_reaches_all() {
    let Some(network) = network() else { return };
    let [one, two] = [0, 1].map(|node| network.nodes[node].within(|| socket(network.node(node))));
    let suite = socket(network.switch());
    let seen = || [arrives(&one, &two), arrives(&two, &one), arrives(&suite, &one), arrives(&one, &suite)];
    // The first question for a hardware address may come before a cable is up, and is asked again after a second.
    let deadline = Instant::now() + Duration::from_secs(20);
    while seen() != [true; 4] {
        assert!(Instant::now() < deadline, "not all reach each other");
    }
    network.change(|cuts| assert!(cuts.mute.insert(0))).unwrap();
    assert_eq!(seen(), [false, true, true, true], "mute");
    network.change(|cuts| assert!(cuts.deaf.insert(0))).unwrap();
    assert_eq!(seen(), [false, false, true, true], "mute and deaf");
    network.change(|cuts| assert!(cuts.mute.remove(&0))).unwrap();
    assert_eq!(seen(), [true, false, true, true], "deaf");
    network.change(|cuts| *cuts = Cuts { loss_percent: 40, ..Cuts::default() }).unwrap();
    for _ in 0..100 {
        one.send_to(&[0], two.local_addr().unwrap()).unwrap();
    }
    let through = std::iter::from_fn(|| two.recv(&mut [0]).ok()).count();
    assert!((30..90).contains(&through), "{through} of 100 with a loss of 40 %");
    network.change(|cuts| *cuts = Cuts::default()).unwrap();
    assert_eq!(seen(), [true; 4]);
}

const SLOW: RangeInclusive<u64> = 60..=160;

#[test]
fn a_slow_line_delays_all_and_changes_nothing() {
    let Some(network) = network() else { return };
    let [one, two] = [0, 1].map(|node| network.nodes[node].within(|| socket(network.node(node))));
    let suite = socket(network.switch());
    let deadline = Instant::now() + Duration::from_secs(20);
    while !(arrives(&one, &two) && arrives(&two, &one) && arrives(&suite, &one)) {
        assert!(Instant::now() < deadline, "not all reach each other");
    }
    network.change(|cuts| cuts.slow = Some(Slow { nodes: BTreeSet::from([0]), millis: SLOW })).unwrap();
    let least = Duration::from_millis(*SLOW.start());
    for _ in 0..5 {
        let sent = Instant::now();
        assert!(arrives(&one, &two), "a slow line loses nothing");
        assert!(sent.elapsed() >= least, "{:?}", sent.elapsed());
    }
    let sent = Instant::now();
    assert!(arrives(&suite, &one) && sent.elapsed() < least, "the suite's own lines are as fast as ever");

    // Far more than a window, so that the kernel hands out whole segments, with their checksums still to be made.
    let bytes: Vec<u8> = (0..4_000_000_u32).map(|at| (at % 251) as u8).collect();
    let listener = network.nodes[1].within(|| TcpListener::bind((network.node(1), 0)).unwrap());
    let address = listener.local_addr().unwrap();
    let mut calling = network.nodes[0].within(|| TcpStream::connect(address).unwrap());
    let (mut called, _) = listener.accept().unwrap();
    let reading = std::thread::spawn(move || {
        let mut got = Vec::new();
        called.read_to_end(&mut got).map(|_| got)
    });
    calling.write_all(&bytes).unwrap();
    drop(calling);
    assert!(reading.join().unwrap().unwrap() == bytes, "what arrives is what was sent, in its order");

    network.change(|cuts| assert!(cuts.mute.insert(0))).unwrap();
    assert!(!arrives(&one, &two) && arrives(&two, &one), "mute, beside being slow");
    network.change(|cuts| *cuts = Cuts::default()).unwrap();
    let sent = Instant::now();
    assert!(arrives(&one, &two) && sent.elapsed() < least, "as before");
    assert_eq!(network.delayed().1, 0, "frames lost");
}

#[test]
fn both_ends_of_a_reset_connection_are_told_and_clients_can_be_cut_off_alone() {
    let Some(network) = network() else { return };
    let listener = network.nodes[1].within(|| TcpListener::bind((network.node(1), 0)).unwrap());
    let address = listener.local_addr().unwrap();
    let mut calling = network.nodes[0].within(|| TcpStream::connect(address).unwrap());
    let (mut called, _) = listener.accept().unwrap();
    assert_eq!(network.reset(0, 1).unwrap(), 1);
    assert!(calling.read(&mut [0]).is_err(), "the caller is told");
    assert!(called.read(&mut [0]).is_err(), "and the called one");

    let [client, suite] = [network.clients(), network.switch()].map(socket);
    let node = network.nodes[0].within(|| socket(network.node(0)));
    let seen = || [arrives(&client, &node), arrives(&node, &client), arrives(&suite, &node), arrives(&node, &suite)];
    assert_eq!(seen(), [true; 4]);
    network.change(|cuts| assert!(cuts.without_clients.insert(0))).unwrap();
    assert_eq!(seen(), [false, false, true, true]);
}
