//! What the kernel says about a process, and the limits of this one. Linux only (`/proc`).

use std::fs;
use std::net::SocketAddr;
use std::process::Child;

use anyhow::Context;

/// CPU seconds (user + system, all threads, ended ones included) of process `pid`. Resolution: one clock tick, 10 ms.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("reading what the kernel says about process {pid}"))?;
    let ticks = cpu_ticks(&stat).with_context(|| format!("unreadable /proc/{pid}/stat"))?;
    // SAFETY: sysconf only reads a constant of the system.
    let ticks_per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Ok(ticks as f64 / ticks_per_second as f64)
}

/// utime + stime: fields 14 and 15 of proc_pid_stat(5). The second field, the command, may hold spaces and brackets.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut after_command = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().skip(11);
    let user: u64 = after_command.next()?.parse().ok()?;
    let system: u64 = after_command.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident bytes of process `pid`. `smaps_rollup` counts pages as they are; `VmRSS` may lag by some pages a thread.
pub fn rss_bytes(pid: u32) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .or_else(|_| fs::read_to_string(format!("/proc/{pid}/status")))
        .with_context(|| format!("reading what the kernel says about process {pid}"))?;
    let kilobytes = text
        .lines()
        .find_map(|line| line.strip_prefix("Rss:").or_else(|| line.strip_prefix("VmRSS:")))
        .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .with_context(|| format!("no resident size for process {pid}"))?;
    Ok(kilobytes * 1024)
}

/// Bytes that the kernel holds for TCP sockets, in queues and reserved for them: those of all processes of the machine.
pub fn tcp_memory_bytes() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/net/sockstat").context("no /proc/net/sockstat")?;
    page_bytes(tcp_memory_pages(&text).context("unreadable /proc/net/sockstat")?)
}

/// Bytes from which on the kernel takes memory away from TCP sockets.
pub fn tcp_memory_pressure_bytes() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/tcp_mem").context("no tcp_mem")?;
    // Pages: below which all is well, from which on there is pressure, and the end.
    let pressure = text.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse().ok());
    page_bytes(pressure.context("unreadable tcp_mem")?)
}

fn page_bytes(pages: u64) -> anyhow::Result<u64> {
    // SAFETY: sysconf only reads a constant of the system.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Ok(pages * u64::try_from(bytes)?)
}

/// `TCP: inuse 5 orphan 0 tw 0 alloc 5 mem 212`: the number after `mem`.
fn tcp_memory_pages(sockstat: &str) -> Option<u64> {
    let mut words = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?.split_ascii_whitespace();
    words.find(|word| *word == "mem")?;
    words.next()?.parse().ok()
}

/// Connections that were accepted at `address` (IPv4) and that a process still holds, in whatever state. The kernel may
/// hold more of them, to deliver what their processes have left behind.
pub fn accepted_sockets(address: SocketAddr) -> anyhow::Result<usize> {
    let text = fs::read_to_string("/proc/net/tcp").context("no /proc/net/tcp")?;
    Ok(held_at_port(&text, address.port()))
}

/// The lines of proc_net_tcp(5) with this local port and an inode, which is what a socket of a process has, apart from
/// the one that listens.
fn held_at_port(table: &str, port: u16) -> usize {
    const LISTENS: &str = "0A";
    let local = format!(":{port:04X}");
    let held = |line: &&str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, address, _, state, _, _, _, _, _, inode, ..] = fields[..] else { return false };
        address.ends_with(&local) && state != LISTENS && inode != "0"
    };
    table.lines().filter(held).count()
}

/// Raises the soft limit of open files to the hard one (children inherit it) and gives that.
pub fn raise_open_files_limit() -> anyhow::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid pointer to a struct that outlives them.
    let done = unsafe {
        let read = libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        read == 0 && libc::setrlimit(libc::RLIMIT_NOFILE, &limit) == 0
    };
    anyhow::ensure!(done, "RLIMIT_NOFILE: {}", std::io::Error::last_os_error());
    Ok(limit.rlim_cur)
}

/// Makes the kernel kill the command's process when this program dies without having cleaned up.
pub fn die_with_parent(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: prctl is async-signal-safe, and nothing else runs between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

/// A child that is killed, by its id, when its owner lets go of it: at the end, on an error, on a signal.
pub struct Owned(pub Child);

impl Owned {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Both fail only when it has ended already, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_survive_an_odd_command_name() {
        let stat = "42 (a) b (c) S 1 1 1 0 -1 4194560 100 0 0 0 7 5 0 0 20 0 1 0 100 0 0";
        assert_eq!(cpu_ticks(stat), Some(12));
        assert_eq!(cpu_ticks("42 (a"), None);
    }

    #[test]
    fn tcp_memory_is_the_number_of_its_line() {
        let text = "sockets: used 18\nTCP: inuse 5 orphan 0 tw 0 alloc 5 mem 212\nUDP: inuse 0 mem 7\n";
        assert_eq!(tcp_memory_pages(text), Some(212));
        assert_eq!(tcp_memory_pages("UDP: inuse 0 mem 7\n"), None);
        assert!(tcp_memory_bytes().unwrap() < 2 * tcp_memory_pressure_bytes().unwrap());
    }

    #[test]
    fn sockets_count_as_long_as_a_process_holds_them() {
        let table =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 901 1 0 100 0\n\
            1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 902 1 0 20 4\n\
            2: 0100007F:1F90 0100007F:D432 04 00010000:00000000 01:00000014 00000000     0        0 0 1 0 20 4\n\
            3: 0100007F:D431 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 903 1 0 20 4\n";
        assert_eq!(held_at_port(table, 8080), 1);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let accepted = listener.accept().unwrap();
        assert_eq!(accepted_sockets(address).unwrap(), 1);
        drop(accepted);
        assert_eq!(accepted_sockets(address).unwrap(), 0);
    }

    #[test]
    fn this_process_has_figures() {
        assert!(rss_bytes(std::process::id()).unwrap() > 100_000);
        assert!(cpu_seconds(std::process::id()).unwrap() >= 0.0);
        assert!(cpu_seconds(u32::MAX).is_err());
    }
}
