//! Gradients of an operation against central finite differences, in f64 on the Cpu.

use crate::close::{assert_same_bits, size_of};
use dfdx::{
    shapes::Shape,
    tensor::{Cpu, Gradients, NoneTape, OwnedTape, Tape, Tensor, TensorFromVec},
    tensor_ops::{Backward, TryMul},
};
use msg_core::{
    Result,
    error::Context,
    float::Float,
    random::{Key, bits_at, normal},
};

/// The tape of a pass whose gradients are compared.
pub type Owned = OwnedTape<f64, Cpu>;

/// Half the distance between the two points of a difference.
const STEP: f64 = 1e-5;
/// How far gradient and difference may be apart, relative to the input's largest gradient.
const TOLERANCE: f64 = 1e-6;

/// `count` normal numbers, the same for the same name.
pub fn normals<E: Float>(name: &str, count: usize) -> Vec<E> {
    let key = Key::new(7, name, 0);
    (0..count as u32).map(|at| E::of(normal(bits_at(key, [0, 0, 0, at])).into())).collect()
}

/// A random tensor, the same for the same name and shape.
pub fn tensor<S: Shape, E: Float>(name: &str, shape: S) -> Tensor<S, E, Cpu>
where
    Cpu: TensorFromVec<E>,
{
    Cpu::default().tensor_from_vec(normals(name, shape.num_elements()), shape)
}

type Gradient = Box<dyn FnOnce(&mut Gradients<f64, Cpu>) -> Vec<f64>>;

/// Where an operation under test takes its inputs from; one entry of one of them may be shifted.
pub struct Inputs<T> {
    shift: Option<(usize, usize, f64)>,
    /// For every input taken its size and its way to its gradient.
    taken: Vec<(usize, Gradient)>,
    tape: std::marker::PhantomData<T>,
}

impl<T: Tape<f64, Cpu>> Inputs<T> {
    fn new(shift: Option<(usize, usize, f64)>) -> Self {
        Inputs { shift, taken: Vec::new(), tape: std::marker::PhantomData }
    }

    /// The next input, without a tape.
    pub fn parameter<S: Shape>(&mut self, shape: S) -> Tensor<S, f64, Cpu> {
        let mut values = normals(&format!("input {}", self.taken.len()), shape.num_elements());
        if let Some((input, entry, by)) = self.shift.filter(|shift| shift.0 == self.taken.len()) {
            assert!(input == self.taken.len() && entry < values.len());
            values[entry] += by;
        }
        let tensor = Cpu::default().tensor_from_vec(values, shape);
        let handle = tensor.clone();
        let gradient: Gradient = Box::new(move |grads| {
            grads.get_or_alloc_mut(&handle).expect("memory for a small gradient").to_vec()
        });
        self.taken.push((shape.num_elements(), gradient));
        tensor
    }

    /// The next input, with an empty tape of its own.
    pub fn take<S: Shape>(&mut self, shape: S) -> Tensor<S, f64, Cpu, T> {
        self.parameter(shape).retaped()
    }

    /// The same tensor once more, with an empty tape of its own.
    pub fn again<S: Shape, U: Tape<f64, Cpu>>(&self, x: &Tensor<S, f64, Cpu, U>) -> Tensor<S, f64, Cpu, T> {
        x.retaped()
    }
}

/// Compares the gradients of `taped` with differences of `plain`, the same operation without a tape.
///
/// The outputs are summed with random weights. Every input must have some gradient.
///
/// # Panics
/// Where a gradient is off, or the two forms differ in a bit of their output.
pub fn check<S: Shape>(
    taped: impl FnOnce(&mut Inputs<Owned>) -> Result<Tensor<S, f64, Cpu, Owned>>,
    plain: impl Fn(&mut Inputs<NoneTape>) -> Result<Tensor<S, f64, Cpu>>,
) -> Result<()> {
    let mut inputs = Inputs::new(None);
    let output = taped(&mut inputs)?;
    let values = output.as_vec();
    assert_same_bits("with and without a tape", &plain(&mut Inputs::new(None))?.as_vec(), &values);
    let weights: Vec<f64> = normals("weights of the outputs", values.len());
    let weighing = Cpu::default().tensor_from_vec(weights.clone(), *dfdx::shapes::HasShape::shape(&output));
    let loss = dfdx::tensor_ops::SumTo::sum::<(), S::AllAxes>(output.try_mul(weighing).during("test")?);
    let mut grads = loss.backward();

    let loss_at = |shift| -> Result<f64> {
        let values = plain(&mut Inputs::new(Some(shift)))?.as_vec();
        Ok(values.iter().zip(&weights).map(|(value, weight)| value * weight).sum())
    };
    for (input, (count, gradient)) in inputs.taken.into_iter().enumerate() {
        let gradient = gradient(&mut grads);
        let size = size_of(&gradient);
        assert_eq!(gradient.len(), count);
        assert!(size > 0.0, "input {input} has no gradient");
        for (entry, gradient) in gradient.into_iter().enumerate() {
            let rise = loss_at((input, entry, STEP))? - loss_at((input, entry, -STEP))?;
            let difference = rise / (2.0 * STEP);
            let close = (difference - gradient).abs() <= TOLERANCE * size;
            assert!(close, "input {input}, entry {entry}: gradient {gradient}, difference {difference}");
        }
    }
    Ok(())
}

/// [`check`](crate::finite::check) with the operation written once.
#[macro_export]
macro_rules! check_gradients {
    ($inputs:ident => $operation:expr) => {
        $crate::finite::check(
            |$inputs: &mut $crate::finite::Inputs<$crate::finite::Owned>| $operation,
            |$inputs: &mut $crate::finite::Inputs<dfdx::tensor::NoneTape>| $operation,
        )
    };
}
