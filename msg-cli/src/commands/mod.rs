//! One command a file.

mod data;
mod plan;
mod report;
mod train;
mod verify;

use crate::args::{Args, Command, Configured, Data};
use msg_train::config::RunConfig;

/// Runs what was asked for.
pub fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Train(args) => train::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Data(Data::Prepare(args)) => data::prepare(&args),
        Command::Report(args) => report::run(&args),
        Command::Verify(args) => verify::run(&args),
    }
}

/// The checked configuration.
fn read(args: &Configured) -> anyhow::Result<RunConfig> {
    Ok(RunConfig::read(&args.config, &args.set)?)
}
