//! Tensors by name, of any shape: old parameters during a growth, moments of an optimizer.

use super::{Param, ParamName};
use crate::error::{Error, Result};
use dfdx::{shapes::Shape, tensor::Storage};
use std::{any::Any, collections::BTreeMap, marker::PhantomData};

/// Tensors by parameter name. Each keeps its own shape type; asking for another is an error.
#[derive(Debug)]
pub struct TensorMap<D> {
    tensors: BTreeMap<String, Box<dyn Any>>,
    device: PhantomData<D>,
}

impl<D> Default for TensorMap<D> {
    fn default() -> Self {
        TensorMap { tensors: BTreeMap::new(), device: PhantomData }
    }
}

impl<D: Storage<f32>> TensorMap<D> {
    /// Inserts a tensor; one of the same name is replaced.
    pub fn insert<S: Shape>(&mut self, name: &ParamName, tensor: Param<S, D>) {
        self.tensors.insert(name.to_string(), Box::new(tensor));
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// [`Error::Missing`] where there is none of this name and shape type.
    pub fn get<S: Shape>(&self, op: &'static str, name: &ParamName) -> Result<&Param<S, D>> {
        let name = name.to_string();
        let found = self.tensors.get(&name).and_then(|tensor| tensor.downcast_ref());
        found.ok_or(Error::Missing { op, name })
    }

    /// The tensor of that name, to be changed in place.
    ///
    /// # Errors
    /// As [`TensorMap::get`].
    pub fn get_mut<S: Shape>(&mut self, op: &'static str, name: &ParamName) -> Result<&mut Param<S, D>> {
        let name = name.to_string();
        let found = self.tensors.get_mut(&name).and_then(|tensor| tensor.downcast_mut());
        found.ok_or(Error::Missing { op, name })
    }

    /// Removes the tensor of that name, if any.
    pub fn remove(&mut self, name: &ParamName) {
        self.tensors.remove(&name.to_string());
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }
}
