//! A table of vectors.

use super::zeros;
use dfdx::{
    shapes::{ReplaceDimTo, Shape},
    tensor::{Tape, Tensor},
};
use msg_core::{
    Backend, Result,
    axis::{Axis, Hidden},
    ops::{self, Ids},
    params::{Module, Param, ParamName, Role, Visitor},
};

/// One vector of [`Hidden`] for each entry of `A`.
#[derive(Clone, Debug)]
pub struct Embedding<A: Axis, D: Backend> {
    /// (entries, units).
    pub weight: Param<(A, Hidden), D>,
}

impl<A: Axis, D: Backend> Embedding<A, D> {
    /// A table of zeros.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn new(device: &D, entries: A, hidden: Hidden) -> Result<Self> {
        Ok(Embedding { weight: zeros(device, (entries, hidden))? })
    }

    /// The vectors at `ids`.
    ///
    /// # Errors
    /// Where the ids were checked against a table of another size, or the device fails.
    pub fn forward<S: Shape, Out: Shape, T: Tape<f32, D>>(
        &self,
        ids: &Ids<A, S, D>,
    ) -> Result<Tensor<Out, f32, D, T>>
    where
        (A, Hidden): ReplaceDimTo<Out, S>,
    {
        ops::embed(self.weight.retaped::<T>(), ids)
    }
}

impl<A: Axis, D: Backend> Module<D> for Embedding<A, D> {
    fn walk<V: Visitor<D>>(&mut self, at: &ParamName, visitor: &mut V) -> Result<()> {
        let Embedding { weight } = self;
        visitor.visit(&at.join("weight"), Role::embedding(), weight)
    }
}
