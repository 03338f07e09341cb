//! One command a file.

mod convert;
mod data;
mod eval;
mod export;
mod generate;
mod grow;
mod import;
mod init;
mod inspect;
mod plan;
mod report;
mod train;
mod verify;

use crate::{
    args::{Args, Command, Data},
    exit::Done,
};
use msg_train::Fault;

/// Runs what was asked for.
pub fn run(args: Args, fault: Option<Fault>) -> anyhow::Result<Done> {
    match args.command {
        Command::Train(args) => return train::run(&args, fault),
        Command::Init(args) => init::run(&args)?,
        Command::Plan(args) => plan::run(&args)?,
        Command::Data(Data::Prepare(args)) => data::prepare(&args)?,
        Command::Report(args) => report::run(&args)?,
        Command::Eval(args) => eval::run(&args)?,
        Command::Generate(args) => generate::run(&args)?,
        Command::Verify(args) => verify::run(&args)?,
        Command::Import(args) => import::run(&args)?,
        Command::Export(args) => export::run(&args)?,
        Command::Grow(args) => grow::run(&args)?,
        Command::Convert(args) => convert::run(&args)?,
        Command::Inspect(args) => inspect::run(&args)?,
    }
    Ok(Done::All)
}
