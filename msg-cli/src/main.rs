//! The `msg` command: staged pre-training from one TOML file.

#![forbid(unsafe_code)]

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: msg_cli::Allocator = msg_cli::Allocator;

fn main() -> ExitCode {
    msg_cli::main_with(std::env::args_os(), None)
}
