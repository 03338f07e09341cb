//! The `msg` command as the tests start it: the same code in a process of its own, with a fault where the
//! variable `MSG_TEST_FAULT` names one. The command that users have knows no such variable.

use std::{env, process::ExitCode};

// As in the command.
#[global_allocator]
static ALLOCATOR: msg_cli::Allocator = msg_cli::Allocator;

fn main() -> ExitCode {
    let fault = env::var("MSG_TEST_FAULT").ok();
    let fault = fault.map(|text| text.parse().unwrap_or_else(|error| panic!("MSG_TEST_FAULT: {error}")));
    msg_cli::main_with(env::args_os(), fault)
}
