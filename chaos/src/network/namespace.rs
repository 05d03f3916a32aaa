//! Network namespaces without names: one that the process moves into, and further ones that it holds open. For `network`.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A namespace that lives as long as this, or as a process in it.
pub struct Namespace(File);

impl Namespace {
    /// A new one. A thread makes it, since the one who makes it is in it.
    pub fn new() -> io::Result<Namespace> {
        let making = std::thread::spawn(|| {
            unshare_flags(libc::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net").map(Namespace)
        });
        making.join().map_err(|_| io::Error::other("the thread that makes a namespace has panicked"))?
    }

    /// A path by which commands that are started now find it.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Makes a command start in it.
    pub fn enter(&self, command: &mut Command) {
        let descriptor: RawFd = self.0.as_raw_fd();
        // SAFETY: setns is async-signal-safe; the descriptor is open as long as this is, which outlives the start.
        unsafe {
            command.pre_exec(move || match libc::setns(descriptor, libc::CLONE_NEWNET) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
    }
}

#[cfg(test)]
impl Namespace {
    /// Does something in it, on a thread of its own. What is opened there stays there.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let acting = scope.spawn(|| {
                // SAFETY: setns takes numbers; the descriptor is open.
                assert_eq!(unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
                act()
            });
            acting.join().unwrap()
        })
    }
}

/// Moves the process, which must have one thread only, into a new namespace of the kind that the flag says: as root, or
/// else as the root of a user namespace, where that is allowed.
pub fn unshare(flag: libc::c_int) -> io::Result<()> {
    let Err(refused) = unshare_flags(flag) else { return Ok(()) };
    // SAFETY: these take nothing and cannot fail.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    unshare_flags(libc::CLONE_NEWUSER | flag).map_err(|_| refused)?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

fn unshare_flags(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: unshare takes a number, and touches no memory of ours.
    match unsafe { libc::unshare(flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
