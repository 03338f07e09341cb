//! The `msg` command: staged pre-training from one TOML file.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    msg_cli::main_with(std::env::args_os(), None)
}
