//! What the node has made durable, one line each in a file that `chaos` reads after the node was killed. Sizes and listings
//! are taken before the real call, which makes no more than that durable, and written after it, so that a line never says
//! too much. For `lib`.
//!
//! `F inode born size` – the file's first `size` bytes, and `D inode born entries` – the folder's entries, as `inode:name`
//! in turn, the last one followed by a slash, which no name has. `born` is the time of birth in nanoseconds: file systems
//! give an inode's number away again.
//!
//! Renames have a target that is replaced; a power failure may bring it back. So it is kept by a further name,
//! `inode.born`, in a folder of the same file system.

use std::ffi::CStr;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

use libc::{c_char, c_int};

use crate::{call, keeping_errno, variable, Real};

/// Names the file that lines are appended to.
const LOG: &CStr = c"CHAOS_SHIM_DURABLE";
/// By how many milliseconds more a file's sync takes.
const SYNC_MILLIS: &CStr = c"CHAOS_SHIM_SYNC_MILLIS";
/// Names the folder for replaced files.
const KEPT: &CStr = c"CHAOS_SHIM_KEPT";
/// A folder with more is written down incompletely, without the end mark, and then not believed.
const LISTING_BYTES_MAX: usize = 256 * 1024;

static FSYNC: Real = Real::new(c"fsync");
static FDATASYNC: Real = Real::new(c"fdatasync");
static RENAME: Real = Real::new(c"rename");

const NOT_OPENED: i32 = -2;
const NOT_WANTED: i32 = -1;
static LOG_FILE: AtomicI32 = AtomicI32::new(NOT_OPENED);

/// # Safety
/// As of the function of this name.
#[no_mangle]
pub unsafe extern "C" fn fsync(file: c_int) -> c_int {
    noting(file, || call!(FSYNC, unsafe extern "C" fn(c_int) -> c_int, file))
}

/// # Safety
/// As of the function of this name.
#[no_mangle]
pub unsafe extern "C" fn fdatasync(file: c_int) -> c_int {
    noting(file, || call!(FDATASYNC, unsafe extern "C" fn(c_int) -> c_int, file))
}

/// # Safety
/// As of the function of this name.
#[no_mangle]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    keeping_errno(|| keep(to));
    call!(RENAME, unsafe extern "C" fn(*const c_char, *const c_char) -> c_int, from, to)
}

fn noting(file: c_int, sync: impl FnOnce() -> c_int) -> c_int {
    let log = log();
    if log < 0 {
        return sync();
    }
    let before = keeping_errno(|| Identity::of(file, c""));
    match before {
        Some(identity) if identity.is_folder => {
            // One after the other: the buffer is too large for a stack.
            static LISTING: Mutex<Text<LISTING_BYTES_MAX>> = Mutex::new(Text::new());
            let mut text = LISTING.lock().unwrap_or_else(PoisonError::into_inner);
            keeping_errno(|| list(file, &identity, &mut text));
            let answer = sync();
            if answer == 0 {
                keeping_errno(|| text.append_to(log));
            }
            answer
        }
        Some(identity) => {
            keeping_errno(slow_disk);
            let answer = sync();
            if answer == 0 {
                let mut text = Text::<128>::new();
                let _fits = writeln!(text, "F {} {} {}", identity.inode, identity.born, identity.size);
                keeping_errno(|| text.append_to(log));
            }
            answer
        }
        None => sync(),
    }
}

/// Before a file's sync, which makes no more durable than what was there before that.
fn slow_disk() {
    static MILLIS: AtomicI32 = AtomicI32::new(NOT_OPENED);
    let mut millis = MILLIS.load(Ordering::Relaxed);
    if millis == NOT_OPENED {
        let digits = variable(SYNC_MILLIS).map_or(&b""[..], CStr::to_bytes);
        millis = digits.iter().fold(0, |sum: i32, digit| {
            sum.saturating_mul(10).saturating_add(i32::from(digit.wrapping_sub(b'0').min(9)))
        });
        MILLIS.store(millis, Ordering::Relaxed);
    }
    if millis > 0 {
        let (seconds, millis) = (i64::from(millis / 1_000), i64::from(millis % 1_000));
        let pause = libc::timespec { tv_sec: seconds, tv_nsec: millis * 1_000_000 };
        // SAFETY: both are timespecs; nobody asks for what was left of an interrupted pause.
        unsafe { libc::nanosleep(&raw const pause, std::ptr::null_mut()) };
    }
}

/// The file for lines; negative when none is wanted.
fn log() -> c_int {
    let known = LOG_FILE.load(Ordering::Acquire);
    if known != NOT_OPENED {
        return known;
    }
    let opened = keeping_errno(|| {
        let Some(path) = variable(LOG) else { return NOT_WANTED };
        let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC;
        // SAFETY: the path ends with a zero.
        unsafe { libc::open(path.as_ptr(), flags, 0o644) }.max(NOT_WANTED)
    });
    match LOG_FILE.compare_exchange(NOT_OPENED, opened, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => opened,
        Err(others) => {
            // SAFETY: opened above by this thread, or -1, which close refuses.
            keeping_errno(|| unsafe { libc::close(opened) });
            others
        }
    }
}

/// Which file, whatever it is called.
struct Identity {
    inode: u64,
    born: u64,
    size: u64,
    is_folder: bool,
}

impl Identity {
    /// Of a path relative to an opened folder; with an empty path, of the opened file itself.
    fn of(at: c_int, path: &CStr) -> Option<Identity> {
        // SAFETY: all zeroes is a valid statx; the call fills it or says that it failed.
        let (answer, stat) = unsafe {
            let mut stat: libc::statx = std::mem::zeroed();
            let wanted = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
            let flags = libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW;
            (libc::statx(at, path.as_ptr(), flags, wanted, &raw mut stat), stat)
        };
        let kind = u32::from(stat.stx_mode) & libc::S_IFMT;
        let is_folder = kind == libc::S_IFDIR;
        let born = stat.stx_btime.tv_sec.unsigned_abs() * 1_000_000_000 + u64::from(stat.stx_btime.tv_nsec);
        (answer == 0 && (is_folder || kind == libc::S_IFREG)).then_some(Identity {
            inode: stat.stx_ino,
            born,
            size: stat.stx_size,
            is_folder,
        })
    }
}

/// Gives a file that is about to be replaced a further name.
fn keep(path: *const c_char) {
    let Some(folder) = variable(KEPT) else { return };
    if path.is_null() {
        return;
    }
    // SAFETY: the caller's path, which ends with a zero, as rename wants it.
    let path = unsafe { CStr::from_ptr(path) };
    let Some(identity) = Identity::of(libc::AT_FDCWD, path).filter(|identity| !identity.is_folder) else { return };
    let mut name = Text::<4096>::new();
    let Ok(folder) = folder.to_str() else { return };
    if write!(name, "{folder}/{}.{}\0", identity.inode, identity.born).is_ok() {
        // SAFETY: both paths end with a zero. It may exist already: then it is kept already.
        unsafe { libc::link(path.as_ptr(), name.bytes.as_ptr().cast()) };
    }
}

/// Writes a folder's entries down.
fn list(folder: c_int, identity: &Identity, text: &mut Text<LISTING_BYTES_MAX>) {
    text.length = 0;
    let _fits = write!(text, "D {} {} ", identity.inode, identity.born);
    // A descriptor of its own, since a descriptor has a position.
    // SAFETY: the path ends with a zero.
    let own = unsafe { libc::openat(folder, c".".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC) };
    let whole = own >= 0 && list_opened(own, text).is_ok();
    // SAFETY: opened above, or -1, which close refuses.
    unsafe { libc::close(own) };
    let _fits = text.write_str(if whole { "/\n" } else { "\n" });
}

fn list_opened(folder: c_int, text: &mut Text<LISTING_BYTES_MAX>) -> fmt::Result {
    /// `linux_dirent64`: inode u64, offset i64, length u16, type u8, name.
    const LENGTH_AT: usize = 16;
    const NAME_AT: usize = 19;
    let mut buffer = [0_u8; 4096];
    loop {
        // SAFETY: the kernel writes no more than the length that it is told.
        let got = unsafe { libc::syscall(libc::SYS_getdents64, folder, buffer.as_mut_ptr(), buffer.len()) };
        let mut entries = match usize::try_from(got) {
            Ok(0) => return Ok(()),
            Ok(got) => buffer.get(..got).ok_or(fmt::Error)?,
            Err(_) => return Err(fmt::Error),
        };
        while let Some(inode) = entries.first_chunk::<8>() {
            let length = entries.get(LENGTH_AT..LENGTH_AT + 2).ok_or(fmt::Error)?;
            let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
            let entry = entries.get(NAME_AT..length).ok_or(fmt::Error)?;
            let name = CStr::from_bytes_until_nul(entry).map_err(|_| fmt::Error)?.to_str().map_err(|_| fmt::Error)?;
            if name != "." && name != ".." {
                write!(text, "{}:{name}/", u64::from_ne_bytes(*inode))?;
            }
            entries = &entries[length..];
        }
    }
}

/// Text in a place of fixed size.
struct Text<const MAX: usize> {
    bytes: [u8; MAX],
    length: usize,
}

impl<const MAX: usize> Text<MAX> {
    const fn new() -> Text<MAX> {
        Text { bytes: [0; MAX], length: 0 }
    }

    /// In one write: lines of threads do not mix.
    fn append_to(&self, file: c_int) {
        // SAFETY: the length is never more than the array's.
        unsafe { libc::write(file, self.bytes.as_ptr().cast(), self.length) };
    }
}

impl<const MAX: usize> fmt::Write for Text<MAX> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        // A byte is left for the end of the line.
        let place = self.bytes.get_mut(self.length..end).filter(|_| end < MAX || text == "\n").ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}
