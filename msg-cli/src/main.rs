//! The `msg` command: staged pre-training from one TOML file.
//!
//! The only crate that prints, exits and picks a device. Refusals are one line on stderr and exit code 2.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod device;

use clap::Parser;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = args::Args::parse();
    // Warnings by default; MSG_LOG=info says more, in the syntax of tracing's env filter.
    let filter = EnvFilter::try_from_env("MSG_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    match commands::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("msg: {error:#}");
            ExitCode::from(2)
        }
    }
}
