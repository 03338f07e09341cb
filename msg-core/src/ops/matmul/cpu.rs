//! The products on the Cpu: one autograd node over [`gemm`](super::gemm), forward and backward.

use super::{
    Matmul,
    gemm::{Element, Matrix, Mode, Size, gemm_batched},
};
use crate::{
    axis::{Axis, Batch, EndsWith, HeadDim, Heads, Key, Query},
    device::slice::{values, values_mut},
    error::{Context, Result},
    float::Float,
};
use dfdx::{
    shapes::{HasShape, Shape},
    tensor::{Cpu, Merge, PutTape, SplitTape, Tape, Tensor, ZerosTensor},
    tensor_ops::{Device, ReshapeTo},
};

/// How the right operand lies in memory.
#[derive(Clone, Copy)]
enum Right {
    /// (k, n), row-major.
    Plain,
    /// (n, k), row-major.
    Transposed,
}

/// A batch of products of contiguous operands: left (m, k), right as told, result (m, n).
#[derive(Clone, Copy)]
struct Product {
    batch: usize,
    size: Size,
    right: Right,
}

impl Product {
    fn forward<E: Element>(self, a: &[E], b: &[E], c: &mut [E]) {
        let Size { m: _, n, k } = self.size;
        let right = match self.right {
            Right::Plain => Matrix::row_major(b, n),
            Right::Transposed => Matrix::row_major(b, k).transposed(),
        };
        self.run(self.size, Matrix::row_major(a, k), right, c, Mode::Overwrite);
    }

    /// Adds `dc b^T` to `da`.
    fn backward_left<E: Element>(self, b: &[E], dc: &[E], da: &mut [E]) {
        let Size { m, n, k } = self.size;
        let right = match self.right {
            Right::Plain => Matrix::row_major(b, n).transposed(),
            Right::Transposed => Matrix::row_major(b, k),
        };
        self.run(Size { m, n: k, k: n }, Matrix::row_major(dc, n), right, da, Mode::Accumulate);
    }

    /// Adds `a^T dc` (or its transpose) to `db`.
    fn backward_right<E: Element>(self, a: &[E], dc: &[E], db: &mut [E]) {
        let Size { m, n, k } = self.size;
        let (a, dc) = (Matrix::row_major(a, k), Matrix::row_major(dc, n));
        let (size, left, right) = match self.right {
            Right::Plain => (Size { m: k, n, k: m }, a.transposed(), dc),
            Right::Transposed => (Size { m: n, n: k, k: m }, dc.transposed(), a),
        };
        self.run(size, left, right, db, Mode::Accumulate);
    }

    fn run<E: Element>(self, size: Size, a: Matrix<'_, E>, b: Matrix<'_, E>, c: &mut [E], mode: Mode) {
        gemm_batched(self.batch, size, a, size.m * size.k, b, size.k * size.n, c, mode);
    }
}

/// The node: merges the operands' tapes, and adds to both gradients on the way back.
fn node<A, B, C, E, T>(
    a: Tensor<A, E, Cpu, T>,
    b: Tensor<B, E, Cpu, T>,
    shape: C,
    product: Product,
) -> Result<Tensor<C, E, Cpu, T>>
where
    A: Shape,
    B: Shape,
    C: Shape,
    E: Float + Element,
    T: Tape<E, Cpu>,
{
    const OP: &str = "matmul";
    let (a, tape) = a.try_contiguous().during(OP)?.split_tape();
    let (b, right_tape) = b.try_contiguous().during(OP)?.split_tape();
    let mut tape = Merge::<T>::merge(tape, right_tape);
    let mut c = a.device().try_zeros_like(&shape).during(OP)?;
    product.forward(values(&a), values(&b), values_mut(&mut c));
    let result = c.ghost();
    tape.add_backward_op(move |grads| {
        // Taken out while the operands' gradients are borrowed, and put back: safe without aliasing.
        let gradient: &mut Vec<E> = grads.get_or_alloc_mut(&result)?;
        let gradient = std::mem::take(gradient);
        let left: &mut Vec<E> = grads.get_or_alloc_mut(&a)?;
        product.backward_left(values(&b), &gradient, left);
        let right: &mut Vec<E> = grads.get_or_alloc_mut(&b)?;
        product.backward_right(values(&a), &gradient, right);
        let slot: &mut Vec<E> = grads.get_or_alloc_mut(&result)?;
        *slot = gradient;
        Ok(())
    });
    Ok(c.put_tape(tape))
}

impl<E: Float + Element> Matmul<E> for Cpu
where
    Cpu: Device<E>,
{
    fn linear<S, I, O, T>(
        x: Tensor<S, E, Self, T>,
        weight: Tensor<(O, I), E, Self, T>,
    ) -> Result<Tensor<S::With<O>, E, Self, T>>
    where
        I: Axis,
        O: Axis,
        S: EndsWith<I>,
        T: Tape<E, Self>,
    {
        let (outputs, inputs) = *weight.shape();
        let shape = *x.shape();
        let size = Size { m: shape.rows(), n: outputs.size(), k: inputs.size() };
        node(x, weight, shape.with(outputs), Product { batch: 1, size, right: Right::Transposed })
    }

    fn scores<T: Tape<E, Self>>(
        query: Tensor<(Batch, Heads, Query, HeadDim), E, Self, T>,
        key: Tensor<(Batch, Heads, Key, HeadDim), E, Self, T>,
    ) -> Result<Tensor<(Batch, Heads, Query, Key), E, Self, T>> {
        let (batch, heads, queries, head_dim) = *query.shape();
        let keys = key.shape().2;
        let size = Size { m: queries.0, n: keys.0, k: head_dim.0 };
        let product = Product { batch: batch.0 * heads.0, size, right: Right::Transposed };
        node(query, key, (batch, heads, queries, keys), product)
    }

    fn weighted_values<T: Tape<E, Self>>(
        probabilities: Tensor<(Batch, Heads, Query, Key), E, Self, T>,
        value: Tensor<(Batch, Heads, Key, HeadDim), E, Self, T>,
    ) -> Result<Tensor<(Batch, Heads, Query, HeadDim), E, Self, T>> {
        let (batch, heads, queries, keys) = *probabilities.shape();
        let head_dim = value.shape().3;
        let size = Size { m: queries.0, n: head_dim.0, k: keys.0 };
        let product = Product { batch: batch.0 * heads.0, size, right: Right::Plain };
        node(probabilities, value, (batch, heads, queries, head_dim), product)
    }
}
