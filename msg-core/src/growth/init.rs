//! Initial values of a module's parameters: growth number 0.

use super::{
    Growth,
    kernel::{GrowKernel, NewEntries},
    masked::{FillRule, NORMAL_STD},
};
use crate::{
    axis::NamedShape,
    error::Result,
    params::{Module, Param, ParamName, Role, Visitor},
};
use dfdx::shapes::HasShape;

/// How a model starts: every entry is a function of the seed, its name and its coordinates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Init {
    /// The run's seed.
    pub seed: u64,
    /// Standard deviation of weights and embeddings.
    pub std: f32,
}

impl Default for Init {
    fn default() -> Self {
        Init { seed: 0, std: NORMAL_STD }
    }
}

impl Init {
    /// Zeros (weights of norms 1), for a module that is filled from a file: the system allocates no memory for zeros
    /// that are never touched.
    pub const BLANK: Init = Init { seed: 0, std: 0.0 };
}

/// Gives every parameter its initial value: weights and tables normal, biases 0, weights of norms 1.
pub fn init<D: GrowKernel, M: Module<D>>(module: &mut M, init: Init) -> Result<()> {
    init_where(module, init, |_| true)
}

/// As [`init`], for the parameters that `chosen` takes; their values do not depend on the choice.
pub fn init_where<D: GrowKernel, M: Module<D>>(
    module: &mut M,
    init: Init,
    chosen: impl Fn(&ParamName) -> bool,
) -> Result<()> {
    struct Start<F>(Growth, FillRule, F);
    impl<D: GrowKernel, F: Fn(&ParamName) -> bool> Visitor<D> for Start<F> {
        fn visit<S: NamedShape>(
            &mut self,
            name: &ParamName,
            role: Role,
            tensor: &mut Param<S, D>,
        ) -> Result<()> {
            if (self.2)(name) {
                let fresh = NewEntries { key: self.0.key(name), fill: self.1.fill(role, 0.0) };
                *tensor = D::fresh(tensor.device(), tensor.shape(), fresh)?;
            }
            Ok(())
        }
    }
    let rule = if init.std == 0.0 { FillRule::Zero } else { FillRule::Normal { std: init.std } };
    module.walk(&ParamName::root(), &mut Start(Growth::new(init.seed, 0), rule, chosen))
}
