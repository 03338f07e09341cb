//! The head with its loss as one node on Cuda, some rows at a time: launches of `head.cu`.
//!
//! As on the Cpu the gradients are computed in the forward pass, while a chunk's logits are in memory.

use super::{HeadKernel, LOGITS_ON_GPU};
use crate::{
    axis::{Axis, EndsWith},
    device::{
        cuda::{
            cast::{Operand, operand, padded_operand},
            element::{Element, Values, kernel_name, parameters},
            launch::{DeviceResult, Module, module, vector_width},
            products::{F32Mode, Products, Sizes},
        },
        raw_pointer::{self, Address},
    },
    error::{Context, Result},
    ops::{
        compute::Precision,
        cross_entropy::Labels,
        elementwise::{AddScaled, Shape as Matrix, add_scaled},
    },
    params::Param,
};
use cudarc::driver::{CudaDevice, DevicePtr, LaunchAsync, LaunchConfig};
use dfdx::{
    shapes::{HasShape, ReduceShapeTo, RemoveDimTo, Shape},
    tensor::{Cuda, PutTape, SplitTape, Tape, Tensor, ZerosTensor},
    tensor_ops::ReshapeTo,
};
use half::bf16;
use std::sync::Arc;

const MODULE: Module = module!("head", each["cross_entropy"], others["total_loss"]);

/// Classes are padded to a multiple of this where the products' operands are copies, so that rows of logits and their
/// gradients are aligned for tensor cores.
const PADDED: usize = 64;
/// Threads that work on a row.
const THREADS: u32 = 512;

parameters! {
    /// `CrossEntropy` of the kernels.
    struct CrossEntropy {
        logits: Address,
        bias: Address,
        labels: Address,
        counts: Address,
        dlogits: Address,
        losses: Address,
        share: f32,
        classes: u32,
        stride: u32,
    }
}

impl HeadKernel for Cuda {
    const LOGITS: usize = LOGITS_ON_GPU;

    fn head_loss<A, H, S, T>(
        x: Tensor<S, f32, Self, T>,
        table: &Param<(A, H), Self>,
        bias: Option<&Param<(A,), Self>>,
        labels: &Labels<A, S::Rest, f32, Self>,
        divisor: usize,
        precision: Precision,
    ) -> Result<Tensor<(), f32, Self, T>>
    where
        A: Axis,
        H: Axis,
        S: EndsWith<H>,
        S::With<A>: RemoveDimTo<S::Rest, S::Rest>,
        S::Rest: ReduceShapeTo<(), <S::Rest as Shape>::AllAxes>,
        T: Tape<f32, Self>,
    {
        match precision {
            Precision::F32 => node::<f32, A, H, S, T>(x, table, bias, labels, divisor),
            Precision::Bf16 => node::<bf16, A, H, S, T>(x, table, bias, labels, divisor),
        }
    }
}

fn node<E, A, H, S, T>(
    x: Tensor<S, f32, Cuda, T>,
    table: &Param<(A, H), Cuda>,
    bias: Option<&Param<(A,), Cuda>>,
    labels: &Labels<A, S::Rest, f32, Cuda>,
    divisor: usize,
) -> Result<Tensor<(), f32, Cuda, T>>
where
    E: Element,
    A: Axis,
    H: Axis,
    S: EndsWith<H>,
    T: Tape<f32, Cuda>,
{
    const OP: &str = "head";
    let (x, mut tape) = x.try_contiguous().during(OP)?.split_tape();
    let gpu = raw_pointer::driver(x.device())?;
    let (table, bias) = (table.clone(), bias.cloned());
    let (ids, counts) = labels.on_device()?;
    let head = Head {
        gpu: gpu.clone(),
        rows: labels.shape().num_elements(),
        classes: table.shape().0.size(),
        inputs: table.shape().1.size(),
        bias: bias.as_ref().map_or(Ok(0), raw_pointer::address)?,
        labels: ids,
        counts,
        share: (1.0 / divisor.max(1) as f64) as f32,
    };
    let loss: Tensor<(), f32, Cuda> = x.device().try_zeros().during(OP)?;
    let operands = (raw_pointer::address(&x)?, raw_pointer::address(&table)?);
    let made = head.run::<E>(operands, raw_pointer::address(&loss)?, T::OWNS_TAPE).during(OP)?;
    if let Some(made) = made {
        let result = loss.ghost();
        tape.add_backward_op(move |grads| {
            let factor = *grads.get_or_alloc_mut(&result)?.device_ptr();
            let add = |to: Address, made: &Values<f32>, count| {
                add_scaled::<f32>(
                    &gpu,
                    AddScaled { to, a: made.address(), factor, count, ..AddScaled::default() },
                )
            };
            add(*grads.get_or_alloc_mut(&x)?.device_ptr(), &made.x, x.shape().num_elements())?;
            let count = table.shape().num_elements();
            add(*grads.get_or_alloc_mut(&table)?.device_ptr(), &made.table, count)?;
            if let Some(bias) = &bias {
                add(*grads.get_or_alloc_mut(bias)?.device_ptr(), &made.bias, bias.shape().num_elements())?;
            }
            Ok(())
        });
    }
    Ok(loss.put_tape(tape))
}

/// The gradients for a loss whose own gradient is 1, those of table and bias for padded classes; that of the bias only
/// where there is one.
struct Gradients {
    x: Values<f32>,
    table: Values<f32>,
    bias: Values<f32>,
}

/// A head at work: its tensors outlive it.
struct Head {
    gpu: Arc<CudaDevice>,
    rows: usize,
    classes: usize,
    inputs: usize,
    bias: Address,
    labels: Address,
    counts: Address,
    share: f32,
}

impl Head {
    /// Writes the loss, and returns the gradients where they are asked for.
    fn run<E: Element>(
        &self,
        (x, table): (Address, Address),
        loss: Address,
        back: bool,
    ) -> DeviceResult<Option<Gradients>> {
        let Head { gpu, rows, classes, inputs, .. } = self;
        let (rows, classes, inputs) = (*rows, *classes, *inputs);
        let products = Products::on(gpu, F32Mode::Exact)?;
        let x = operand::<E>(gpu, x, rows * inputs)?;
        let stride = if E::FUSES { classes.next_multiple_of(PADDED) } else { classes };
        let table: Operand<E> = padded_operand(gpu, table, classes * inputs, stride * inputs)?;
        let most = (Cuda::LOGITS / stride).clamp(1, rows);
        let logits = Values::<f32>::of(gpu, most * stride)?;
        let losses = Values::<f32>::of(gpu, rows)?;
        let made = match back {
            true => Some((
                Values::<E>::of(gpu, most * stride)?,
                Gradients {
                    x: Values::of(gpu, rows * inputs)?,
                    table: Values::of(gpu, stride * inputs)?,
                    bias: Values::zeros(gpu, if self.bias == 0 { 1 } else { stride })?,
                },
            )),
            false => None,
        };
        for begin in (0..rows).step_by(most) {
            let size = Sizes { rows: most.min(rows - begin), inputs, outputs: stride };
            let x = x.address() + (begin * inputs * size_of::<E::Bits>()) as Address;
            products.linear::<E, f32>(size, (x, table.address()), logits.address())?;
            let dlogits = made.as_ref().map_or(0, |(dlogits, _)| dlogits.address());
            self.losses::<E>(size, begin, logits.address(), dlogits, losses.address())?;
            let Some((_, made)) = &made else { continue };
            let dx = made.x.address() + (begin * inputs * size_of::<f32>()) as Address;
            products.back_to_inputs::<E, f32>(size, (dlogits, table.address()), dx)?;
            products.back_to_weight::<E>(size, (dlogits, x), made.table.address(), begin > 0)?;
            if self.bias != 0 {
                let matrix = Matrix { rows: size.rows, columns: stride, part: stride };
                matrix.mask_back::<E>(gpu, dlogits, [0; 3], made.bias.address())?;
            }
        }
        self.total(losses.address(), loss)?;
        Ok(made.map(|(_, made)| made))
    }

    /// The losses of a chunk of rows, and the gradients of its logits.
    #[allow(unsafe_code, reason = "launches a kernel")]
    fn losses<E: Element>(
        &self,
        size: Sizes,
        begin: usize,
        logits: Address,
        dlogits: Address,
        losses: Address,
    ) -> DeviceResult {
        let after = |at: Address, bytes: usize| at + (begin * bytes) as Address;
        let with = CrossEntropy {
            logits,
            bias: self.bias,
            labels: after(self.labels, size_of::<usize>()),
            counts: after(self.counts, size_of::<f32>()),
            dlogits,
            losses: after(losses, size_of::<f32>()),
            share: self.share,
            classes: self.classes as u32,
            stride: size.outputs as u32,
        };
        let config = LaunchConfig {
            grid_dim: (size.rows as u32, 1, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: 0,
        };
        let name = kernel_name::<E>("cross_entropy", vector_width(&[size.outputs]));
        // SAFETY: the struct is the kernels'. There are logits, and gradients or none, for `size.rows` rows; labels, counts
        // and losses for all rows from `begin` on; labels are below `classes` (checked where they were made).
        unsafe { MODULE.launch(&self.gpu, &name, config, with) }
    }

    /// The loss of all rows.
    #[allow(unsafe_code, reason = "launches a kernel")]
    fn total(&self, losses: Address, loss: Address) -> DeviceResult {
        let kernel = MODULE.kernel(&self.gpu, "total_loss")?;
        let one = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (256, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: the parameters are the kernel's: it reads `rows` losses and writes one number.
        unsafe { kernel.launch(one, (losses, self.rows, self.share, loss)) }?;
        Ok(())
    }
}
