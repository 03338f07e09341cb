//! Tables of vectors, and indices that are checked before they reach a device.

use crate::{
    axis::Axis,
    device::{Float, Kernels},
    error::{Context, Error, Result},
};
use dfdx::{
    shapes::{HasShape, ReplaceDimTo, Shape},
    tensor::{Tape, Tensor, TensorFromVec},
    tensor_ops::GatherTo,
};

/// Indices into a table of `A`, one per place of shape `S`, all within the table's size.
#[derive(Clone, Debug)]
pub struct Ids<A: Axis, S: Shape, D: dfdx::tensor::Storage<usize>> {
    table: A,
    ids: Tensor<S, usize, D>,
}

impl<A: Axis, S: Shape, D: TensorFromVec<usize>> Ids<A, S, D> {
    /// Checks host indices against the table's size and hands them to the device.
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
/// Where the ids were checked against a table of another size, or the device fails.
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
    D: Kernels<E>,
    T: Tape<E, D>,
{
    crate::error::same_size("embed", A::NAME, ids.table.size(), table.shape().0.size())?;
    table.try_gather(ids.ids.clone()).during("embed")
}
