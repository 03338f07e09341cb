//! Loading and launching kernels: each `.cu` file lies beside the operation that launches it.

use crate::error::{Context, Error, Result};
use cudarc::{
    driver::{CudaDevice, CudaFunction, DeviceRepr, DriverError, LaunchAsync, LaunchConfig, sys::CUresult},
    nvrtc::Ptx,
};
use dfdx::tensor::CudaError;
use std::sync::Arc;

/// What devices and kernels refuse; dfdx's error, because backward passes may give no other.
pub(crate) type DeviceResult<T = ()> = Result<T, CudaError>;

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

/// The module of `FILE.cu`: kernels that it has `each` for both elements and both vector widths, and others.
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

/// Entries that a thread loads at once in rows of these lengths.
pub(crate) fn vector_width(lengths: &[usize]) -> usize {
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
