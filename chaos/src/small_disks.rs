//! Small disks that only this process and its nodes see: file systems in memory, in a mount namespace that the process
//! enters before it does anything else. What is mounted in it goes with the last process in it. Imports network (the
//! entering of namespaces).

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::Context;

use crate::network::unshare;

/// More than a node has written by the end of a scenario, and quickly filled.
const OPTIONS: &std::ffi::CStr = c"size=64m,mode=0700";

/// That the process is in a mount namespace of its own.
pub struct SmallDisks(());

impl SmallDisks {
    /// Moves this process into a mount namespace of its own. Only while the process has a single thread. An error says
    /// why it cannot be done here.
    pub fn enter() -> anyhow::Result<SmallDisks> {
        unshare(libc::CLONE_NEWNS).context("making a mount namespace needs root, or user namespaces")?;
        // Else the mounts would be seen outside, where the namespace was made with shared ones.
        let flags = libc::MS_REC | libc::MS_PRIVATE;
        // SAFETY: the strings end with a zero, and mount touches no other memory.
        let answer = unsafe { libc::mount(c"none".as_ptr(), c"/".as_ptr(), std::ptr::null(), flags, std::ptr::null()) };
        said(answer).context("keeping mounts to this process")?;
        let disks = SmallDisks(());
        let trial = std::env::temp_dir().join(format!("wsgateway-chaos-disk-{}", std::process::id()));
        std::fs::create_dir_all(&trial).with_context(|| trial.display().to_string())?;
        let mounted = disks.mount(&trial);
        disks.unmount(&trial);
        std::fs::remove_dir(&trial).with_context(|| trial.display().to_string())?;
        mounted.map(|()| disks)
    }

    /// Puts an empty disk where a folder is.
    pub fn mount(&self, folder: &Path) -> anyhow::Result<()> {
        let path = path(folder)?;
        let flags = libc::MS_NOSUID | libc::MS_NODEV;
        // SAFETY: all strings end with a zero, and mount touches no other memory.
        let answer =
            unsafe { libc::mount(c"tmpfs".as_ptr(), path.as_ptr(), c"tmpfs".as_ptr(), flags, OPTIONS.as_ptr().cast()) };
        said(answer).with_context(|| format!("mounting a file system in memory on {}", folder.display()))
    }

    /// Takes it away again, with what is on it.
    pub fn unmount(&self, folder: &Path) {
        if let Ok(path) = path(folder) {
            // An error means that nothing is mounted there; the namespace ends with the process in any case.
            // SAFETY: the string ends with a zero.
            unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        }
    }
}

fn path(folder: &Path) -> anyhow::Result<CString> {
    Ok(CString::new(folder.as_os_str().as_bytes())?)
}

fn said(answer: libc::c_int) -> io::Result<()> {
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
