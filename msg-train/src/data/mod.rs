//! Text to batches.
//!
//! [`prepare()`] turns sources into token shards once; [`Prepared`] opens them, with every hash checked;
//! [`Causal`] and [`Mlm`] are the batches of a family as pure functions of a cursor; a [`Loader`] makes them
//! ahead of the trainer.
//!
//! Whatever a batch holds depends on the seed, the shards and the cursor alone: not on the size of batches
//! before it, on threads, or on whether the run was resumed.

mod causal;
mod documents;
pub mod fixed_batch;
mod loader;
mod manifest;
mod mlm;
pub mod open;
mod permutation;
mod positioned;
mod prepare;
mod prepared;
mod shards;
mod source;
mod split;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod token_ids;
mod tokenizer;
mod writer;

pub use causal::{Causal, CausalBatch};
pub use documents::Documents;
pub use loader::{Loaded, Loader};
pub use manifest::{Counts, Dtype, Manifest, Recipe, Shard};
pub use mlm::{Mlm, MlmBatch};
pub use permutation::Permutation;
pub use prepare::{Phase, Prepare, Progress, prepare};
pub use prepared::{Part, Prepared};
pub use source::CargoFolders;
pub use token_ids::TokenIds;
pub use tokenizer::{BertSpecials, END_OF_TEXT, Specials, Tokenizer};

pub use crate::files::names::MANIFEST;

use crate::error::Result;

/// Batches of one family, as pure functions of a cursor.
pub trait Batches: Send + Sync + 'static {
    /// A batch on the host.
    type Batch: Send + 'static;

    /// `sequences` sequences of `length` tokens from the training part, the first at `cursor`. The parts of a
    /// batch are the batches of its parts: cursors come from [`Batches::advance`].
    ///
    /// # Errors
    /// Where shards cannot be read or the training part is too short for the length.
    fn batch(&self, cursor: u64, sequences: usize, length: usize) -> Result<Self::Batch>;

    /// The cursor after `sequences` sequences of `length`.
    fn advance(&self, cursor: u64, sequences: usize, length: usize) -> u64;

    /// Up to `sequences` sequences of `length` tokens from the held-out part, in order, from sequence
    /// `first` on; `None` past the end. Always the same ones, whatever the seed.
    ///
    /// # Errors
    /// As [`Batches::batch`].
    fn held_out(&self, first: usize, sequences: usize, length: usize) -> Result<Option<Self::Batch>>;

    /// Sequences of `length` in the held-out part.
    ///
    /// # Errors
    /// As [`Batches::batch`].
    fn held_out_sequences(&self, length: usize) -> Result<usize>;
}
