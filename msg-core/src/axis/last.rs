//! Operations along the last axis, for every rank at once: broadcasting a vector over it, reducing it.

use dfdx::{
    shapes::{Axis as At, Dim, Dtype, Shape},
    tensor::{Tape, Tensor},
    tensor_ops::{BroadcastTo, Device, LogSumExpTo, MaxTo, SumTo},
};

/// A shape whose last axis is `A`. `Rest` is the shape without it.
pub trait EndsWith<A: Dim>: Shape {
    /// The leading axes.
    type Rest: Shape;
    /// The same leading axes, ending with `B`.
    type With<B: Dim>: EndsWith<B, Rest = Self::Rest>;

    /// The last axis.
    fn last(&self) -> A;
    /// The leading axes.
    fn rest(&self) -> Self::Rest;
    /// The number of rows: the product of the leading axes.
    fn rows(&self) -> usize {
        self.num_elements().checked_div(self.last().size()).unwrap_or(0)
    }
    /// The shape with another last axis.
    fn with<B: Dim>(&self, last: B) -> Self::With<B>;
    /// Broadcasts `vector` over all rows.
    fn broadcast_rows<E: Dtype, D: Device<E>, T: Tape<E, D>>(
        &self,
        vector: Tensor<(A,), E, D, T>,
    ) -> Result<Tensor<Self, E, D, T>, D::Err>;
    /// Broadcasts one value per row along the last axis.
    fn broadcast_last<E: Dtype, D: Device<E>, T: Tape<E, D>>(
        &self,
        column: Tensor<Self::Rest, E, D, T>,
    ) -> Result<Tensor<Self, E, D, T>, D::Err>;
    /// `log(sum(exp(x)))` of every row, without overflow.
    fn log_sum_exp<E: Dtype, D: Device<E>, T: Tape<E, D>>(
        rows: Tensor<Self, E, D, T>,
    ) -> Result<Tensor<Self::Rest, E, D, T>, D::Err>;
    /// The largest value of every row.
    fn max_last<E: Dtype, D: Device<E>, T: Tape<E, D>>(
        rows: Tensor<Self, E, D, T>,
    ) -> Result<Tensor<Self::Rest, E, D, T>, D::Err>;
    /// Sums every row, in index order.
    fn sum_last<E: Dtype, D: Device<E>, T: Tape<E, D>>(
        rows: Tensor<Self, E, D, T>,
    ) -> Result<Tensor<Self::Rest, E, D, T>, D::Err>;
}

macro_rules! ends_with {
    ($rank:tt, [$($lead:ident $at:tt),+], $over:ty) => {
        impl<A: Dim, $($lead: Dim),+> EndsWith<A> for ($($lead,)+ A) {
            type Rest = ($($lead,)+);
            type With<B: Dim> = ($($lead,)+ B);

            fn last(&self) -> A {
                self.$rank
            }
            fn rest(&self) -> Self::Rest {
                ($(self.$at,)+)
            }
            fn with<B: Dim>(&self, last: B) -> Self::With<B> {
                ($(self.$at,)+ last)
            }
            fn broadcast_rows<E: Dtype, D: Device<E>, T: Tape<E, D>>(
                &self,
                vector: Tensor<(A,), E, D, T>,
            ) -> Result<Tensor<Self, E, D, T>, D::Err> {
                vector.try_broadcast_like::<Self, $over>(self)
            }
            fn broadcast_last<E: Dtype, D: Device<E>, T: Tape<E, D>>(
                &self,
                column: Tensor<Self::Rest, E, D, T>,
            ) -> Result<Tensor<Self, E, D, T>, D::Err> {
                column.try_broadcast_like::<Self, At<$rank>>(self)
            }
            fn max_last<E: Dtype, D: Device<E>, T: Tape<E, D>>(
                rows: Tensor<Self, E, D, T>,
            ) -> Result<Tensor<Self::Rest, E, D, T>, D::Err> {
                rows.try_max::<Self::Rest, At<$rank>>()
            }
            fn sum_last<E: Dtype, D: Device<E>, T: Tape<E, D>>(
                rows: Tensor<Self, E, D, T>,
            ) -> Result<Tensor<Self::Rest, E, D, T>, D::Err> {
                rows.try_sum::<Self::Rest, At<$rank>>()
            }
            fn log_sum_exp<E: Dtype, D: Device<E>, T: Tape<E, D>>(
                rows: Tensor<Self, E, D, T>,
            ) -> Result<Tensor<Self::Rest, E, D, T>, D::Err> {
                rows.try_logsumexp::<Self::Rest, At<$rank>>()
            }
        }
    };
}

ends_with!(1, [L 0], At<0>);
ends_with!(2, [L 0, M 1], dfdx::shapes::Axes2<0, 1>);
ends_with!(3, [L 0, M 1, N 2], dfdx::shapes::Axes3<0, 1, 2>);
