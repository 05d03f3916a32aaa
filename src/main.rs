//! The `wsgateway` binary: reads the command line and runs one command.

use clap::Parser;
use wsgateway::cli::{run, Arguments};

fn main() -> std::process::ExitCode {
    run(Arguments::parse())
}
