//! What a user types, before any of it is checked.

use crate::device::DeviceChoice;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Pre-train GPT and BERT by growing them in stages.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a run through all its stages.
    Train(Train),
    /// Show what a configuration plans: stages, sizes, FLOPs, memory, learning rate.
    Plan(Configured),
    /// Work on data.
    #[command(subcommand)]
    Data(Data),
    /// Write one HTML page about one or several runs.
    Report(Report),
    /// Show that a checkpoint computes the same when it grows: a parity receipt for each axis and for all.
    Verify(Verify),
}

/// What to do with data.
#[derive(Debug, Subcommand)]
pub enum Data {
    /// Turn a configuration's sources into token shards.
    Prepare(Configured),
}

/// A configuration and changes to it.
#[derive(Debug, ClapArgs)]
pub struct Configured {
    /// The run's TOML file.
    pub config: PathBuf,
    /// Changes one key: section.key=value, or stage.2.steps=50 (stages count from 1).
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// How to train.
#[derive(Debug, ClapArgs)]
pub struct Train {
    #[command(flatten)]
    pub configured: Configured,
    /// `auto` goes on after the run's last checkpoint; without it an existing run is refused.
    #[arg(long, value_enum)]
    pub resume: Option<ResumeChoice>,
    /// cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    pub device: DeviceChoice,
}

/// What to do with a run that exists.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ResumeChoice {
    /// Go on after its last checkpoint.
    Auto,
}

/// What to report on.
#[derive(Debug, ClapArgs)]
pub struct Report {
    /// Folders of runs.
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// The page; by default report.html in the first run's folder.
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// What to verify.
#[derive(Debug, ClapArgs)]
pub struct Verify {
    /// A checkpoint's folder, or a run's, which means its last one.
    pub checkpoint: PathBuf,
    /// Sizes to grow to, such as hidden=96,layers=4,ffn=256,heads=6; by default each axis a bit larger.
    #[arg(long, value_name = "AXIS=SIZE,..")]
    pub to: Option<String>,
    /// cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    pub device: DeviceChoice,
}
