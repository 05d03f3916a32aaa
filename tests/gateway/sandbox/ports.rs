//! Free ports for nodes. Taken from below the kernel's ephemeral range: a node that restarts must find its ports free,
//! and an ephemeral one might meanwhile serve as the local end of somebody's outgoing connection.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Mutex;

const FIRST: u16 = 10_500;
/// The usual start of the ephemeral range is 32,768.
const LAST: u16 = 31_900;

/// A port that nobody listens on and that was not handed out before.
pub fn free_for_tcp() -> SocketAddr {
    free(|addr| TcpListener::bind(addr).is_ok())
}

/// The cluster listener uses one number for both.
pub fn free_for_tcp_and_udp() -> SocketAddr {
    free(|addr| TcpListener::bind(addr).is_ok() && UdpSocket::bind(addr).is_ok())
}

fn free(is_free: impl Fn(SocketAddr) -> bool) -> SocketAddr {
    static HANDED_OUT: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut handed_out = HANDED_OUT.lock().unwrap();
    for _ in 0..2_000 {
        // By lot, so that two test processes seldom try the same.
        let port = rand::random_range(FIRST..=LAST);
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if !handed_out.contains(&port) && is_free(addr) {
            handed_out.insert(port);
            return addr;
        }
    }
    panic!("no free port between {FIRST} and {LAST}");
}
