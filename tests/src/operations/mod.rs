//! Every operation as one body for any device, so that its ways of computing can be held against each other.
//!
//! A file has the name of its operation and three items: `plain`, the results of a reference on the Cpu; `on`, those of
//! a device's way; `TOLERANCE`, how far they may be apart, relative to the largest value. Results are values and the
//! gradients of all inputs, at small odd sizes, with masks at 0, between and absent.

pub mod attention;
pub mod block;
pub mod cross_entropy;
pub mod dropout;
pub mod embedding;
pub mod gelu;
pub mod head;
pub mod linear;
pub mod masked_norm;
pub mod matmul;

use crate::{close::assert_close, finite::normals};
use dfdx::{
    shapes::{HasShape, Shape},
    tensor::{Gradients, OwnedTape, Tensor},
    tensor_ops::{Backward, Device, SumTo, TryMul},
};
use msg_core::{Result, axis::Axis, error::Context, float::Float, mask::Mask};

/// What results are of, and their values.
pub type Results = Vec<(String, Vec<f64>)>;

/// Fails unless two ways have the same results, each within `tolerance` of its largest value.
///
/// # Panics
/// Where they differ by more, in name or number, by a NaN, or where there is nothing to compare.
pub fn assert_twins(operation: &str, tolerance: f64, plain: &Results, ours: &Results) {
    assert!(!plain.is_empty() && plain.len() == ours.len(), "{operation}: number of results");
    for ((name, plain), (same, ours)) in plain.iter().zip(ours) {
        assert_eq!(name, same, "{operation}");
        let what = format!("{operation}: {name}");
        assert!(plain.iter().any(|value| *value != 0.0), "{what}: only zeros");
        assert_close(&what, plain, ours, tolerance);
    }
}

/// A random tensor on any device, the same for the same name and shape.
pub fn tensor<S: Shape, E: Float, D: Device<E>>(device: &D, name: &str, shape: S) -> Tensor<S, E, D> {
    device.tensor_from_vec(normals(name, shape.num_elements()), shape)
}

/// A mask with the last third of the units at `m`.
pub fn mask<A: Axis, E: Float, D: Device<E>>(device: &D, axis: A, m: Option<f64>) -> Result<Mask<A, E, D>> {
    let Some(m) = m else { return Ok(Mask::none()) };
    let units = axis.size();
    let value = |unit| if 3 * unit < 2 * units { 1.0 } else { m };
    Mask::new(device, axis, (0..units).map(|unit| E::of(value(unit))).collect())
}

/// The masks of [`mask`] that operations are tried with.
pub const MASKS: [Option<f64>; 3] = [None, Some(0.0), Some(0.3)];

/// A tensor's values.
pub fn values<S: Shape, E: Float, D: Device<E>>(tensor: &Tensor<S, E, D>) -> Vec<f64> {
    tensor.as_vec().into_iter().map(|value| value.to_f64().unwrap_or(f64::NAN)).collect()
}

/// The gradients of an output's sum with random weights, so that each entry gets another one.
pub fn backward<S: Shape, E: Float, D: Device<E>>(
    output: Tensor<S, E, D, OwnedTape<E, D>>,
) -> Result<Gradients<E, D>> {
    let weights = tensor(output.device(), "weights of the outputs", *output.shape());
    Ok(output.try_mul(weights).during("test")?.sum::<(), S::AllAxes>().backward())
}

/// Adds the values of `$y`, and the gradients of `$of`, to the results.
#[macro_export]
macro_rules! with_gradients {
    ($results:ident, $name:expr, $y:expr, [$($of:ident),+]) => {{
        let (y, name) = ($y, String::from($name));
        $results.push((name.clone(), $crate::operations::values(&y.retaped::<dfdx::tensor::NoneTape>())));
        let gradients = $crate::operations::backward(y)?;
        $($results.push((
            format!("{name}: gradient of {}", stringify!($of)),
            $crate::operations::values(&gradients.get(&$of)),
        ));)+
    }};
}
