//! One command a file.

mod data;
mod eval;
mod generate;
mod plan;
mod report;
mod summary;
mod train;

use crate::args::{Args, Command, Configured, Data};
use anyhow::Context;
use msg_train::config::RunConfig;
use std::io::{ErrorKind, Write};

/// Runs what was asked for.
pub fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Train(args) => train::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Data(Data::Prepare(args)) => data::prepare(&args),
        Command::Report(args) => report::run(&args),
    }
}

/// The checked configuration.
fn read(args: &Configured) -> anyhow::Result<RunConfig> {
    Ok(RunConfig::read(&args.config, &args.set)?)
}

/// Prints a text on stdout. A reader that has gone away (a closed pipe) wanted no more.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("stdout"),
        _ => Ok(()),
    }
}
