//! One command a file.

mod data;
mod eval;
mod generate;
mod plan;
mod report;
mod summary;
mod train;
mod verify;

use crate::{
    Done,
    args::{Args, Command, Configured, Data},
};
use msg_train::{Fault, config::RunConfig};

/// Runs what was asked for.
pub fn run(args: Args, fault: Option<Fault>) -> anyhow::Result<Done> {
    match args.command {
        Command::Train(args) => return train::run(&args, fault),
        Command::Plan(args) => plan::run(&args)?,
        Command::Data(Data::Prepare(args)) => data::prepare(&args)?,
        Command::Report(args) => report::run(&args)?,
        Command::Eval(args) => eval::run(&args)?,
        Command::Generate(args) => generate::run(&args)?,
        Command::Verify(args) => verify::run(&args)?,
    }
    Ok(Done::All)
}

/// The checked configuration.
fn read(args: &Configured) -> anyhow::Result<RunConfig> {
    Ok(RunConfig::read(&args.config, &args.set)?)
}
