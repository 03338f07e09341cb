//! The fixed batch on which a model is compared before and after a growth.

use super::Batches;
use crate::error::Result;

/// Sequences of the fixed batch.
pub const FIXED_SEQUENCES: usize = 2;

/// The first held-out sequences, or the first ones of training where none are held out.
///
/// # Errors
/// Where the data cannot be read or are too short for the length.
pub fn fixed_batch<S: Batches>(source: &S, length: usize) -> Result<S::Batch> {
    match source.held_out(0, FIXED_SEQUENCES, length)? {
        Some(host) => Ok(host),
        None => source.batch(0, FIXED_SEQUENCES, length),
    }
}
