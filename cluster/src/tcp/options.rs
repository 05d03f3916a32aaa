//! Settings of the TCP links and their defaults, each with its reason. May import `transport` and `tls`.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use super::tls::PeerTls;
use crate::transport::Channel;

/// Secrets active at once: the current one and the one that is being rotated in or out.
pub const SECRETS_MAX: usize = 2;

/// Control carries snapshots and batches of Raft entries.
pub const CONTROL_FRAME_BYTES_MAX: usize = 64 << 20;
/// A push is at most one message with its list of receivers.
pub const PUSH_FRAME_BYTES_MAX: usize = 4 << 20;
/// Room in a frame beside the payload: the longest header that postcard can make of `(u64, u16)`.
pub const HEAD_BYTES_MAX: usize = 16;

pub const CONTROL_QUEUE: QueueBounds = QueueBounds { messages_max: 1_024, bytes_max: 2 * CONTROL_FRAME_BYTES_MAX };
pub const PUSH_QUEUE: QueueBounds = QueueBounds { messages_max: 8_192, bytes_max: 4 * PUSH_FRAME_BYTES_MAX };

/// DNS, connecting and the handshake together. Longer than one lost SYN (1 s), shorter than two.
pub const OPEN_TIMEOUT: Duration = Duration::from_millis(2_500);
/// On the accepting side: from the accept to the verdict.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);
/// Unacknowledged bytes for this long break the link (`TCP_USER_TIMEOUT`); an idle link is probed in the same time.
pub const DEAD_LINK_TIMEOUT: Duration = Duration::from_secs(10);
/// The first pause before reopening; it doubles up to the maximum, minus up to half at random.
pub const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Low, because a healed network should be used at once, and one SYN a second and peer costs nothing.
pub const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A link that nobody has asked for in this time is no longer reopened in the background.
pub const REOPEN_WHILE_WANTED: Duration = Duration::from_secs(30);

/// Calls waiting for an answer on one link; beyond, callers get `QueueFull`.
pub const CALLS_PENDING_MAX: usize = 65_536;
/// Requests being answered on one accepted link; beyond, the link is not read.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 1_024;
/// Connections that have not proven themselves yet; beyond, new ones are closed at once.
pub const HANDSHAKES_MAX: usize = 64;
/// Accepted links: two per peer, some more while peers reconnect.
pub const ACCEPTED_LINKS_MAX: usize = 1_024;
/// How long handlers may go on after their link broke.
pub const ORPHANED_HANDLERS_TIMEOUT: Duration = Duration::from_secs(30);
/// How long [`super::TcpTransport::shutdown`] waits for its tasks.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long [`crate::transport::PeerTransport::whois`] waits.
pub const WHOIS_TIMEOUT: Duration = Duration::from_secs(3);

/// What may wait for the writer of one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueBounds {
    pub messages_max: usize,
    pub bytes_max: usize,
}

/// Pauses and deadlines of links.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    pub open: Duration,
    pub handshake: Duration,
    pub dead_link: Duration,
    pub backoff_min: Duration,
    pub backoff_max: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            open: OPEN_TIMEOUT,
            handshake: HANDSHAKE_TIMEOUT,
            dead_link: DEAD_LINK_TIMEOUT,
            backoff_min: BACKOFF_MIN,
            backoff_max: BACKOFF_MAX,
        }
    }
}

/// How to start a [`super::TcpTransport`].
#[derive(Debug)]
pub struct TcpOptions {
    /// Where to listen; port 0 takes a free one. Not looked at when `listener` is given.
    pub listen: SocketAddr,
    /// A listener that is bound already.
    pub listener: Option<TcpListener>,
    /// The first proves this node, all are accepted from others; at most [`SECRETS_MAX`]. None: loopback only.
    pub secrets: Vec<Vec<u8>>,
    /// None: links are in the clear, and nobody who speaks TLS is let in.
    pub tls: Option<PeerTls>,
    pub control_queue: QueueBounds,
    pub push_queue: QueueBounds,
    pub timeouts: Timeouts,
}

impl TcpOptions {
    /// Defaults for everything else.
    pub fn new(listen: SocketAddr, secrets: Vec<Vec<u8>>) -> Self {
        Self {
            listen,
            listener: None,
            secrets,
            tls: None,
            control_queue: CONTROL_QUEUE,
            push_queue: PUSH_QUEUE,
            timeouts: Timeouts::default(),
        }
    }
}

/// Of links and of gossip.
pub(crate) fn check_secrets(secrets: &[Vec<u8>]) -> io::Result<()> {
    if secrets.len() > SECRETS_MAX {
        let reason = format!("{} cluster secrets given, at most {SECRETS_MAX} are allowed", secrets.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    if secrets.iter().any(Vec::is_empty) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a cluster secret is empty"));
    }
    Ok(())
}

/// Without a secret anyone who reaches the port would be a peer, so only this machine may.
pub(crate) fn check_listen(loopback_only: bool, listen: SocketAddr) -> io::Result<()> {
    if loopback_only && !is_loopback(listen.ip()) {
        let reason = format!("the cluster listener {listen} is not on loopback: that needs a cluster secret");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    Ok(())
}

/// Also true for an IPv4 loopback address in IPv6 dress.
pub(super) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// The longest frame on a channel.
pub(crate) fn frame_bytes_max(channel: Channel) -> usize {
    match channel {
        Channel::Control => CONTROL_FRAME_BYTES_MAX,
        Channel::Push | Channel::Tunnel => PUSH_FRAME_BYTES_MAX,
    }
}

/// The longest payload on a channel.
pub(crate) fn payload_bytes_max(channel: Channel) -> usize {
    frame_bytes_max(channel) - HEAD_BYTES_MAX
}
