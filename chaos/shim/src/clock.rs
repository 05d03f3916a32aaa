//! The wall clock as the node sees it: the real one plus so many seconds, which `chaos` writes into a small file while the
//! node runs. Clocks that count from the boot are left alone: nobody sets those. For `lib`.
//!
//! Waits with a deadline in wall-clock time were given one of the moved clock; the kernel's clock has not moved, so the
//! offset is taken from the deadline. A wait that is under way while the clock jumps ends as if it had not jumped.

use std::ffi::CStr;
use std::sync::atomic::{AtomicI64, AtomicPtr, Ordering};

use libc::{c_int, c_void, clockid_t, time_t, timespec, timeval};

use crate::{call, keeping_errno, variable, Real};

/// Names a file of eight bytes: seconds, as a native i64.
const FILE: &CStr = c"CHAOS_SHIM_CLOCK";
/// Deadlines before this moment (in 2001) are of a clock that counts from the boot.
const WALL_CLOCK_FROM: time_t = 1_000_000_000;

static CLOCK_GETTIME: Real = Real::new(c"clock_gettime");
static GETTIMEOFDAY: Real = Real::new(c"gettimeofday");
static COND_TIMEDWAIT: Real = Real::versioned(c"pthread_cond_timedwait", c"GLIBC_2.3.2");
static CND_TIMEDWAIT: Real = Real::new(c"cnd_timedwait");

/// What stands for "there is no file", so that it is looked for once.
static ZERO: AtomicI64 = AtomicI64::new(0);
static OFFSET: AtomicPtr<AtomicI64> = AtomicPtr::new(std::ptr::null_mut());

fn offset() -> time_t {
    let mut offset = OFFSET.load(Ordering::Acquire);
    if offset.is_null() {
        // Two threads may both map it: then one mapping is not used.
        offset = keeping_errno(map);
        OFFSET.store(offset, Ordering::Release);
    }
    // SAFETY: it points to ZERO or to eight bytes of a mapping that is never taken away.
    unsafe { (*offset).load(Ordering::Relaxed) }
}

fn map() -> *mut AtomicI64 {
    let nothing = std::ptr::from_ref(&ZERO).cast_mut();
    let Some(path) = variable(FILE) else { return nothing };
    // SAFETY: the path ends with a zero; the mapping is checked before it is used, and is only read.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if file < 0 {
            return nothing;
        }
        let bytes = size_of::<AtomicI64>();
        let mapped = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ, libc::MAP_SHARED, file, 0);
        libc::close(file);
        if mapped == libc::MAP_FAILED {
            nothing
        } else {
            mapped.cast()
        }
    }
}

/// # Safety
/// As of the function of this name.
#[no_mangle]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, now: *mut timespec) -> c_int {
    let answer = call!(CLOCK_GETTIME, unsafe extern "C" fn(clockid_t, *mut timespec) -> c_int, clock, now);
    if answer == 0 && matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE) {
        // SAFETY: the real function has just written there.
        unsafe { (*now).tv_sec += offset() };
    }
    answer
}

/// # Safety
/// As of the function of this name.
#[no_mangle]
pub unsafe extern "C" fn gettimeofday(now: *mut timeval, zone: *mut c_void) -> c_int {
    let answer = call!(GETTIMEOFDAY, unsafe extern "C" fn(*mut timeval, *mut c_void) -> c_int, now, zone);
    if answer == 0 && !now.is_null() {
        // SAFETY: the real function has just written there.
        unsafe { (*now).tv_sec += offset() };
    }
    answer
}

/// # Safety
/// As of the function of this name.
#[no_mangle]
pub unsafe extern "C" fn time(into: *mut time_t) -> time_t {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: our own function, with a place of our own.
    if unsafe { clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut now) } != 0 {
        return -1;
    }
    if !into.is_null() {
        // SAFETY: the caller's place for the answer.
        unsafe { *into = now.tv_sec };
    }
    now.tv_sec
}

/// The deadline as the kernel's clock has it.
fn unmoved(deadline: &timespec) -> timespec {
    let mut unmoved = *deadline;
    if unmoved.tv_sec >= WALL_CLOCK_FROM {
        unmoved.tv_sec -= offset();
    }
    unmoved
}

/// # Safety
/// As of the function of this name.
#[no_mangle]
pub unsafe extern "C" fn pthread_cond_timedwait(
    condition: *mut c_void,
    mutex: *mut c_void,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller's deadline.
    let until = unmoved(unsafe { &*until });
    type Signature = unsafe extern "C" fn(*mut c_void, *mut c_void, *const timespec) -> c_int;
    call!(COND_TIMEDWAIT, Signature, condition, mutex, &raw const until)
}

/// # Safety
/// As of the function of this name.
#[no_mangle]
pub unsafe extern "C" fn cnd_timedwait(condition: *mut c_void, mutex: *mut c_void, until: *const timespec) -> c_int {
    // SAFETY: the caller's deadline.
    let until = unmoved(unsafe { &*until });
    type Signature = unsafe extern "C" fn(*mut c_void, *mut c_void, *const timespec) -> c_int;
    call!(CND_TIMEDWAIT, Signature, condition, mutex, &raw const until)
}
