//! A slow line between nodes. The kernel may have no netem, so frames are taken off the switch's ports as they come in, are
//! kept for a while, and are put out at the port that they were for: whole frames, TCP, gossip and questions for hardware
//! addresses alike, each line in its order. The switch itself passes none of these meanwhile (`cuts`). For `network`.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::cuts::{port, Cuts, Slow};

/// What the kernel puts before a frame: which checksums are still missing and how large its parts shall be. Nodes hand whole
/// segments of up to 64 KiB to their cable, and leave the rest to the other end.
const OFFLOAD_BYTES: usize = 10;
const FRAME_BYTES_MAX: usize = OFFLOAD_BYTES + 14 + 65_536;
/// Of one line in one direction. A line that has more under way loses frames, as real ones do.
const UNDER_WAY_BYTES_MAX: usize = 16 << 20;
/// A port's frames that were not taken yet.
const RECEIVE_BUFFER_BYTES: libc::c_int = 8 << 20;
/// A line is as slow as it is for so long, then another time: jitter, without frames that overtake each other.
const REDRAWN_AFTER: Duration = Duration::from_millis(200);
/// `linux/if_packet.h`; the crate libc does not have them.
const PACKET_STATISTICS: libc::c_int = 6;
const PACKET_VNET_HDR: libc::c_int = 15;
/// How soon an end is noticed when nothing comes.
const LOOK_MILLIS: u128 = 20;

/// Frames of all slow lines so far.
#[derive(Default)]
pub struct Counts {
    pub carried: AtomicU64,
    /// By the line itself, with nobody asking for it.
    pub lost: AtomicU64,
}

/// The lines, as long as some are slow. When dropped, what is under way still arrives.
pub struct Delay {
    over: Arc<AtomicBool>,
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Delay {
    /// Begins to take frames. The switch must not pass those of slow lines any more.
    pub fn start(nodes: usize, cuts: Arc<RwLock<Cuts>>, counts: Arc<Counts>) -> io::Result<Delay> {
        let over = Arc::new(AtomicBool::new(false));
        let ports = (0..nodes).map(|node| tap(&port(node))).collect::<io::Result<Vec<OwnedFd>>>()?;
        let line = |number: usize| Line {
            from: number / nodes,
            to: number % nodes,
            under_way: VecDeque::new(),
            bytes: 0,
            rng: StdRng::seed_from_u64(number as u64),
            delay: Duration::ZERO,
            redrawn: None,
        };
        let lines = (0..nodes * nodes).map(line).collect();
        let mut relay = Relay { ports, lines, cuts, counts, over: over.clone() };
        std::thread::Builder::new().name("delay".to_owned()).spawn(move || relay.run())?;
        Ok(Delay { over })
    }
}

/// One line in one direction.
struct Line {
    from: usize,
    to: usize,
    under_way: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    rng: StdRng,
    delay: Duration,
    redrawn: Option<Instant>,
}

impl Line {
    /// `false`: it is full.
    fn take(&mut self, frame: &[u8], slow: &Slow, now: Instant) -> bool {
        if self.bytes + frame.len() > UNDER_WAY_BYTES_MAX {
            return false;
        }
        if self.redrawn.is_none_or(|redrawn| now.duration_since(redrawn) >= REDRAWN_AFTER) {
            self.redrawn = Some(now);
            self.delay = Duration::from_millis(self.rng.random_range(slow.millis.clone()));
        }
        let after_the_last = self.under_way.back().map_or(now, |(due, _)| *due);
        self.under_way.push_back((after_the_last.max(now + self.delay), frame.to_vec()));
        self.bytes += frame.len();
        true
    }

    fn next_due(&mut self, now: Instant) -> Option<Vec<u8>> {
        let (due, _) = self.under_way.front()?;
        if *due > now {
            return None;
        }
        let (_, frame) = self.under_way.pop_front()?;
        self.bytes -= frame.len();
        Some(frame)
    }
}

struct Relay {
    ports: Vec<OwnedFd>,
    /// From each to each.
    lines: Vec<Line>,
    cuts: Arc<RwLock<Cuts>>,
    counts: Arc<Counts>,
    over: Arc<AtomicBool>,
}

impl Relay {
    fn run(&mut self) {
        let mut frame = vec![0; FRAME_BYTES_MAX];
        loop {
            let over = self.over.load(Ordering::Relaxed);
            if over && self.lines.iter().all(|line| line.under_way.is_empty()) {
                return;
            }
            self.wait(over);
            let cuts = self.cuts.read().unwrap_or_else(PoisonError::into_inner).clone();
            for from in 0..self.ports.len() {
                if over {
                    continue;
                }
                while let Some(length) = receive(&self.ports[from], &mut frame) {
                    self.take(from, &frame[..length], &cuts);
                }
                if let Some(lost) = lost(&self.ports[from]) {
                    self.counts.lost.fetch_add(lost, Ordering::Relaxed);
                }
            }
            self.put_out(&cuts);
        }
    }

    /// Until something comes in or is due.
    fn wait(&self, over: bool) {
        let now = Instant::now();
        let due = self.lines.iter().filter_map(|line| line.under_way.front()).map(|(due, _)| *due).min();
        let left = due.map_or(LOOK_MILLIS, |due| due.saturating_duration_since(now).as_micros().div_ceil(1000));
        let events = if over { 0 } else { libc::POLLIN };
        let watched = |port: &OwnedFd| libc::pollfd { fd: port.as_raw_fd(), events, revents: 0 };
        let mut watched: Vec<libc::pollfd> = self.ports.iter().map(watched).collect();
        let millis = left.min(LOOK_MILLIS) as libc::c_int;
        // SAFETY: the pointer and the count are those of the vector. Whatever it says, the caller looks for itself.
        unsafe { libc::poll(watched.as_mut_ptr(), watched.len() as libc::nfds_t, millis) };
    }

    fn take(&mut self, from: usize, frame: &[u8], cuts: &Cuts) {
        let Some(slow) = &cuts.slow else { return };
        let Some(receiver) = frame.get(OFFLOAD_BYTES..OFFLOAD_BYTES + 6) else { return };
        let now = Instant::now();
        let to_all = receiver[0] & 1 == 1;
        for line in self.lines.iter_mut().filter(|line| line.from == from && slow.has(from, line.to)) {
            if (to_all || receiver == hardware_address(line.to)) && !line.take(frame, slow, now) {
                self.counts.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn put_out(&mut self, cuts: &Cuts) {
        let now = Instant::now();
        for line in &mut self.lines {
            while let Some(frame) = line.next_due(now) {
                // The switch's rules do not see these frames, so what they say is done here.
                let lost = cuts.loss_percent > 0 && line.rng.random_range(0..100) < cuts.loss_percent;
                if lost || cuts.mute.contains(&line.from) || cuts.deaf.contains(&line.to) {
                    continue;
                }
                let count = if send(&self.ports[line.to], &frame) { &self.counts.carried } else { &self.counts.lost };
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// A node's own, given by `network`, so that frames tell whom they are for.
pub fn hardware_address(node: usize) -> [u8; 6] {
    [0x02, 0x77, 0, 0, 0, node as u8 + 1]
}

/// A socket that gets what comes in at a port, whatever becomes of it, and can put frames out at it.
fn tap(port: &str) -> io::Result<OwnedFd> {
    let every = (libc::ETH_P_ALL as u16).to_be();
    let name = std::ffi::CString::new(port)?;
    // SAFETY: socket takes numbers, and what it returns is nobody else's; if_nametoindex reads a string that ends in zero.
    let (socket, index) = unsafe {
        // Without a protocol it gets nothing until it is bound to its port.
        let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        (OwnedFd::from_raw_fd(socket), libc::if_nametoindex(name.as_ptr()))
    };
    set(&socket, libc::SOL_PACKET, PACKET_VNET_HDR, 1)?;
    set(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
    // Beyond the system's limit where that is allowed.
    if set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES).is_err() {
        set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER_BYTES)?;
    }
    // SAFETY: all zeros is an address; bind reads as many bytes as it is told, which is its size.
    let bound = unsafe {
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as libc::c_ushort;
        address.sll_protocol = every;
        address.sll_ifindex = index as libc::c_int;
        let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size)
    };
    if bound != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

fn set(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: setsockopt reads the number that it is given, of its size.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How many bytes of it are a frame; none now: nothing has come.
fn receive(port: &OwnedFd, into: &mut [u8]) -> Option<usize> {
    // SAFETY: recv writes at most as many bytes as the slice has.
    let length = unsafe { libc::recv(port.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), 0) };
    usize::try_from(length).ok()
}

fn send(port: &OwnedFd, frame: &[u8]) -> bool {
    // SAFETY: send reads the bytes of the slice.
    unsafe { libc::send(port.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) >= 0 }
}

/// Frames that came faster than they were taken since the last time; asking sets it back.
fn lost(port: &OwnedFd) -> Option<u64> {
    let mut counts = [0_u32; 2];
    let mut size = size_of_val(&counts) as libc::socklen_t;
    let into = (&raw mut counts).cast();
    // SAFETY: getsockopt writes at most `size` bytes, which is what the array has.
    let asked = unsafe { libc::getsockopt(port.as_raw_fd(), libc::SOL_PACKET, PACKET_STATISTICS, into, &raw mut size) };
    (asked == 0 && counts[1] > 0).then(|| u64::from(counts[1]))
}
