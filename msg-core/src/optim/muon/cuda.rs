//! Launches of `muon.cu`, and cuBLAS' products between them: one matrix after another.

use super::step::{MuonKernel, MuonStep, NORM_EPS, QUINTIC};
use crate::{
    device::{
        cuda::{
            cast::operand,
            element::{Element, Values, parameters},
            launch::{DeviceResult, Module, THREADS, flat, module},
            products::{F32Mode, Products, Sizes},
        },
        raw_pointer::Address,
    },
    error::{Context, Result},
    ops::compute::Precision,
    optim::cuda::{CudaPass, Handed, Tables, Work},
    params::Param,
};
use cudarc::driver::{CudaDevice, DevicePtr, LaunchConfig};
use dfdx::{shapes::Shape, tensor::Cuda};
use half::bf16;
use std::{any::Any, sync::Arc};

const OP: &str = "muon";
const MODULE: Module = module!(
    "muon",
    each [],
    others ["muon_momentum", "muon_apply", "muon_squares", "muon_normalize", "muon_combine"]
);

/// Partial sums of a norm; `PIECES` of the kernels.
const PIECES: u32 = 64;

parameters! {
    /// `struct Tensor` of the kernels.
    struct Tensor {
        grad: Address,
        saved: Address,
        momentum: Address,
        update: Address,
        value: Address,
        status: Address,
        groups: Address,
        units: Address,
        count: usize,
        size: [u32; 4],
        begin: [u32; 4],
        several: u32,
        share: f32,
    }

    /// `struct Norm` of the kernels.
    struct Norm {
        x: Address,
        parts: Address,
        count: usize,
        eps: f32,
    }

    /// `struct Combination` of the kernels.
    struct Combination {
        x: Address,
        y: Address,
        count: usize,
        of_x: f32,
        of_y: f32,
    }
}

/// A tensor handed to Muon.
#[derive(Debug)]
struct Job {
    /// Without what is known at the launch.
    tensor: Tensor,
    group: u32,
    matrices: usize,
    rows: usize,
    columns: usize,
    steps: u32,
    precision: Precision,
}

/// The tensors handed to Muon.
#[derive(Debug, Default)]
struct Muon(Vec<Job>);

impl MuonKernel for Cuda {
    fn muon<S: Shape>(
        pass: &mut CudaPass<'_>,
        tensor: &mut Param<S, Cuda>,
        momentum: &mut Param<S, Cuda>,
        step: &MuonStep<'_>,
    ) -> Result<()> {
        let groups = step.groups.iter().map(|group| [group.momentum, group.rate, group.decay]);
        let Some(handed) = pass.hand_over(tensor, [momentum], step.entries, groups)? else { return Ok(()) };
        let Handed { value, saved, grad, slots: [momentum], count, sizes, begins, group, several } = handed;
        let [rows, columns] = [sizes[2] as usize, sizes[3] as usize];
        let work: &mut Muon = pass.work()?;
        work.0.push(Job {
            tensor: Tensor {
                grad,
                saved,
                momentum,
                value,
                count,
                size: sizes,
                begin: begins,
                several: several.into(),
                share: step.share,
                ..Tensor::default()
            },
            group,
            matrices: count / (rows * columns),
            rows,
            columns,
            steps: step.steps,
            precision: step.precision,
        });
        Ok(())
    }
}

impl Work for Muon {
    fn place(&mut self, _: &mut Vec<u32>) {}

    fn launch(&self, at: &Tables) -> Result<()> {
        self.0.iter().try_for_each(|job| job.run(at)).during(OP)
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// Bytes of an age group's three numbers.
const GROUP: usize = 3 * size_of::<f32>();

impl Job {
    fn run(&self, at: &Tables) -> DeviceResult {
        let gpu = &at.gpu;
        let update = Values::<f32>::of(gpu, self.tensor.count)?;
        let tensor = Tensor {
            update: update.address(),
            status: at.status,
            groups: at.groups + (self.group as usize * GROUP) as Address,
            units: at.units,
            ..self.tensor
        };
        whole(gpu, "muon_momentum", tensor)?;
        self.normalize(gpu, update.address())?;
        // Never TF32: the iteration makes rounding errors of small parts hundreds of times larger.
        let products = Products::on(gpu, F32Mode::Exact)?;
        let size = self.rows * self.columns * size_of::<f32>();
        for matrix in 0..self.matrices {
            let x = update.address() + (matrix * size) as Address;
            match self.precision {
                Precision::F32 => self.orthogonalize::<f32>(gpu, &products, x)?,
                Precision::Bf16 => self.orthogonalize::<bf16>(gpu, &products, x)?,
            }
        }
        whole(gpu, "muon_apply", tensor)
    }

    /// Divides each matrix by its norm.
    #[allow(unsafe_code, reason = "launches kernels")]
    fn normalize(&self, gpu: &Arc<CudaDevice>, x: Address) -> DeviceResult {
        let parts = gpu.alloc_zeros::<f64>(self.matrices * PIECES as usize)?;
        let norm = Norm { x, parts: *parts.device_ptr(), count: self.rows * self.columns, eps: NORM_EPS };
        let config = LaunchConfig {
            grid_dim: (PIECES, self.matrices as u32, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the struct is the kernels'; there are `matrices` matrices of `count` entries at x, and `PIECES` parts
        // for each, which the first kernel writes and the second reads.
        unsafe {
            MODULE.launch(gpu, "muon_squares", config, norm)?;
            MODULE.launch(gpu, "muon_normalize", config, norm)
        }
    }

    /// The Newton-Schulz steps of one matrix, in place, with operands of products as E.
    fn orthogonalize<E: Element>(
        &self,
        gpu: &Arc<CudaDevice>,
        products: &Products,
        x: Address,
    ) -> DeviceResult {
        let Job { rows, columns, .. } = *self;
        let [a, b, c] = QUINTIC;
        let side = rows.min(columns);
        let (gram, polynomial) = (Values::<f32>::of(gpu, side * side)?, Values::<f32>::of(gpu, side * side)?);
        let moved = Values::<f32>::of(gpu, rows * columns)?;
        let (gram, polynomial, moved) = (gram.address(), polynomial.address(), moved.address());
        for _ in 0..self.steps {
            let matrix = operand::<E>(gpu, x, rows * columns)?;
            let of_rows = Sizes { rows, inputs: columns, outputs: side };
            if rows > columns {
                // A = X^T X.
                products.back_to_weight::<E>(of_rows, (matrix.address(), matrix.address()), gram, false)?;
            } else {
                // A = X X^T.
                products.linear::<E, f32>(of_rows, (matrix.address(), matrix.address()), gram)?;
            }
            let power = operand::<E>(gpu, gram, side * side)?;
            let square = Sizes { rows: side, inputs: side, outputs: side };
            products.back_to_inputs::<E, f32>(square, (power.address(), power.address()), polynomial)?;
            combine(gpu, (polynomial, c), (gram, b), side * side)?;
            let factor = operand::<E>(gpu, polynomial, side * side)?;
            if rows > columns {
                products.linear::<E, f32>(of_rows, (matrix.address(), factor.address()), moved)?;
            } else {
                let sizes = Sizes { rows, inputs: columns, outputs: rows };
                products.back_to_inputs::<E, f32>(sizes, (factor.address(), matrix.address()), moved)?;
            }
            combine(gpu, (x, a), (moved, 1.0), rows * columns)?;
        }
        Ok(())
    }
}

/// Launches a kernel over all entries of a tensor.
#[allow(unsafe_code, reason = "launches a kernel")]
fn whole(gpu: &Arc<CudaDevice>, name: &'static str, tensor: Tensor) -> DeviceResult {
    // SAFETY: the struct is the kernels'. Its buffers have `count` floats and live, as a pass keeps what was handed to
    // it, and the update is the caller's. Parameter and momentum have no other owner in use. Every list has one age
    // group for each unit of its axis, and every age group has its numbers.
    unsafe { MODULE.launch(gpu, name, flat(tensor.count), tensor) }
}

/// `x = of_y y + of_x x`.
#[allow(unsafe_code, reason = "launches a kernel")]
fn combine(
    gpu: &Arc<CudaDevice>,
    (x, of_x): (Address, f32),
    (y, of_y): (Address, f32),
    count: usize,
) -> DeviceResult {
    // SAFETY: the struct is the kernel's; both buffers have `count` floats and do not overlap.
    unsafe { MODULE.launch(gpu, "muon_combine", flat(count), Combination { x, y, count, of_x, of_y }) }
}
