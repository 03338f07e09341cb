//! The `msg` command as the tests start it: the same code in a process of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    msg_cli::main_with(std::env::args_os())
}
