//! The one place where a tensor's axes get other names: each renaming is checked and has a name of its own.
//!
//! dfdx's `reshape_like` and `realize` accept any axes of the right count; nothing outside this file
//! may call them (a test reads the sources for that).

use super::{AttnDim, Batch, EndsWith, HeadDim, Heads, Hidden, HiddenOut, Key, Query, Rows};
use crate::error::{Context, Error, Result};
use dfdx::{
    shapes::{Axes4, ConstDim, Dim, Dtype, HasShape, Shape},
    tensor::{Tape, Tensor},
    tensor_ops::{Device, PermuteTo, RealizeTo, ReshapeTo},
};

/// All entries of a parameter in one axis, under the parameter's identity; see [`as_leaf`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entries(usize);

impl Dim for Entries {
    fn size(&self) -> usize {
        self.0
    }
    fn from_size(size: usize) -> Option<Self> {
        Some(Entries(size))
    }
}

/// dfdx lets other crates mark a tensor as a leaf only if its shape is const. Nothing that it does with
/// a leaf reads this number: gradients are made as long as the tensor's storage.
impl ConstDim for Entries {
    const SIZE: usize = 0;
}

/// A parameter in the form in which dfdx takes it as a leaf: the same identity and memory.
pub(crate) fn as_leaf<S: Shape, D: Device<f32>>(
    parameter: &Tensor<S, f32, D>,
) -> Result<Tensor<(Entries,), f32, D>> {
    let entries = Entries(parameter.shape().num_elements());
    parameter.clone().try_reshape_like(&(entries,)).during("as_leaf")
}

/// The positions of a sequence in the role of keys. Copies no data.
pub fn query_as_key<E: Dtype, D: Device<E>, T: Tape<E, D>>(
    x: Tensor<(Batch, Query, AttnDim), E, D, T>,
) -> Result<Tensor<(Batch, Key, AttnDim), E, D, T>> {
    x.try_realize().map_err(|_| Error::Device { op: "query_as_key", message: "realize refused".into() })
}

/// Hidden units (a mask, say) as the outputs of a square map. Copies no data.
pub fn hidden_out<E: Dtype, D: Device<E>, T: Tape<E, D>>(
    x: Tensor<(Hidden,), E, D, T>,
) -> Result<Tensor<(HiddenOut,), E, D, T>> {
    x.try_realize().map_err(|_| Error::Device { op: "hidden_out", message: "realize refused".into() })
}

/// Outputs of a square map as hidden units again. Copies no data.
pub fn hidden_in<E: Dtype, D: Device<E>, T: Tape<E, D>, L: Dim>(
    x: Tensor<(L, HiddenOut), E, D, T>,
) -> Result<Tensor<(L, Hidden), E, D, T>> {
    x.try_realize().map_err(|_| Error::Device { op: "hidden_in", message: "realize refused".into() })
}

/// All positions of a batch in one axis. Copies no data if the tensor is contiguous.
pub fn merge_rows<E: Dtype, D: Device<E>, T: Tape<E, D>, A: Dim>(
    x: Tensor<(Batch, Query, A), E, D, T>,
) -> Result<Tensor<(Rows, A), E, D, T>> {
    let (batch, query, last) = *x.shape();
    x.try_reshape_like(&(Rows(batch.0 * query.0), last)).during("merge_rows")
}

/// The inverse of [`merge_rows`].
pub fn split_rows<E: Dtype, D: Device<E>, T: Tape<E, D>, A: Dim>(
    x: Tensor<(Rows, A), E, D, T>,
    batch: Batch,
    query: Query,
) -> Result<Tensor<(Batch, Query, A), E, D, T>> {
    let (rows, last) = *x.shape();
    crate::error::same_size("split_rows", "Rows", batch.0 * query.0, rows.0)?;
    x.try_reshape_like(&(batch, query, last)).during("split_rows")
}

/// All leading axes in one. Copies no data if the tensor is contiguous.
pub fn flatten_rows<A: Dim, S: EndsWith<A>, E: Dtype, D: Device<E>, T: Tape<E, D>>(
    x: Tensor<S, E, D, T>,
) -> Result<Tensor<(Rows, A), E, D, T>> {
    let shape = (Rows(x.shape().rows()), x.shape().last());
    x.try_reshape_like(&shape).during("flatten_rows")
}

/// The inverse of [`flatten_rows`], to a given shape.
pub fn unflatten_rows<A: Dim, S: EndsWith<A>, E: Dtype, D: Device<E>, T: Tape<E, D>>(
    x: Tensor<(Rows, A), E, D, T>,
    shape: S,
) -> Result<Tensor<S, E, D, T>> {
    let (rows, last) = *x.shape();
    crate::error::same_size("unflatten_rows", "Rows", shape.rows(), rows.0)?;
    crate::error::same_size("unflatten_rows", "last", shape.last().size(), last.size())?;
    x.try_reshape_like(&shape).during("unflatten_rows")
}

/// Splits AttnDim into its heads and moves them before the positions `P` (Query or Key).
pub fn split_heads<P: Dim, E: Dtype, D: Device<E>, T: Tape<E, D>>(
    x: Tensor<(Batch, P, AttnDim), E, D, T>,
    head_dim: HeadDim,
) -> Result<Tensor<(Batch, Heads, P, HeadDim), E, D, T>> {
    let (batch, positions, inner) = *x.shape();
    if head_dim.0 == 0 {
        return Err(Error::Zero { what: "head size" });
    }
    if !inner.0.is_multiple_of(head_dim.0) {
        return Err(Error::Heads { inner: inner.0, head_dim: head_dim.0 });
    }
    let heads = Heads(inner.0 / head_dim.0);
    x.try_reshape_like(&(batch, positions, heads, head_dim))
        .and_then(|x| x.try_permute::<(Batch, Heads, P, HeadDim), Axes4<0, 2, 1, 3>>())
        .and_then(|x| x.try_contiguous())
        .during("split_heads")
}

/// The inverse of [`split_heads`].
pub fn merge_heads<P: Dim, E: Dtype, D: Device<E>, T: Tape<E, D>>(
    x: Tensor<(Batch, Heads, P, HeadDim), E, D, T>,
) -> Result<Tensor<(Batch, P, AttnDim), E, D, T>> {
    let (batch, heads, positions, head_dim) = *x.shape();
    x.try_permute::<(Batch, P, Heads, HeadDim), Axes4<0, 2, 1, 3>>()
        .and_then(|x| x.try_reshape_like(&(batch, positions, AttnDim(heads.0 * head_dim.0))))
        .during("merge_heads")
}
