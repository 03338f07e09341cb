//! What can be wrong with a file of tensors, as kinds with facts.

use crate::hf::file_layout::FileLayout;
use msg_core::error::one_line;
use std::path::{Path, PathBuf};

/// The result of reading and writing files.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every refusal of a file. One variant a rule; shapes are those of the file tensor.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused: no such file or folder, no permission, no space.
    #[error("{}: cannot {doing}: {}", shown(file), one_line(message))]
    Io {
        /// The file.
        file: PathBuf,
        /// What was under way.
        doing: &'static str,
        /// The system's own words.
        message: String,
    },
    /// A file that is shorter or longer than it says: cut off, or with bytes after its last tensor.
    #[error("{}: cut off or overlong: expected {expected} bytes, got {got}", shown(file))]
    Length {
        /// The file.
        file: PathBuf,
        /// The length that the header, as far as it is there, asks for.
        expected: u64,
        /// The length of the file.
        got: u64,
    },
    /// A header longer than any reader of the format accepts.
    #[error("{}: malformed header: expected at most {limit} bytes, got {got}", shown(file))]
    HeaderSize {
        /// The file.
        file: PathBuf,
        /// The longest header.
        limit: u64,
        /// The length that the file states.
        got: u64,
    },
    /// A header that is no description of tensors.
    #[error("{}: malformed header: {}", shown(file), one_line(message))]
    Header {
        /// The file.
        file: PathBuf,
        /// What the parser said, in one line.
        message: String,
    },
    /// A list of files that is none, or does not fit them.
    #[error("{}: {}", shown(file), one_line(message))]
    Index {
        /// The list.
        file: PathBuf,
        /// What is wrong with it, in one line.
        message: String,
    },
    /// A folder without weights that can be read. Pickles are not: they run code.
    #[error("{}: expected model.safetensors or model.safetensors.index.json, got {got}", shown(folder))]
    NoWeights {
        /// The folder.
        folder: PathBuf,
        /// What it has instead.
        got: &'static str,
    },
    /// A tensor that the module has and the file has not.
    #[error("{}: tensor {tensor:?} is missing", shown(file))]
    Missing {
        /// The file.
        file: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
    },
    /// A tensor that the file has and the module has not.
    #[error("{}: tensor {tensor:?} is not one of the module's", shown(file))]
    Extra {
        /// The file.
        file: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
    },
    /// Two tensors that go by one name in the file.
    #[error("{}: the name {tensor:?} is used twice", shown(file))]
    Twice {
        /// The file.
        file: PathBuf,
        /// The name.
        tensor: String,
    },
    /// A tensor of another shape than the module's.
    #[error("{}: tensor {tensor:?}: expected shape {expected:?}, got {got:?}", shown(file))]
    Shape {
        /// The file.
        file: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// The shape that the module's tensor has in a file.
        expected: Vec<usize>,
        /// The shape in this file.
        got: Vec<usize>,
    },
    /// A tensor of numbers of a type that cannot be used here.
    #[error("{}: tensor {tensor:?}: expected type {expected}, got {got}", shown(file))]
    Dtype {
        /// The file.
        file: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// The types that can.
        expected: &'static str,
        /// The type in the file.
        got: String,
    },
    /// A value that is not a finite number.
    #[error("{}: tensor {tensor:?}: expected finite values, got {value} at index {index}", shown(file))]
    NotFinite {
        /// The file.
        file: PathBuf,
        /// The tensor's name in the file.
        tensor: String,
        /// The first such place in the file's tensor, row-major.
        index: usize,
        /// The value.
        value: f32,
    },
    /// A tensor that should repeat another one, and does not to the bit.
    #[error(
        "{}: tensor {alias:?} repeats {tensor:?}: expected {expected} at index {index}, got {got}",
        shown(file)
    )]
    Alias {
        /// The file.
        file: PathBuf,
        /// The name of the repetition.
        alias: String,
        /// The name of the tensor that counts.
        tensor: String,
        /// The first place where they differ, row-major.
        index: usize,
        /// The value that counts.
        expected: f32,
        /// The value of the repetition.
        got: f32,
    },
    /// A tensor with too few axes for the layout that its family gives it.
    #[error("tensor {tensor:?}: the layout {layout} needs at least 2 axes, got shape {shape:?}")]
    Layout {
        /// The walk's name of the tensor.
        tensor: String,
        /// The layout.
        layout: FileLayout,
        /// The tensor's shape in memory.
        shape: Vec<usize>,
    },
    /// A name that stands for more or fewer file tensors than its layout makes.
    #[error(
        "tensor {tensor:?}: the layout {layout} makes {expected} file tensors, the name stands for {got}"
    )]
    Parts {
        /// The walk's name of the tensor.
        tensor: String,
        /// The layout.
        layout: FileLayout,
        /// How many file tensors the layout makes.
        expected: usize,
        /// How many names the walk's name expands to.
        got: usize,
    },
    /// The device or the module refused.
    #[error(transparent)]
    Core(#[from] msg_core::Error),
}

/// A path in a message.
fn shown(path: &Path) -> impl std::fmt::Display {
    one_line(path.display())
}
