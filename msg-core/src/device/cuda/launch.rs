//! The Cuda side of [`Backend`]: the kernels in `kernels/*.cu`, one file of launches for each.
//!
//! Values stay on the device. What travels are source maps, cohorts and single sums.

use crate::device::cuda::element::{DeviceResult, Element};
use crate::device::{Backend, raw_pointer};
use crate::{
    error::{Context, Error, Result},
    growth::{AxisMap, NewEntries},
    optim::Verdict,
    params::Param,
};
use cudarc::{
    driver::{CudaDevice, CudaFunction, DeviceRepr, DriverError, LaunchAsync, LaunchConfig, sys::CUresult},
    nvrtc::Ptx,
};
use dfdx::{
    shapes::{HasShape, Shape},
    tensor::{Cuda, Gradients, ZerosTensor},
    tensor_ops::ReshapeTo,
};
use std::sync::Arc;

/// Threads of a block.
pub(crate) const THREADS: u32 = 256;
/// Entries that a thread handles at least, before more blocks are made.
const PER_THREAD: usize = 4;
/// More blocks than fill any GPU; what is left over is done in loops.
const MOST_BLOCKS: usize = 1 << 16;

/// One `.cu` file: its PTX and the names of its kernels.
pub(crate) struct Module {
    pub(crate) name: &'static str,
    pub(crate) ptx: &'static str,
    pub(crate) functions: &'static [&'static str],
}

/// The module of `kernels/FILE.cu`: kernels that it has `each` for both elements and one or four neighbours, and
/// others.
macro_rules! module {
    ($file:literal, each [$($each:literal),*], others [$($other:expr),*]) => {
        $crate::device::cuda::launch::Module {
            name: concat!("msg_", $file),
            ptx: include_str!(concat!(env!("OUT_DIR"), "/", $file, ".ptx")),
            functions: &[
                $(
                    concat!($each, "_f32"),
                    concat!($each, "_f32_4"),
                    concat!($each, "_bf16"),
                    concat!($each, "_bf16_4"),
                )*
                $($other,)*
            ],
        }
    };
}
pub(crate) use module;

impl Module {
    /// A kernel, with its module loaded at the first use on that device.
    pub(crate) fn function(&self, gpu: &Arc<CudaDevice>, name: &'static str) -> Result<CudaFunction> {
        self.kernel(gpu, name).during(self.name)
    }

    /// As [`Module::function`], with the driver's error.
    pub(crate) fn kernel(
        &self,
        gpu: &Arc<CudaDevice>,
        name: &str,
    ) -> std::result::Result<CudaFunction, DriverError> {
        if !gpu.has_func(self.name, name) {
            gpu.load_ptx(Ptx::from_src(self.ptx), self.name, self.functions)?;
        }
        gpu.get_func(self.name, name).ok_or(DriverError(CUresult::CUDA_ERROR_NOT_FOUND))
    }

    /// Launches a kernel that takes one struct.
    ///
    /// # Safety
    /// The struct must be the kernel's, its addresses those of live buffers of the sizes that it says, used on the
    /// device's stream alone. What is written may overlap nothing else, but what the same thread has read of it before.
    #[allow(unsafe_code, reason = "launches a kernel")]
    pub(crate) unsafe fn launch<P: DeviceRepr>(
        &self,
        gpu: &Arc<CudaDevice>,
        name: &str,
        config: LaunchConfig,
        parameters: P,
    ) -> DeviceResult {
        let kernel = self.kernel(gpu, name)?;
        // SAFETY: by the caller.
        unsafe { kernel.launch(config, (parameters,)) }?;
        Ok(())
    }
}

/// Dynamic shared memory that any kernel may ask for, in bytes.
pub(crate) const SHARED: usize = 48 << 10;

/// The name of a kernel for an element, and for one or four neighbours.
pub(crate) fn kernel_name<E: Element>(name: &str, neighbours: usize) -> String {
    let suffix = E::SUFFIX;
    if neighbours == 4 { format!("{name}_{suffix}_4") } else { format!("{name}_{suffix}") }
}

/// Neighbours that a thread takes at once in rows of these lengths.
pub(crate) fn neighbours(lengths: &[usize]) -> usize {
    if lengths.iter().all(|length| length.is_multiple_of(4)) { 4 } else { 1 }
}

/// Blocks for a loop over `count` entries.
pub(crate) fn flat(count: usize) -> LaunchConfig {
    let blocks = count.div_ceil(THREADS as usize * PER_THREAD).clamp(1, MOST_BLOCKS);
    LaunchConfig { grid_dim: (blocks as u32, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 }
}

/// Blocks for a loop over rows and, within each, over `width` entries.
pub(crate) fn by_rows(rows: usize, width: usize) -> LaunchConfig {
    let threads = width.next_multiple_of(32).clamp(32, THREADS as usize);
    let across = width.div_ceil(threads * PER_THREAD).clamp(1, MOST_BLOCKS - 1);
    let down = rows.clamp(1, (MOST_BLOCKS / across).max(1));
    LaunchConfig {
        grid_dim: (down as u32, across as u32, 1),
        block_dim: (threads as u32, 1, 1),
        shared_mem_bytes: 0,
    }
}

/// Appends a number of 64 bits to a table of words of 32, as the device reads it.
pub(crate) fn push_long(words: &mut Vec<u32>, number: u64) {
    words.extend([number as u32, (number >> 32) as u32]);
}

/// Sizes of up to four axes as the kernels count them, right-aligned; missing leading axes have one unit.
pub(crate) fn padded(op: &'static str, sizes: &[usize]) -> Result<[u32; 4]> {
    let mut padded = [1; 4];
    let lead = padded.len().checked_sub(sizes.len());
    let lead = lead.ok_or(Error::Count { what: "axes of a tensor", expected: 4, got: sizes.len() })?;
    for (padded, &size) in padded[lead..].iter_mut().zip(sizes) {
        let limit =
            || Error::Value { what: op, expected: "fewer than 2^32 units in an axis", got: size as f64 };
        *padded = u32::try_from(size).map_err(|_| limit())?;
    }
    Ok(padded)
}

/// Bytes of the values of a tensor of f32.
fn bytes(shape: &impl Shape) -> usize {
    shape.num_elements() * size_of::<f32>()
}

impl Backend for Cuda {
    // cuBLAS and dfdx's atomic sums take their order from the sizes.
    const EXACT: bool = false;
    const LATE: bool = true;

    fn fresh<S: Shape>(&self, shape: &S, new: NewEntries) -> Result<Param<S, Self>> {
        let out: Param<S, Self> = self.try_zeros_like(shape).asking_for(bytes(shape), "init")?;
        let sizes: Vec<usize> = shape.concrete().into_iter().collect();
        crate::growth::cuda::fresh(&raw_pointer::driver(self)?, &out, &sizes, new)?;
        Ok(out)
    }

    fn grow<S: Shape, To: Shape>(
        &self,
        old: &Param<S, Self>,
        shape: To,
        maps: &[AxisMap],
        new: NewEntries,
    ) -> Result<Param<To, Self>> {
        let old = old.clone().try_contiguous().during("growth")?;
        let out: Param<To, Self> = self.try_zeros_like(&shape).asking_for(bytes(&shape), "growth")?;
        crate::growth::cuda::grow(&raw_pointer::driver(self)?, &old, &out, maps, new)?;
        Ok(out)
    }

    fn std_of<S: Shape>(tensor: &Param<S, Self>) -> Result<f32> {
        let count = tensor.shape().num_elements();
        if count == 0 {
            return Ok(0.0);
        }
        let tensor = tensor.clone().try_contiguous().during("std")?;
        let gpu = raw_pointer::driver(tensor.device())?;
        let values = crate::device::cuda::reduce::Values { address: raw_pointer::address(&tensor)?, count };
        let mean = crate::device::cuda::reduce::sum(&gpu, values)? / count as f64;
        Ok((crate::device::cuda::reduce::squares(&gpu, values, mean)? / count as f64).sqrt() as f32)
    }

    type Guard = crate::optim::status::cuda::Guard;

    type Updates<'g> = crate::optim::adamw::cuda::CudaUpdates<'g>;

    fn updates<'g>(
        &self,
        grads: &'g mut Gradients<f32, Self>,
        spent: Option<Self::Guard>,
    ) -> Result<Self::Updates<'g>> {
        crate::optim::adamw::cuda::CudaUpdates::new(self, grads, spent)
    }

    fn verdict(guard: &Self::Guard) -> Result<Verdict> {
        guard.verdict()
    }

    fn make_own<S: Shape>(tensor: &mut Param<S, Self>) -> Result<()> {
        raw_pointer::make_own(tensor)
    }
}
