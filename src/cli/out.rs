//! What commands print to standard output. A reader that has seen enough (`| head`) ends the command, without a word and
//! with everything cleaned up, by a panic that is not reported; [`run`] catches it. Used by every command through the
//! macros `println!` and `print!` of this folder, which stand for those of std.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::process::ExitCode;

/// What shells see of a program that SIGPIPE has ended.
const CLOSED_PIPE: u8 = 128 + 13;

/// Nothing can be printed any more; the exit code.
struct Closed(u8);

pub fn print(text: Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    // Flushed: what follows may take its time, or go to standard error.
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::BrokenPipe => resume_unwind(Box::new(Closed(CLOSED_PIPE))),
        Err(error) => {
            eprintln!("error: standard output cannot be written: {error}");
            resume_unwind(Box::new(Closed(1)));
        }
    }
}

/// Runs a command to its end, or to that of its reader.
pub fn run(command: impl FnOnce() -> ExitCode) -> ExitCode {
    catch_unwind(AssertUnwindSafe(command)).unwrap_or_else(|panicked| match panicked.downcast::<Closed>() {
        Ok(closed) => ExitCode::from(closed.0),
        Err(panicked) => resume_unwind(panicked),
    })
}

macro_rules! println {
    () => { $crate::cli::out::print(format_args!("\n")) };
    ($($text:tt)*) => { $crate::cli::out::print(format_args!("{}\n", format_args!($($text)*))) };
}

macro_rules! print {
    ($($text:tt)*) => { $crate::cli::out::print(format_args!($($text)*)) };
}
