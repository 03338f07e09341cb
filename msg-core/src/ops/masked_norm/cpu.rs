//! The norm on host slices: forward, backward, and the node that dfdx's tape sees.
//!
//! Sums over units run in lanes (see [`crate::simd`]), sums over rows in chunks of [`ROWS`] rows that are
//! added in order, so that no bit depends on the threads.

use super::NormKernel;
use crate::{
    axis::{Axis, EndsWith},
    device::{
        buffers::Buffer,
        host::host,
        slice::{values, values_mut},
    },
    error::{Context, Result},
    float::Stored,
    mask::Mask,
    simd::{LANES, sum2, vectorized},
};
use dfdx::{
    shapes::HasShape,
    tensor::{Cpu, PutTape, SplitTape, Tape, Tensor, ZerosTensor},
    tensor_ops::ReshapeTo,
};
use rayon::prelude::*;

impl NormKernel<f32> for Cpu {
    fn layer_norm<A, S, T>(
        x: Tensor<S, f32, Self, T>,
        weight: &Tensor<(A,), f32, Self>,
        bias: &Tensor<(A,), f32, Self>,
        mask: &Mask<A, f32, Self>,
        eps: f64,
    ) -> Result<Tensor<S, f32, Self, T>>
    where
        A: Axis,
        S: EndsWith<A>,
        T: Tape<f32, Self>,
    {
        const OP: &str = "masked_layer_norm";
        let shape = *x.shape();
        let (x, mut tape) = x.try_contiguous().during(OP)?.split_tape();
        let mask = HostMask::new(mask, shape.last().size());
        let (weight, bias) = (weight.clone(), bias.clone());
        let mut y = x.device().try_zeros_like(&shape).during(OP)?;
        let statistics = with_operands((&weight, &bias), &mask, eps, |norm| {
            norm.forward_f32(values(&x), values_mut(&mut y))
        });
        if T::OWNS_TAPE {
            let result = y.ghost();
            tape.add_backward_op(move |grads| {
                let gradient: &mut Vec<f32> = grads.get_or_alloc_mut(&result)?;
                let dy = std::mem::take(gradient);
                let units = shape.last().size();
                let (mut dweight, mut dbias) = (Buffer::zeros(units), Buffer::zeros(units));
                let dx: &mut Vec<f32> = grads.get_or_alloc_mut(&x)?;
                with_operands((&weight, &bias), &mask, eps, |norm| {
                    norm.backward_f32(values(&x), &statistics, &dy, dx, (&mut dweight, &mut dbias));
                });
                let of_weight: &mut Vec<f32> = grads.get_or_alloc_mut(&weight)?;
                add(of_weight, &dweight);
                let of_bias: &mut Vec<f32> = grads.get_or_alloc_mut(&bias)?;
                add(of_bias, &dbias);
                let slot: &mut Vec<f32> = grads.get_or_alloc_mut(&result)?;
                *slot = dy;
                Ok(())
            });
        }
        Ok(y.put_tape(tape))
    }
}

/// Runs `work` with the operands of a norm over tensors.
pub(crate) fn with_operands<A: Axis, R>(
    (weight, bias): (&Tensor<(A,), f32, Cpu>, &Tensor<(A,), f32, Cpu>),
    mask: &HostMask,
    eps: f64,
    work: impl FnOnce(Operands<'_>) -> R,
) -> R {
    work(Operands { weight: values(weight), bias: values(bias), mask, eps: eps as f32 })
}

/// Rows of a parallel piece.
pub(crate) const ROWS: usize = 32;

/// A mask on the host: its values and their sum, or neither.
#[derive(Clone, Debug)]
pub(crate) struct HostMask {
    values: Option<Vec<f32>>,
    total: f32,
}

impl HostMask {
    /// Of an axis with so many units.
    pub(crate) fn new<A: Axis>(mask: &Mask<A, f32, Cpu>, units: usize) -> Self {
        mask.count();
        let values = mask.values().map(host);
        // In the order of the sums over units.
        let total = values.as_ref().map_or(units as f32, |c| sum2(c, c, |c, _| c));
        HostMask { values, total }
    }

    /// The value of every unit, where there is a mask.
    pub(crate) fn values(&self) -> Option<&[f32]> {
        self.values.as_deref()
    }
}

/// What the backward pass needs of a forward pass besides its input: mean and 1/std of every row.
pub(crate) type Statistics = Buffer;

/// The constant operands of a norm.
#[derive(Clone, Copy)]
pub(crate) struct Operands<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) mask: &'a HostMask,
    pub(crate) eps: f32,
}

/// `x` where the mask is not 0, else 0.
#[inline(always)]
fn kept(x: f32, c: f32) -> f32 {
    if c == 0.0 { 0.0 } else { x }
}

impl Operands<'_> {
    /// As [`Operands::forward`], but compiled in this crate, as what is generic is not.
    fn forward_f32(&self, x: &[f32], y: &mut [f32]) -> Statistics {
        self.forward(x, y)
    }

    /// As [`Operands::backward`], likewise.
    fn backward_f32(
        &self,
        x: &[f32],
        statistics: &Statistics,
        dy: &[f32],
        dx: &mut [f32],
        sums: (&mut [f32], &mut [f32]),
    ) {
        self.backward(x, statistics, dy, dx, sums);
    }

    /// Normalises the rows of `x` into `y`.
    pub(crate) fn forward<Y: Stored>(&self, x: &[f32], y: &mut [Y]) -> Statistics {
        let units = self.weight.len();
        let mut statistics = Buffer::of(2 * (x.len() / units));
        let pieces = x.par_chunks(ROWS * units).zip(y.par_chunks_mut(ROWS * units));
        pieces.zip(statistics.par_chunks_mut(2 * ROWS)).for_each(|((x, y), statistics)| {
            vectorized(
                #[inline(always)]
                || {
                    let rows = x.chunks_exact(units).zip(y.chunks_exact_mut(units));
                    for ((x, y), statistics) in rows.zip(statistics.as_chunks_mut::<2>().0) {
                        let total = self.mask.total;
                        *statistics = match self.mask.values() {
                            None => row(x, x, y, self, total, |_| 1.0),
                            Some(c) => row(x, c, y, self, total, |c| c),
                        };
                    }
                },
            );
        });
        statistics
    }

    /// Adds the input's gradient to `dx`, and those of weight and bias to theirs.
    pub(crate) fn backward<Y: Stored>(
        &self,
        x: &[f32],
        statistics: &Statistics,
        dy: &[Y],
        dx: &mut [f32],
        (dweight, dbias): (&mut [f32], &mut [f32]),
    ) {
        let units = self.weight.len();
        let pieces = (x.len() / units).div_ceil(ROWS);
        let mut partial = Buffer::zeros(pieces * 2 * units);
        let operands = x.par_chunks(ROWS * units).zip(dy.par_chunks(ROWS * units));
        let results = dx.par_chunks_mut(ROWS * units).zip(partial.par_chunks_mut(2 * units));
        let statistics = statistics.par_chunks(2 * ROWS);
        operands.zip(results).zip(statistics).for_each(|(((x, dy), (dx, partial)), statistics)| {
            vectorized(
                #[inline(always)]
                || {
                    let (dweight, dbias) = partial.split_at_mut(units);
                    let rows =
                        x.chunks_exact(units).zip(dy.chunks_exact(units)).zip(dx.chunks_exact_mut(units));
                    for (((x, dy), dx), &statistics) in rows.zip(statistics.as_chunks::<2>().0) {
                        let total = self.mask.total;
                        match self.mask.values() {
                            None => {
                                row_back(
                                    (x, x),
                                    dy,
                                    dx,
                                    (self.weight, dweight, dbias),
                                    statistics,
                                    total,
                                    |_| 1.0,
                                );
                            }
                            Some(c) => {
                                row_back(
                                    (x, c),
                                    dy,
                                    dx,
                                    (self.weight, dweight, dbias),
                                    statistics,
                                    total,
                                    |c| c,
                                );
                            }
                        }
                    }
                },
            );
        });
        for partial in partial.chunks_exact(2 * units) {
            let (weight, bias) = partial.split_at(units);
            add(dweight, weight);
            add(dbias, bias);
        }
    }
}

/// Adds entry by entry.
pub(crate) fn add(into: &mut [f32], x: &[f32]) {
    vectorized(
        #[inline(always)]
        || into.iter_mut().zip(x).for_each(|(into, x)| *into += x),
    );
}

/// One row. `c` is read through `mask`: without a mask it is any slice of that length.
#[inline(always)]
fn row<Y: Stored>(
    x: &[f32],
    c: &[f32],
    y: &mut [Y],
    operands: &Operands<'_>,
    total: f32,
    mask: impl Fn(f32) -> f32 + Copy,
) -> [f32; 2] {
    let mean = sum2(x, c, |x, c| mask(c) * kept(x, mask(c))) / total;
    let variance = sum2(x, c, |x, c| {
        let centred = kept(x, mask(c)) - mean;
        mask(c) * (centred * centred)
    }) / total;
    let scale = 1.0 / (variance + operands.eps).sqrt();
    let inputs = y.iter_mut().zip(x).zip(c);
    for (((y, &x), &c), (&weight, &bias)) in inputs.zip(operands.weight.iter().zip(operands.bias)) {
        let normal = (kept(x, mask(c)) - mean) * scale;
        *y = Y::of(kept(mask(c) * normal.mul_add(weight, bias), mask(c)));
    }
    [mean, scale]
}

/// The way back through one row.
#[inline(always)]
fn row_back<Y: Stored>(
    (x, c): (&[f32], &[f32]),
    dy: &[Y],
    dx: &mut [f32],
    (weight, dweight, dbias): (&[f32], &mut [f32], &mut [f32]),
    [mean, scale]: [f32; 2],
    total: f32,
    mask: impl Fn(f32) -> f32 + Copy,
) {
    // Of the normalised units: the mean gradient, and the mean of gradient times value.
    let (mut plain, mut along) = ([0.0f32; LANES], [0.0f32; LANES]);
    let mut entry = |lane: usize, at: usize| {
        let c = mask(c[at]);
        let normal = (kept(x[at], c) - mean) * scale;
        let dy = c * dy[at].get();
        let of_normal = dy * weight[at];
        dweight[at] = dy.mul_add(normal, dweight[at]);
        dbias[at] += dy;
        plain[lane] += of_normal;
        along[lane] = of_normal.mul_add(normal, along[lane]);
    };
    let whole = x.len() / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for lane in 0..LANES {
            entry(lane, start + lane);
        }
    }
    for at in whole..x.len() {
        entry(at - whole, at);
    }
    let (plain, along) = (crate::simd::join(plain) / total, crate::simd::join(along) / total);
    let entries = dx.iter_mut().zip(x).zip(c).zip(dy.iter().zip(weight));
    for (((dx, &x), &c), (&dy, &weight)) in entries {
        let c = mask(c);
        let normal = (kept(x, c) - mean) * scale;
        let of_normal = c * dy.get() * weight;
        *dx += kept(scale * (of_normal - c * normal.mul_add(along, plain)), c);
    }
}
