//! A library that `chaos` puts in front of a node's libc (`LD_PRELOAD`), for what cannot be done to a process from
//! outside: it writes down what the node has made durable (`durable`), so that a power failure can be made of it
//! afterwards, and it moves the node's wall clock (`clock`). Without its environment variables it passes everything on.
//!
//! Every function may be called by any thread at any time, also by an allocator or while a lock of libc is held. So
//! nothing here allocates, panics, or waits for anything but the one lock in `durable`; `errno` is left as the real call
//! left it. Imports libc.

mod clock;
mod durable;

use std::ffi::CStr;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::c_void;

/// A function of the library behind this one; looked up at its first call.
pub(crate) struct Real {
    name: &'static CStr,
    /// Of functions that exist in several versions, the one that today's programs are linked with.
    version: Option<&'static CStr>,
    found: AtomicPtr<c_void>,
}

impl Real {
    pub(crate) const fn new(name: &'static CStr) -> Real {
        Real { name, version: None, found: AtomicPtr::new(std::ptr::null_mut()) }
    }

    pub(crate) const fn versioned(name: &'static CStr, version: &'static CStr) -> Real {
        Real { name, version: Some(version), found: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// Null: there is none.
    pub(crate) fn get(&self) -> *mut c_void {
        let found = self.found.load(Ordering::Relaxed);
        if !found.is_null() {
            return found;
        }
        let mut looked_up = std::ptr::null_mut();
        if let Some(version) = self.version {
            // SAFETY: takes the handle of "the next library" and strings that end with a zero.
            looked_up = unsafe { libc::dlvsym(libc::RTLD_NEXT, self.name.as_ptr(), version.as_ptr()) };
        }
        if looked_up.is_null() {
            // SAFETY: as there.
            looked_up = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        }
        self.found.store(looked_up, Ordering::Relaxed);
        looked_up
    }
}

/// Calls the real function, or answers -1 where there is none. The type is the function's own.
macro_rules! call {
    ($real:expr, $signature:ty, $($argument:expr),*) => {{
        let found = $real.get();
        if found.is_null() {
            -1
        } else {
            // SAFETY: the pointer is the function of this name, whose signature POSIX says; the arguments are the caller's.
            unsafe { std::mem::transmute::<*mut libc::c_void, $signature>(found)($($argument),*) }
        }
    }};
}
pub(crate) use call;

/// The value of an environment variable, in the process's own memory.
pub(crate) fn variable(name: &CStr) -> Option<&'static CStr> {
    // SAFETY: the name ends with a zero. Nodes do not change their environment, so the value stays where it is.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        (!value.is_null()).then(|| CStr::from_ptr(value))
    }
}

/// Does something and leaves errno as it was.
pub(crate) fn keeping_errno<T>(act: impl FnOnce() -> T) -> T {
    // SAFETY: the place of this thread's errno is always there.
    unsafe {
        let errno = *libc::__errno_location();
        let done = act();
        *libc::__errno_location() = errno;
        done
    }
}
