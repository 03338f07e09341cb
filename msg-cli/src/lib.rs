#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

// First, since its macros hold from here on.
#[macro_use]
mod output;

mod args;
mod commands;
mod device;
mod exit;
mod inputs;
mod values;

/// The command's allocator. It lays large blocks into huge pages where Linux gives them on request: products visit
/// rows that lie pages apart, and with pages of 4 KB a training step spends a quarter of its time on looking up where
/// pages lie (BENCHMARKS.md).
pub use mimalloc::MiMalloc as Allocator;

use crate::exit::{Done, REFUSED, STOPPED};
use clap::{Parser, error::ErrorKind};
use msg_core::{device::out_of_memory_as_error, error::says_out_of_memory};
use msg_train::Fault;
use std::{ffi::OsString, panic, process::ExitCode, sync::Once};
use tracing_subscriber::EnvFilter;

/// Does what the command line asks for; the first of `arguments` is the program's name. With a `fault`,
/// which no argument can ask for, `train` makes it at every growth: tests of the receipts want that.
pub fn main_with(arguments: impl IntoIterator<Item = OsString>, fault: Option<Fault>) -> ExitCode {
    let args = match args::Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    // Warnings by default; MSG_LOG=info says more, in the syntax of tracing's env filter.
    let filter = EnvFilter::try_from_env("MSG_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time();
    // Said by a macro that panics where stderr is gone, which would end the run.
    let log = log.log_internal_errors(false);
    // A process that already has a logger keeps it.
    let _ = log.try_init();
    quiet_about_memory();
    let done = out_of_memory_as_error("the command", || commands::run(args, fault));
    if let (Ok(_), Some(error)) = (&done, output::lost()) {
        return refuse(&format!("standard output: {error}"));
    }
    match done {
        Ok(Done::All) => ExitCode::SUCCESS,
        Ok(Done::Stopped) => ExitCode::from(STOPPED),
        Err(error) => refuse(&with_causes(&error)),
    }
}

/// Keeps panics about a device's memory from being printed: they become a refusal in one line.
fn quiet_about_memory() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !info.payload_as_str().is_some_and(says_out_of_memory) {
                before(info);
            }
        }));
    });
}

/// An error and its causes, those left out that its text tells already.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// One line, whatever the text has.
fn refuse(text: &str) -> ExitCode {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let shown = |letter: char| if letter.is_control() { '?' } else { letter };
    eprintln!("msg: {}", lines.join("; ").chars().map(shown).collect::<String>());
    ExitCode::from(REFUSED)
}

/// Help as asked for; a mistake on the command line in one line.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed pipe is the reader's choice.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(REFUSED)
        }
        _ => {
            let text = error.to_string();
            // What follows is the usage and where to find help.
            let told = text.split("\n\nUsage:").next().unwrap_or(&text);
            let told = told.split("\n\nFor more").next().unwrap_or(told);
            refuse(told.trim_start_matches("error: "))
        }
    }
}
