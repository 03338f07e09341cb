//! What a user types, before any of it is checked.

use crate::{
    device::DeviceChoice,
    values::{Bytes, Given, NewLayers, Starter, Units},
};
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use msg_models::hf::StoredType;
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
    /// Write a configuration to start from, with a comment on every key.
    Init(Init),
    /// Show what a configuration plans: stages, sizes, FLOPs, memory, learning rate.
    Plan(Plan),
    /// Measure a checkpoint on the held-out sequences: loss, perplexity, right answers.
    Eval(Eval),
    /// Write text: a GPT continues a prompt, a BERT fills in [MASK].
    Generate(Generate),
    /// Work on data.
    #[command(subcommand)]
    Data(Data),
    /// Write one HTML page about one or several runs.
    Report(Report),
    /// Show that a checkpoint computes the same when it grows: a parity receipt for each axis and for all.
    Verify(Verify),
    /// Make a checkpoint of a published GPT-2 or BERT: config.json, safetensors, tokenizer.
    Import(Import),
    /// Make a folder of a checkpoint that transformers loads, with a model card.
    Export(Export),
    /// Make a larger model that computes the same: behind masks for `train`, or exactly for any program.
    Grow(Grow),
    /// Make a checkpoint of a later stage of its run's schedule, or with other types of numbers.
    Convert(Convert),
    /// Show what a checkpoint, run, published folder or .safetensors file holds.
    Inspect(Inspect),
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

/// What to start from.
#[derive(Debug, ClapArgs)]
pub struct Init {
    /// The model's family.
    #[arg(value_enum, default_value = "gpt")]
    pub family: Starter,
    /// The file to make, which must not be there yet; by default standard output.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// What to plan.
#[derive(Debug, ClapArgs)]
pub struct Plan {
    #[command(flatten)]
    pub configured: Configured,
    /// Prints the configuration with every default written out instead; it is a configuration, too.
    #[arg(long)]
    pub resolved: bool,
}

/// How to train.
#[derive(Debug, ClapArgs)]
pub struct Train {
    #[command(flatten)]
    pub configured: Configured,
    /// `auto` resumes after the run's last checkpoint; without it an existing run is refused.
    #[arg(long, value_enum)]
    pub resume: Option<ResumeChoice>,
    /// cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    pub device: DeviceChoice,
}

/// What to do with a run that exists.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ResumeChoice {
    /// Resume after its last checkpoint.
    Auto,
}

/// What to evaluate.
#[derive(Debug, ClapArgs)]
pub struct Eval {
    /// A checkpoint, or a run's folder for its latest one.
    #[arg(value_name = "RUN_OR_CHECKPOINT")]
    pub path: PathBuf,
    /// A folder of prepared data; by default the run's own.
    #[arg(long, value_name = "SHARDS_FOLDER")]
    pub data: Option<PathBuf>,
    /// Held-out sequences at most; by default all.
    #[arg(long, value_name = "N")]
    pub sequences: Option<usize>,
    /// Tokens of a sequence; by default those of the checkpoint's stage.
    #[arg(long, value_name = "LENGTH")]
    pub sequence: Option<usize>,
    /// cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    pub device: DeviceChoice,
}

/// What to write, and how. What is left out depends on the family.
#[derive(Debug, ClapArgs)]
pub struct Generate {
    /// A checkpoint, or a run's folder for its latest one.
    #[arg(value_name = "RUN_OR_CHECKPOINT")]
    pub path: PathBuf,
    /// The text to continue (GPT; by default the beginning of a document), or a text with [MASK] (BERT).
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Tokens to write at most (GPT; by default 100).
    #[arg(long, value_name = "N")]
    pub tokens: Option<usize>,
    /// 0 takes the most probable token always, 1 draws by the model's probabilities (GPT; by default 0.8).
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Only the K most probable tokens may come (GPT; by default all); candidates to show (BERT; by default 5).
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Only the most probable tokens that together have this share may come (GPT; by default 0.95).
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub top_p: Option<f64>,
    /// Seed of the draws (GPT; by default 0).
    #[arg(long)]
    pub seed: Option<u64>,
    /// cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    pub device: DeviceChoice,
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

/// What to import.
#[derive(Debug, ClapArgs)]
pub struct Import {
    /// A folder with config.json and model.safetensors (or its shards and their index), with a tokenizer or without.
    pub path: PathBuf,
    /// The checkpoint's folder, which must not be there yet.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// What to export, and how.
#[derive(Debug, ClapArgs)]
pub struct Export {
    /// A checkpoint, or a run's folder for its latest one.
    #[arg(value_name = "RUN_OR_CHECKPOINT")]
    pub path: PathBuf,
    /// The folder to make, which must not be there yet.
    pub out: PathBuf,
    /// Makes weights of masks and spare heads where that is exact, with a parity receipt.
    #[arg(long)]
    pub fold: bool,
    /// f32, f16 or bf16; by default as the checkpoint stores each tensor.
    #[arg(long, value_name = "TYPE")]
    pub dtype: Option<StoredType>,
    /// Splits the weights into files of at most this size.
    #[arg(long, value_name = "SIZE", default_value = "5GB")]
    pub max_shard_size: Bytes,
    #[command(flatten)]
    pub given: Given,
}

/// What to grow, and how.
#[derive(Debug, ClapArgs)]
pub struct Grow {
    /// A checkpoint, a run's folder for its latest one, or a published folder.
    #[arg(long, value_name = "PATH")]
    pub from: PathBuf,
    /// The new sizes, such as hidden=96,layers=4,ffn=256,heads=6; what is left out stays.
    #[arg(long, value_name = "AXIS=SIZE,..")]
    pub to: String,
    /// The folder to make, which must not be there yet.
    #[arg(long, value_name = "PATH")]
    pub out: PathBuf,
    /// Without masks: a published folder whose weights alone compute the same.
    #[arg(long)]
    pub exact: bool,
    /// What new units start from.
    #[arg(long, value_enum, default_value = "normal")]
    pub units: Units,
    /// Where new layers stand and what they start from.
    #[arg(long, value_enum, default_value = "stack")]
    pub new_layers: NewLayers,
    /// Seed of new entries.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Steps over which `train` raises the masks from 0 to 1.
    #[arg(long, value_name = "STEPS", default_value_t = 1000, conflicts_with = "exact")]
    pub ramp: u64,
    #[command(flatten)]
    pub given: Given,
}

/// What to convert, and to what.
#[derive(Debug, ClapArgs)]
pub struct Convert {
    /// A checkpoint, or a run's folder for its latest one.
    #[arg(value_name = "RUN_OR_CHECKPOINT")]
    pub path: PathBuf,
    /// The checkpoint's folder, which must not be there yet.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// A later stage of the run's schedule, from 1: grows the model through the boundaries before it.
    #[arg(long, value_name = "N")]
    pub stage: Option<usize>,
    /// f32, f16 or bf16; by default as the checkpoint stores each tensor.
    #[arg(long, value_name = "TYPE")]
    pub dtype: Option<StoredType>,
    #[command(flatten)]
    pub given: Given,
}

/// What to inspect.
#[derive(Debug, ClapArgs)]
pub struct Inspect {
    /// A checkpoint, a run, a published folder, a .safetensors file or an index of such files.
    pub path: PathBuf,
}
