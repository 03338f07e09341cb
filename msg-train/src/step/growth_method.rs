//! A growth of a model with its optimizer, by an operator of the list or any other one.

use crate::{
    config::operators::{OperatorKind, WithOperator},
    schedule::plan::Boundary,
};
use msg_core::{
    Backend,
    error::Result,
    growth::{Growth, Operator, Preserves, Ramp},
    optim::{AnyOptimizer, StatePolicy},
};
use msg_models::{GrowingModel, GrowthSpec, Sizes, WidthInit};

/// An operator for models of one type, whatever its own type.
pub trait GrowthMethod<D: Backend, M>: Send + Sync {
    /// Whether new units begin behind masks.
    fn masked(&self) -> bool;

    /// What it does to the function.
    fn preserves(&self) -> Preserves;

    /// What it is, in a few words.
    fn describe(&self) -> String;

    /// The grown model.
    ///
    /// # Errors
    /// Where the maps do not fit the model.
    fn grow(&self, model: M, growth: &Growth, ramp: Ramp) -> Result<M>;

    /// The optimizer of the grown model.
    ///
    /// # Errors
    /// Where the maps do not fit its state.
    fn grow_optimizer(
        &self,
        optimizer: &AnyOptimizer<D>,
        grown: &M,
        growth: &Growth,
        policy: StatePolicy,
    ) -> Result<AnyOptimizer<D>>;
}

impl<D: Backend, M: GrowingModel<D>, O: Operator<D> + Send + Sync> GrowthMethod<D, M> for O {
    fn masked(&self) -> bool {
        Operator::masked(self)
    }

    fn preserves(&self) -> Preserves {
        Operator::preserves(self)
    }

    fn describe(&self) -> String {
        Operator::describe(self)
    }

    fn grow(&self, model: M, growth: &Growth, ramp: Ramp) -> Result<M> {
        model.into_grown(growth, self, ramp)
    }

    fn grow_optimizer(
        &self,
        optimizer: &AnyOptimizer<D>,
        grown: &M,
        growth: &Growth,
        policy: StatePolicy,
    ) -> Result<AnyOptimizer<D>> {
        optimizer.grown_by(grown, growth, policy, self)
    }
}

/// The operator of the list, with the rule for new units.
pub(crate) fn listed<D: Backend, M: GrowingModel<D> + 'static>(
    kind: OperatorKind,
    units: WidthInit,
) -> Box<dyn GrowthMethod<D, M>> {
    struct Boxed<M>(std::marker::PhantomData<M>);
    impl<D: Backend, M: GrowingModel<D> + 'static> WithOperator<D> for Boxed<M> {
        type Out = Box<dyn GrowthMethod<D, M>>;
        fn with<O: Operator<D> + Send + Sync + 'static>(self, operator: O) -> Self::Out {
            Box::new(operator)
        }
    }
    kind.with::<D, _>(units, Boxed(std::marker::PhantomData))
}

/// What a boundary asks of a growth in a run with that seed.
pub(crate) fn spec_of(boundary: &Boundary, seed: u64) -> GrowthSpec {
    GrowthSpec { seed, number: boundary.number, units: boundary.growth.units, layers: boundary.growth.layers }
}

/// Grows a model to the sizes `to` and returns it with the maps. The old tensors are freed on the way.
///
/// # Errors
/// Where an axis would shrink.
pub(crate) fn enlarge<D: Backend, M: GrowingModel<D>>(
    model: M,
    to: Sizes,
    spec: &GrowthSpec,
    ramp: Ramp,
    method: &dyn GrowthMethod<D, M>,
) -> Result<(M, Growth)> {
    let growth = model.growth_to(to, spec)?;
    Ok((method.grow(model, &growth, ramp)?, growth))
}
