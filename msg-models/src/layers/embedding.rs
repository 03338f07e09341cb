//! A table of vectors.

use crate::layers::zeros::zeros;
use msg_core::{
    Backend,
    axis::{Axis, Hidden},
    error::Result,
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
    pub fn new(device: &D, entries: A, hidden: Hidden) -> Result<Self> {
        Ok(Embedding { weight: zeros(device, (entries, hidden))? })
    }
}

impl<A: Axis, D: Backend> Module<D> for Embedding<A, D> {
    fn walk<V: Visitor<D>>(&mut self, at: &ParamName, visitor: &mut V) -> Result<()> {
        let Embedding { weight } = self;
        visitor.visit(&at.join("weight"), Role::embedding(), weight)
    }
}
