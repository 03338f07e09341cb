//! Embedding tables, and indices that are checked before they reach a device.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use crate::{
    axis::{Axis, Batch, Hidden, Position, Query, Segment, Vocab},
    error::{Context, Error, Result},
    float::Float,
    ops::stream::Stream,
    params::Param,
};
use dfdx::{
    shapes::{Axis as At, HasShape, ReplaceDimTo, Shape},
    tensor::{PutTape, Tape, Tensor, TensorFromVec},
    tensor_ops::{BroadcastTo, Device, GatherTo, TryAdd},
};

/// Indices into a table of `A`, one per place of shape `S`, all within the table's size.
#[derive(Clone, Debug)]
pub struct Ids<A: Axis, S: Shape, D: dfdx::tensor::Storage<usize>> {
    table: A,
    ids: Tensor<S, usize, D>,
}

impl<A: Axis, S: Shape, D: TensorFromVec<usize>> Ids<A, S, D> {
    /// Checks host indices against the table's size and copies them to the device.
    ///
    /// # Errors
    /// [`Error::Count`] where their number does not fill the shape, [`Error::Index`] for the first one
    /// that is out of range, [`Error::Zero`] for an empty shape.
    pub fn new(device: &D, what: &'static str, ids: &[u32], shape: S, table: A) -> Result<Self> {
        let expected = shape.num_elements();
        if expected == 0 {
            return Err(Error::Zero { what });
        }
        if ids.len() != expected {
            return Err(Error::Count { what, expected, got: ids.len() });
        }
        let limit = table.size();
        if let Some((place, &index)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= limit) {
            return Err(Error::Index { what, index: index.into(), place, limit });
        }
        let ids = ids.iter().map(|&id| id as usize).collect();
        let ids = device.try_tensor_from_vec(ids, shape).during(what)?;
        Ok(Ids { table, ids })
    }

    /// The shape of the places.
    pub fn shape(&self) -> &S {
        self.ids.shape()
    }

    /// The indices on the device.
    pub fn tensor(&self) -> &Tensor<S, usize, D> {
        &self.ids
    }
}

/// The table's row for every index.
///
/// # Errors
/// Where the ids were checked against a table of another size.
pub fn embed<A, H, S, Out, E, D, T>(
    table: Tensor<(A, H), E, D, T>,
    ids: &Ids<A, S, D>,
) -> Result<Tensor<Out, E, D, T>>
where
    A: Axis,
    H: Axis,
    S: Shape,
    Out: Shape,
    (A, H): ReplaceDimTo<Out, S>,
    E: Float,
    D: Device<E>,
    T: Tape<E, D>,
{
    crate::error::same_size("embed", A::NAME, ids.table.size(), table.shape().0.size())?;
    table.try_gather(ids.ids.clone()).during("embed")
}

/// A table, and a row of it for every place.
pub type Rows<'a, A, S, D> = (&'a Param<(A, Hidden), D>, &'a Ids<A, S, D>);

/// Inputs of the embedding sum.
#[derive(Clone, Copy, Debug)]
pub struct Embeddings<'a, D: Device<f32>> {
    /// By token.
    pub words: Rows<'a, Vocab, (Batch, Query), D>,
    /// By segment, where the model knows segments.
    pub segments: Option<Rows<'a, Segment, (Batch, Query), D>>,
    /// By position, the same for every sequence.
    pub positions: Rows<'a, Position, (Query,), D>,
}

/// A device that sums embeddings.
pub trait EmbedKernel: Device<f32> {
    /// The sum of the tables' rows at every place; sizes fit.
    fn embed_sum<T: Tape<f32, Self>>(of: Embeddings<'_, Self>, tape: T) -> Result<Stream<Self, T>> {
        plain(of, tape)
    }
}

impl<D: EmbedKernel> Embeddings<'_, D> {
    /// The sum of the tables' rows at every place, by the device's fastest implementation.
    ///
    /// # Errors
    /// Where the ids were checked against tables of other sizes or do not fit each other.
    pub fn sum<T: Tape<f32, D>>(self, tape: T) -> Result<Stream<D, T>> {
        const OP: &str = "embed";
        let Embeddings { words, segments, positions } = self;
        let hidden = fits(words, None)?;
        fits(positions, Some(hidden))?;
        crate::error::same_size(OP, "Query", words.1.shape().1.0, positions.1.shape().0.0)?;
        if let Some(segments) = segments {
            fits(segments, Some(hidden))?;
            crate::error::same_shape(OP, words.1.shape(), segments.1.shape())?;
        }
        D::embed_sum(self, tape)
    }
}

/// Checks a table against its ids, and returns the size of its rows.
fn fits<A: Axis, S: Shape, D: Device<f32>>(
    (table, ids): Rows<'_, A, S, D>,
    rows: Option<usize>,
) -> Result<usize> {
    let (entries, hidden) = *table.shape();
    crate::error::same_size("embed", A::NAME, ids.table.size(), entries.size())?;
    crate::error::same_size("embed", Hidden::NAME, rows.unwrap_or(hidden.0), hidden.0)?;
    Ok(hidden.0)
}

/// The sum as a chain of operations: the reference.
///
/// # Errors
/// As [`Embeddings::sum`].
pub fn plain<D: Device<f32>, T: Tape<f32, D>>(of: Embeddings<'_, D>, tape: T) -> Result<Stream<D, T>> {
    let Embeddings { words, segments, positions } = of;
    let mut sum: Stream<D, T> = embed(words.0.clone().put_tape(tape), words.1)?;
    if let Some((table, ids)) = segments {
        let rows: Stream<D, T> = embed(table.retaped(), ids)?;
        sum = sum.try_add(rows).during("embed")?;
    }
    let rows: Tensor<(Query, Hidden), f32, D, T> = embed(positions.0.retaped(), positions.1)?;
    let rows = rows.try_broadcast_like::<_, At<0>>(sum.shape()).during("embed")?;
    sum.try_add(rows).during("embed")
}
