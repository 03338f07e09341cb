//! The `msg` command as the tests start it: the same code in a process of its own, with a fault where the
//! variable `MSG_TEST_FAULT` names one. The command that users have knows no such variable.

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    let fault = env::var("MSG_TEST_FAULT").ok();
    let fault = fault.map(|text| text.parse().unwrap_or_else(|error| panic!("MSG_TEST_FAULT: {error}")));
    msg_cli::main_with(env::args_os(), fault)
}
