//! The `msg` command: staged pre-training from one TOML file.

#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Lays large blocks into huge pages where Linux gives them on request. Products visit rows that lie pages apart: with
/// pages of 4 KB a training step spends a quarter of its time on looking up where pages lie (BENCHMARKS.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    msg_cli::main_with(std::env::args_os(), None)
}
