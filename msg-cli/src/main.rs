//! The `msg` command: staged pre-training from one TOML file.
//!
//! The only crate that prints, exits and picks a device. Refusals are one line on stderr and exit code 2.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod device;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = args::Args::parse();
    match commands::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("msg: {error:#}");
            ExitCode::from(2)
        }
    }
}
