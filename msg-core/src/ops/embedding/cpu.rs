//! The sum of embeddings as one node on the Cpu.
//!
//! A row of a table gets the gradients of its places in their order, by the one task that owns it.

use super::{EmbedKernel, Embeddings, Ids};
use crate::{
    axis::Axis,
    device::slice::{values, values_mut},
    error::{Context, Result},
    ops::{masked_norm::cpu::add, stream::Stream},
    params::Param,
    simd::vectorized,
};
use dfdx::{
    shapes::{HasShape, Shape},
    tensor::{Cpu, Gradients, PutTape, Tape, ZerosTensor},
};
use rayon::prelude::*;

/// Tasks that share a table's rows when gradients are added.
const TASKS: usize = 16;

impl EmbedKernel for Cpu {
    fn embed_sum<T: Tape<f32, Self>>(of: Embeddings<'_, Self>, mut tape: T) -> Result<Stream<Self, T>> {
        let Embeddings { words, segments, positions } = of;
        let (batch, query) = *words.1.shape();
        let hidden = words.0.shape().1;
        let mut y = words.0.device().try_zeros_like(&(batch, query, hidden)).during("embed")?;
        let of = Rows {
            words: (values(words.0), values(words.1.tensor())),
            segments: segments.map(|(table, ids)| (values(table), values(ids.tensor()))),
            positions: (values(positions.0), values(positions.1.tensor())),
        };
        of.sum(values_mut(&mut y), hidden.0, query.0);
        if T::OWNS_TAPE {
            let result = y.ghost();
            let words = (words.0.clone(), words.1.clone());
            let positions = (positions.0.clone(), positions.1.clone());
            let segments = segments.map(|(table, ids)| (table.clone(), ids.clone()));
            tape.add_backward_op(move |grads| {
                let gradient: &mut Vec<f32> = grads.get_or_alloc_mut(&result)?;
                let dy = std::mem::take(gradient);
                scatter(&words, &dy, hidden.0, grads)?;
                if let Some(segments) = &segments {
                    scatter(segments, &dy, hidden.0, grads)?;
                }
                scatter(&positions, &dy, hidden.0, grads)?;
                let slot: &mut Vec<f32> = grads.get_or_alloc_mut(&result)?;
                *slot = dy;
                Ok(())
            });
        }
        Ok(y.put_tape(tape))
    }
}

/// Tables, and the row that each place takes of them.
struct Rows<'a> {
    words: (&'a [f32], &'a [usize]),
    segments: Option<(&'a [f32], &'a [usize])>,
    positions: (&'a [f32], &'a [usize]),
}

impl Rows<'_> {
    /// Writes the sum of its rows to each place of `y`; `length` places are a sequence.
    fn sum(&self, y: &mut [f32], hidden: usize, length: usize) {
        let row = |(table, ids): (&'_ [f32], &'_ [usize]), place: usize| -> std::ops::Range<usize> {
            let id = ids[place];
            debug_assert!((id + 1) * hidden <= table.len());
            id * hidden..(id + 1) * hidden
        };
        y.par_chunks_mut(hidden).enumerate().for_each(|(place, y)| {
            let word = &self.words.0[row(self.words, place)];
            let position = &self.positions.0[row(self.positions, place % length)];
            let segment = self.segments.map(|segments| &segments.0[row(segments, place)]);
            vectorized(
                #[inline(always)]
                || {
                    y.copy_from_slice(word);
                    if let Some(segment) = segment {
                        y.iter_mut().zip(segment).for_each(|(y, x)| *y += x);
                    }
                    y.iter_mut().zip(position).for_each(|(y, x)| *y += x);
                },
            );
        });
    }
}

/// Adds the gradient of every place to the row that it took. Ids that are fewer than the places repeat.
fn scatter<A: Axis, H: Axis, S: Shape>(
    (table, ids): &(Param<(A, H), Cpu>, Ids<A, S, Cpu>),
    dy: &[f32],
    hidden: usize,
    grads: &mut Gradients<f32, Cpu>,
) -> std::result::Result<(), dfdx::tensor::CpuError> {
    scatter_rows(grads.get_or_alloc_mut(table)?, values(ids.tensor()), dy, hidden);
    Ok(())
}

fn scatter_rows(dtable: &mut [f32], ids: &[usize], dy: &[f32], hidden: usize) {
    let rows = (dtable.len() / hidden).div_ceil(TASKS);
    dtable.par_chunks_mut(rows * hidden).enumerate().for_each(|(task, dtable)| {
        let owned = task * rows..task * rows + dtable.len() / hidden;
        for (dy, id) in dy.chunks_exact(hidden).zip(ids.iter().cycle()) {
            if owned.contains(id) {
                add(&mut dtable[(id - owned.start) * hidden..][..hidden], dy);
            }
        }
    });
}
