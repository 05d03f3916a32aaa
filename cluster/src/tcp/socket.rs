//! Socket options of both ends of a link. Called by `link` and `serve`.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// Probes within the dead-link time, after as many idle units as there are probes.
const KEEPALIVE_PROBES: u32 = 3;

/// No delay for small frames, and an end for a link whose other side is gone without a word.
pub(super) fn configure(io: &TcpStream, dead_link: Duration) -> io::Result<()> {
    io.set_nodelay(true)?;
    let socket = SockRef::from(io);
    // Half the time idle, the other half for the probes; the kernel counts in whole seconds.
    let idle = (dead_link / 2).max(Duration::from_secs(1));
    let interval = (dead_link / 2 / KEEPALIVE_PROBES).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(dead_link))?;
    Ok(())
}
