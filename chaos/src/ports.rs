//! Free ports on loopback. Imports nothing of the crate.

use std::net::{TcpListener, UdpSocket};

use anyhow::bail;

/// Below the range that systems take the ports of outgoing connections from: while a node is down, nothing else may get
/// its port.
const RANGE: std::ops::Range<u16> = 11_000..31_000;

/// Ports on which neither TCP nor UDP is in use, starting somewhere by chance so that runs beside each other differ.
pub fn free(count: usize) -> anyhow::Result<Vec<u16>> {
    let length = RANGE.end - RANGE.start;
    let first = rand::random_range(0..length);
    let all = (0..length).map(|step| RANGE.start + (first + step) % length);
    let found: Vec<u16> = all.filter(|port| is_free(*port)).take(count).collect();
    if found.len() < count {
        bail!("only {} of {count} ports between {} and {} are free", found.len(), RANGE.start, RANGE.end);
    }
    Ok(found)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok()
}
