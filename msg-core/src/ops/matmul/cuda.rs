//! The products on Cuda: dfdx's own, by cuBLAS, with gradients to both operands.
//!
//! Operands are made contiguous first, because cuBLAS takes no other strides than those of a matrix and
//! of its transpose. Transposing copies no data. Equal to the Cpu up to rounding; cuBLAS may choose
//! another order of summation for other sizes.

use super::Matmul;
use crate::{
    axis::{Axis, Batch, EndsWith, HeadDim, Heads, Key, Query, flatten_rows, unflatten_rows},
    error::{Context, Result},
    float::Float,
};
use dfdx::{
    shapes::{Axes2, Axes4, HasShape},
    tensor::{Cuda, Tape, Tensor},
    tensor_ops::{Device, PermuteTo, ReshapeTo, TryMatMul},
};

const OP: &str = "matmul";

impl<E: Float> Matmul<E> for Cuda
where
    Cuda: Device<E>,
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
        let shape = x.shape().with(weight.shape().0);
        let x = flatten_rows(x.try_contiguous().during(OP)?)?;
        let weight =
            weight.try_contiguous().and_then(|w| w.try_permute::<(I, O), Axes2<1, 0>>()).during(OP)?;
        unflatten_rows(x.try_matmul(weight).during(OP)?, shape)
    }

    fn scores<T: Tape<E, Self>>(
        query: Tensor<(Batch, Heads, Query, HeadDim), E, Self, T>,
        key: Tensor<(Batch, Heads, Key, HeadDim), E, Self, T>,
    ) -> Result<Tensor<(Batch, Heads, Query, Key), E, Self, T>> {
        let key = key
            .try_contiguous()
            .and_then(|key| key.try_permute::<(Batch, Heads, HeadDim, Key), Axes4<0, 1, 3, 2>>())
            .during(OP)?;
        query.try_contiguous().and_then(|query| query.try_matmul(key)).during(OP)
    }

    fn weighted_values<T: Tape<E, Self>>(
        probabilities: Tensor<(Batch, Heads, Query, Key), E, Self, T>,
        value: Tensor<(Batch, Heads, Key, HeadDim), E, Self, T>,
    ) -> Result<Tensor<(Batch, Heads, Query, HeadDim), E, Self, T>> {
        let value = value.try_contiguous().during(OP)?;
        probabilities.try_contiguous().and_then(|p| p.try_matmul(value)).during(OP)
    }
}
