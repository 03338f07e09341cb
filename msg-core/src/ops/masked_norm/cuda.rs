//! Launches of `norm.cu`, and the norm as one node on Cuda.

use super::NormKernel;
use crate::{
    axis::{Axis, EndsWith},
    device::{
        cuda::{
            element::{Element, Values, kernel_name, parameters},
            launch::{DeviceResult, Module, SHARED, module, vector_width},
        },
        raw_pointer::{self, Address},
    },
    error::{Context, Result},
    mask::Mask,
    ops::{dropout::cuda::DropoutNumbers, elementwise::add_totals},
};
use cudarc::driver::{CudaDevice, DevicePtr, LaunchConfig};
use dfdx::{
    shapes::HasShape,
    tensor::{Cuda, PutTape, SplitTape, Tape, Tensor, ZerosTensor},
    tensor_ops::ReshapeTo,
};
use std::sync::Arc;

const MODULE: Module = module!("norm", each ["residual_norm", "norm_backward"], others []);

/// Warps of a block, one row each, where their rows fit the shared memory.
const WARPS: usize = 8;
/// Blocks of the backward pass, each with sums over its rows: four for each multiprocessor of an H100.
const BLOCKS: usize = 528;

parameters! {
    /// `ResidualNorm` of the kernels.
    struct ResidualNorm {
        x: Address,
        branch: Address,
        branch_bias: Address,
        sum: Address,
        weight: Address,
        bias: Address,
        mask: Address,
        normal: Address,
        stream: Address,
        base: Address,
        mean: Address,
        rstd: Address,
        dropout: DropoutNumbers,
        gate: f32,
        total: f32,
        eps: f32,
        blend: f32,
        rows: u32,
        width: u32,
        length: u32,
        cached: u32,
    }

    /// `NormBackward` of the kernels.
    struct NormBackward {
        x: Address,
        mean: Address,
        rstd: Address,
        dy_stream: Address,
        dy_normal: Address,
        weight: Address,
        mask: Address,
        dx_in: Address,
        dx: Address,
        branch: Address,
        parts: Address,
        dropout: DropoutNumbers,
        gate: f32,
        total: f32,
        scale: f32,
        rows: u32,
        width: u32,
        length: u32,
        adds: u32,
        shared: u32,
    }
}

/// Mean and reciprocal standard deviation of each row.
#[derive(Debug)]
pub(crate) struct Statistics {
    mean: Values<f32>,
    rstd: Values<f32>,
}

/// A norm with its operands on the device: weight, bias, mask (null: none) and the mask's sum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Norm {
    weight: Address,
    bias: Address,
    mask: Address,
    total: f32,
    eps: f32,
    width: usize,
}

impl Norm {
    /// The operands' addresses, valid while the tensors live.
    pub(crate) fn new<A: Axis>(
        weight: &Tensor<(A,), f32, Cuda>,
        bias: &Tensor<(A,), f32, Cuda>,
        mask: &Mask<A, f32, Cuda>,
        eps: f64,
    ) -> Result<Self> {
        let width = weight.shape().0.size();
        Ok(Norm {
            weight: raw_pointer::address(weight)?,
            bias: raw_pointer::address(bias)?,
            mask: mask.values().map_or(Ok(0), raw_pointer::address)?,
            total: mask.wide_total().unwrap_or(width as f64) as f32,
            eps: eps as f32,
            width,
        })
    }

    /// The norm of the rows that `with` says, or of their sum with a branch; gives the rows' statistics.
    pub(crate) fn forward<E: Element>(
        &self,
        gpu: &Arc<CudaDevice>,
        rows: usize,
        with: ResidualNorm,
    ) -> DeviceResult<Statistics> {
        let statistics = Statistics { mean: Values::of(gpu, rows)?, rstd: Values::of(gpu, rows)? };
        let Norm { weight, bias, mask, total, eps, width } = *self;
        let (mean, rstd) = (statistics.mean.address(), statistics.rstd.address());
        let with = ResidualNorm { weight, bias, mask, total, eps, mean, rstd, ..with };
        residual::<E>(gpu, (rows, width), with)?;
        Ok(statistics)
    }

    /// The gradient of the norm's input `with.x`; adds those of weight, bias and the branch's bias to `to`.
    #[allow(unsafe_code, reason = "launches a kernel")]
    pub(crate) fn backward<E: Element>(
        &self,
        gpu: &Arc<CudaDevice>,
        (rows, statistics): (usize, &Statistics),
        with: NormBackward,
        to: [Address; 3],
    ) -> DeviceResult {
        const KINDS: usize = 3;
        let Norm { weight, mask, total, width, .. } = *self;
        let blocks = rows.min(BLOCKS);
        let parts = Values::<f32>::of(gpu, blocks * KINDS * width)?;
        let count = vector_width(&[width]);
        let threads = width.div_ceil(count).next_multiple_of(32).clamp(32, 256);
        let bytes = KINDS * width * size_of::<f32>();
        // A few bytes of the shared memory are the kernel's own.
        let shared = bytes + 1024 <= SHARED;
        let config = LaunchConfig {
            grid_dim: (blocks as u32, 1, 1),
            block_dim: (threads as u32, 1, 1),
            shared_mem_bytes: if shared { bytes as u32 } else { 0 },
        };
        let with = NormBackward {
            mean: statistics.mean.address(),
            rstd: statistics.rstd.address(),
            weight,
            mask,
            total,
            parts: parts.address(),
            rows: rows as u32,
            width: width as u32,
            shared: u32::from(shared),
            ..with
        };
        // SAFETY: the struct is the kernels'. Matrices that are there are `rows` x `width`, statistics have `rows` values,
        // weight and mask `width`; there is a part of three rows for each block.
        unsafe { MODULE.launch(gpu, &kernel_name::<E>("norm_backward", count), config, with) }?;
        add_totals(gpu, &parts, (blocks as u32, width), to, KINDS as u32)
    }
}

/// `sum = x + gate * drop(branch + branch_bias)`, and what else `with` asks for.
#[allow(unsafe_code, reason = "launches a kernel")]
pub(crate) fn residual<E: Element>(
    gpu: &Arc<CudaDevice>,
    (rows, width): (usize, usize),
    with: ResidualNorm,
) -> DeviceResult {
    let count = vector_width(&[width]);
    let bytes = width * size_of::<f32>();
    let warps = (SHARED / bytes).min(WARPS);
    let cached = warps > 0;
    let warps = if cached { warps } else { WARPS };
    let config = LaunchConfig {
        grid_dim: (rows.div_ceil(warps) as u32, 1, 1),
        block_dim: (32 * warps as u32, 1, 1),
        shared_mem_bytes: if cached { (warps * bytes) as u32 } else { 0 },
    };
    let with = ResidualNorm { rows: rows as u32, width: width as u32, cached: u32::from(cached), ..with };
    // SAFETY: the struct is the kernels'. Matrices that are there are `rows` x `width`, vectors have `width` values,
    // statistics `rows`; no output overlaps an input.
    unsafe { MODULE.launch(gpu, &kernel_name::<E>("residual_norm", count), config, with) }
}

impl NormKernel<f64> for Cuda {}

impl NormKernel<f32> for Cuda {
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
        mask.count();
        let (x, mut tape) = x.try_contiguous().during(OP)?.split_tape();
        let gpu = raw_pointer::driver(x.device())?;
        let (weight, bias, mask) = (weight.clone(), bias.clone(), mask.clone());
        let norm = Norm::new(&weight, &bias, &mask, eps)?;
        let rows = x.shape().num_elements() / norm.width;
        let y = x.device().try_zeros_like(x.shape()).during(OP)?;
        let from = raw_pointer::address(&x)?;
        let with = ResidualNorm { x: from, stream: raw_pointer::address(&y)?, ..ResidualNorm::default() };
        let statistics = norm.forward::<f32>(&gpu, rows, with).during(OP)?;
        if T::OWNS_TAPE {
            let result = y.ghost();
            tape.add_backward_op(move |grads| {
                // The mask's values have to live as long as the norm's addresses.
                let _mask = &mask;
                let dy_stream = *grads.get_or_alloc_mut(&result)?.device_ptr();
                let dx = *grads.get_or_alloc_mut(&x)?.device_ptr();
                let dweight = *grads.get_or_alloc_mut(&weight)?.device_ptr();
                let dbias = *grads.get_or_alloc_mut(&bias)?.device_ptr();
                let with =
                    NormBackward { x: from, dy_stream, scale: 1.0, dx, adds: 1, ..NormBackward::default() };
                norm.backward::<f32>(&gpu, (rows, &statistics), with, [dweight, dbias, 0])
            });
        }
        Ok(y.put_tape(tape))
    }
}
