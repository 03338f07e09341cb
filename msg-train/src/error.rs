//! The errors of this crate. Every text names the file or key, what was expected and what was found.

use msg_core::error::one_line;
use std::path::PathBuf;

/// The result of everything that a user's input can make fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every refusal of a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused to read or write.
    #[error("{}: {source}", one_line(path.display()))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// Text that is no TOML.
    #[error("{}:{line}:{column}: {}", one_line(file), one_line(message))]
    Syntax {
        /// The configuration's file.
        file: String,
        /// Its line, from 1.
        line: usize,
        /// The letter in that line, from 1.
        column: usize,
        /// What the parser says.
        message: String,
    },
    /// A key that the configuration does not have.
    #[error("{}: unknown key `{}`: {}", one_line(file), one_line(key), one_line(hint))]
    UnknownKey {
        /// The configuration's file.
        file: String,
        /// The key, with its table.
        key: String,
        /// The nearest valid key, or all of the table.
        hint: String,
    },
    /// A key that the configuration must have.
    #[error("{}: missing key `{}`", one_line(file), one_line(key))]
    MissingKey {
        /// The configuration's file.
        file: String,
        /// The key, with its table.
        key: String,
    },
    /// A key of the configuration with an impossible value.
    #[error("{}: {}: expected {}, got {}", one_line(file), one_line(key), one_line(expected), one_line(got))]
    Config {
        /// The configuration's file.
        file: String,
        /// The key, with its table.
        key: String,
        /// What is accepted.
        expected: String,
        /// What it says.
        got: String,
    },
    /// Data that cannot be used: sources, tokenizer, shards.
    #[error("{}: {}", one_line(path.display()), one_line(message))]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it, with both numbers.
        message: String,
    },
    /// A checkpoint or run folder that cannot be used.
    #[error("{}: {}", one_line(path.display()), one_line(message))]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it, and the way out.
        message: String,
    },
    /// A value that a command cannot take.
    #[error("{name}: expected {}, got {}", one_line(expected), one_line(got))]
    Argument {
        /// The option's name.
        name: &'static str,
        /// What is accepted.
        expected: String,
        /// What came.
        got: String,
    },
    /// A family that is not in the list.
    #[error("{}: family: expected {}, got {}", one_line(path.display()), known.join(" or "), one_line(got))]
    Family {
        /// The file that names it.
        path: PathBuf,
        /// The names of all families.
        known: Vec<&'static str>,
        /// The name that was asked for.
        got: String,
    },
    /// Logits that say nothing: of NaN, infinity, or nothing at all.
    #[error("logit of token {token}: expected a number, got {got}")]
    Logit {
        /// The token's id.
        token: usize,
        /// Its logit.
        got: f32,
    },
    /// A receipt over its tolerance: the grown model does not compute what the old one did.
    #[error("{0}")]
    Receipt(String),
    /// A loss or gradient that is not finite, under the policy `stop`.
    #[error("{0}")]
    Diverged(String),
    /// The run was asked to stop (Ctrl-C); all is saved.
    #[error("interrupted: {0}")]
    Interrupted(String),
    /// A device without the memory that a run takes.
    #[error(
        "{source}: the plan estimates {estimate} in stage {stage}; what takes less: {ways}. \
         `--resume auto` continues after the last checkpoint"
    )]
    Memory {
        /// What the device refused.
        source: msg_core::Error,
        /// The stage that was trained.
        stage: usize,
        /// The plan's memory in that stage, as `msg plan` shows it.
        estimate: String,
        /// Keys of the configuration that lower it.
        ways: String,
    },
    /// A refusal of the growth core.
    #[error(transparent)]
    Core(#[from] msg_core::Error),
    /// A refusal of a model file.
    #[error(transparent)]
    File(#[from] msg_models::hf::Error),
}

/// Names the file that the system refused.
pub trait AtPath<T> {
    /// Turns the system's error into ours.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn at(self, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T> AtPath<T> for std::io::Result<T> {
    fn at(self, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|source| Error::Io { path: path.into(), source })
    }
}
