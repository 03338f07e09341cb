//! What growth asks of a device.

use super::map::AxisMap;
use crate::{error::Result, params::Param, random::Key};
use dfdx::{shapes::Shape, tensor_ops::Device};

/// What new entries hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// The same value everywhere.
    Constant(f32),
    /// Independent normal numbers of mean 0, a function of the key and the coordinates in the new tensor (see
    /// [`random`](crate::random)), times `std`.
    Normal {
        /// Standard deviation.
        std: f32,
    },
}

/// What the new entries of one tensor hold.
#[derive(Clone, Copy, Debug)]
pub struct NewEntries {
    /// Source of their random numbers.
    pub key: Key,
    /// Their rule.
    pub fill: Fill,
}

/// A device that can create and grow parameters.
pub trait GrowKernel: Device<f32> {
    /// A tensor of new entries only.
    fn fresh<S: Shape>(&self, shape: &S, new: NewEntries) -> Result<Param<S, Self>>;

    /// A grown tensor: entries all of whose units have a source are copied from `old`, the others follow the rule.
    /// `maps` has one map per axis, and `shape` their new sizes. The result is a new tensor.
    fn grow<S: Shape, To: Shape>(
        &self,
        old: &Param<S, Self>,
        shape: To,
        maps: &[AxisMap],
        new: NewEntries,
    ) -> Result<Param<To, Self>>;

    /// Standard deviation of a tensor's values.
    fn std_of<S: Shape>(tensor: &Param<S, Self>) -> Result<f32>;
}
