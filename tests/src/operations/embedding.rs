//! The sum of embeddings: its plain chain is the reference.

use super::{Results, tensor};
use crate::with_gradients;
use dfdx::tensor::{Cpu, OwnedTape};
use msg_core::{
    Backend, Result,
    axis::{Batch, Hidden, Position, Query, Segment, Vocab},
    ops::{Embeddings, Ids, Stream, embedding},
};

/// Relative to the largest value.
pub const TOLERANCE: f64 = 1e-6;

/// # Errors
/// Where the operation refuses.
pub fn plain() -> Result<Results> {
    results(&Cpu::default(), |of| embedding::plain(of, OwnedTape::default()))
}

/// # Errors
/// Where the operation refuses.
pub fn on<D: Backend>(device: &D) -> Result<Results> {
    results(device, |of| of.sum(OwnedTape::default()))
}

fn results<D: Backend>(
    device: &D,
    way: impl Fn(Embeddings<'_, D>) -> Result<Stream<D, OwnedTape<f32, D>>>,
) -> Result<Results> {
    let mut results = Results::new();
    let (batch, length, entries) = (Batch(3), Query(11), Vocab(17));
    let places = batch.0 * length.0;
    for (segment_count, width) in [(1, 5), (2, 33)] {
        let words = tensor::<_, f32, D>(device, "words", (entries, Hidden(width)));
        let segments = tensor::<_, f32, D>(device, "segments", (Segment(segment_count), Hidden(width)));
        let positions = tensor::<_, f32, D>(device, "positions", (Position(12), Hidden(width)));
        let word_ids: Vec<u32> = (0..places).map(|at| (at * at % entries.0) as u32).collect();
        let segment_ids: Vec<u32> = (0..places).map(|at| (at % 3 % segment_count) as u32).collect();
        // Positions that repeat within a sequence, too.
        let position_ids: Vec<u32> = (0..length.0 as u32).map(|at| at / 2 + 3).collect();
        let word_ids = Ids::new(device, "words", &word_ids, (batch, length), entries)?;
        let segment_ids =
            Ids::new(device, "segments", &segment_ids, (batch, length), Segment(segment_count))?;
        let position_ids = Ids::new(device, "positions", &position_ids, (length,), Position(12))?;
        let of = Embeddings {
            words: (&words, &word_ids),
            segments: (segment_count > 1).then_some((&segments, &segment_ids)),
            positions: (&positions, &position_ids),
        };
        let name = format!("{segment_count} segments, width {width}");
        if segment_count > 1 {
            with_gradients!(results, name, way(of)?, [words, segments, positions]);
        } else {
            with_gradients!(results, name, way(of)?, [words, positions]);
        }
    }
    Ok(results)
}
