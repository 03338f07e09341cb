//! What the rules need to know of a family.

use crate::growing::model::GrowingModel;
use msg_core::{Backend, ops::NormOrder, params::ParamName};

/// The properties of an architecture that the rules depend on.
#[derive(Clone, Copy, Debug)]
pub struct ResidualForm {
    /// Where norms stand.
    pub order: NormOrder,
    /// The norm that ends a layer, where layers end with one.
    pub closing_norm: fn(&ParamName) -> bool,
    /// The norm whose output meets the tied token table, where table and stream grow by copies.
    pub tied_norm: fn(&ParamName) -> bool,
}

/// A family that can grow exactly and be folded.
pub trait Architecture<D: Backend>: GrowingModel<D> {
    /// Its form.
    const FORM: ResidualForm;

    /// What is added to the variance in its norms.
    fn eps(&self) -> f64;

    /// The numbers of its configuration that change with its tensors.
    fn factors(&mut self) -> Factors<'_>;
}

/// The numbers of a configuration that change with the tensors.
#[derive(Debug)]
pub struct Factors<'a> {
    /// What is added to the variance in norms.
    pub eps: &'a mut f64,
    /// The size of one head.
    pub head_dim: &'a mut usize,
}
