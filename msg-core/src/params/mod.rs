//! Parameters: named tensors with roles, listed once by each module and walked by everything else.
//!
//! Initialisation, counting, growth, the optimizer, saving and loading are all [`Visitor`]s of the same
//! list. A module writes that list by implementing [`Module::walk`]; destructuring `self` there makes
//! the compiler refuse a list that forgets a field.

pub(crate) mod depth;
mod map;
mod name;
mod role;

pub use map::TensorMap;
pub use name::ParamName;
pub use role::{Flow, Kind, Role};

use crate::{
    axis::NamedShape,
    error::{Error, Result},
};
use depth::DepthMap;
use dfdx::{shapes::HasShape, tensor::Tensor, tensor_ops::Device};

/// A tensor of parameters.
pub type Param<S, D> = Tensor<S, f32, D>;

/// An action on every parameter of a module.
pub trait Visitor<D: Device<f32>> {
    /// Called once for each parameter, in the module's order. It may replace the tensor.
    fn visit<S: NamedShape>(&mut self, name: &ParamName, role: Role, tensor: &mut Param<S, D>) -> Result<()>;
}

/// Anything that owns parameters.
///
/// Cloning a module shares its tensors (dfdx tensors are reference counted), so that a clone is cheap.
pub trait Module<D: Device<f32>>: Clone {
    /// Lists every parameter once: its name below `at`, its role, the tensor.
    ///
    /// # Errors
    /// Whatever the visitor refuses; the walk stops there.
    fn walk<V: Visitor<D>>(&mut self, at: &ParamName, visitor: &mut V) -> Result<()>;

    /// Arranges the module's layers for a growth in depth. Modules without layers refuse.
    ///
    /// # Errors
    /// [`Error::NoLayers`] by default.
    fn arrange_layers(&mut self, depth: &DepthMap) -> Result<()> {
        Err(Error::NoLayers { got: depth.layers().len() })
    }

    /// Walks without changing anything.
    ///
    /// # Errors
    /// Whatever the visitor refuses.
    fn inspect<V: Visitor<D>>(&self, visitor: &mut V) -> Result<()> {
        self.clone().walk(&ParamName::root(), visitor)
    }

    /// The number of parameters.
    fn num_params(&self) -> usize {
        struct Count(usize);
        impl<D: Device<f32>> Visitor<D> for Count {
            fn visit<S: NamedShape>(&mut self, _: &ParamName, _: Role, t: &mut Param<S, D>) -> Result<()> {
                self.0 += t.shape().num_elements();
                Ok(())
            }
        }
        let mut count = Count(0);
        match self.inspect(&mut count) {
            Ok(()) => count.0,
            Err(_) => unreachable!("counting refuses nothing"),
        }
    }

    /// All parameters by name, sharing their memory.
    fn tensors(&self) -> TensorMap<D> {
        struct Collect<D: Device<f32>>(TensorMap<D>);
        impl<D: Device<f32>> Visitor<D> for Collect<D> {
            fn visit<S: NamedShape>(&mut self, name: &ParamName, _: Role, t: &mut Param<S, D>) -> Result<()> {
                self.0.insert(name, t.clone());
                Ok(())
            }
        }
        let mut collect = Collect(TensorMap::default());
        match self.inspect(&mut collect) {
            Ok(()) => collect.0,
            Err(_) => unreachable!("collecting refuses nothing"),
        }
    }
}
