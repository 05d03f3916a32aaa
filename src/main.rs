//! The `wsgateway` binary: reads the command line and runs one command.

use clap::Parser;
use wsgateway::cli::{run, Arguments};

/// Measured with 8,000 idle connections: see docs/performance.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    run(Arguments::parse())
}
