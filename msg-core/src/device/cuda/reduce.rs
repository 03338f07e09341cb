//! Launches of `reduce.cu`.

use super::launch::{Module, THREADS, module};
use crate::{
    device::raw_pointer::Address,
    error::{Context, Error, Result},
};
use cudarc::driver::{CudaDevice, CudaSlice, LaunchAsync, LaunchConfig};
use std::sync::Arc;

const OP: &str = "reduction";
const MODULE: Module = module!("reduce", each [], others ["piece_sums", "piece_squares", "total"]);

/// Values that one block adds; `PIECE` of the kernels.
const PIECE: usize = 1 << 14;

/// Floats on the device that live until the sum is there.
#[derive(Clone, Copy)]
pub(crate) struct Values {
    pub address: Address,
    pub count: usize,
}

impl Values {
    fn blocks(self) -> Result<LaunchConfig> {
        let too_many =
            || Error::Value { what: OP, expected: "fewer than 2^45 values", got: self.count as f64 };
        let blocks = i32::try_from(self.count.div_ceil(PIECE)).map_err(|_| too_many())?;
        Ok(LaunchConfig { grid_dim: (blocks as u32, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 })
    }
}

/// The sum of the values.
#[allow(unsafe_code, reason = "launches a kernel")]
pub(crate) fn sum(gpu: &Arc<CudaDevice>, values: Values) -> Result<f64> {
    let kernel = MODULE.function(gpu, "piece_sums")?;
    alone(gpu, |total| {
        in_pieces(gpu, values, total, |blocks, parts| {
            // SAFETY: the parameters are the kernel's; it reads `count` values and writes one part a block.
            unsafe { kernel.launch(blocks, (values.address, values.count, parts)) }.during(OP)
        })
    })
}

/// The sum of the squared distances of the values from `centre`.
#[allow(unsafe_code, reason = "launches a kernel")]
pub(crate) fn squares(gpu: &Arc<CudaDevice>, values: Values, centre: f64) -> Result<f64> {
    let kernel = MODULE.function(gpu, "piece_squares")?;
    alone(gpu, |total| {
        in_pieces(gpu, values, total, |blocks, parts| {
            // SAFETY: the parameters are the kernel's; it reads `count` values and writes one part a block.
            unsafe { kernel.launch(blocks, (values.address, values.count, centre, parts)) }.during(OP)
        })
    })
}

/// What `add` adds to 0; waits for it.
fn alone(gpu: &Arc<CudaDevice>, add: impl FnOnce(&mut CudaSlice<f64>) -> Result<()>) -> Result<f64> {
    let mut total = gpu.alloc_zeros::<f64>(1).during(OP)?;
    add(&mut total)?;
    let mut host = [0.0];
    gpu.dtoh_sync_copy_into(&total, &mut host).during(OP)?;
    Ok(host[0])
}

/// Reduces pieces to parts by `launch`, and adds the parts to the first number of `total`.
#[allow(unsafe_code, reason = "launches a kernel")]
fn in_pieces(
    gpu: &Arc<CudaDevice>,
    values: Values,
    total: &mut CudaSlice<f64>,
    launch: impl FnOnce(LaunchConfig, &mut CudaSlice<f64>) -> Result<()>,
) -> Result<()> {
    if values.count == 0 {
        return Ok(());
    }
    let blocks = values.blocks()?;
    let count = blocks.grid_dim.0 as usize;
    let mut parts = gpu.alloc_zeros::<f64>(count).during(OP)?;
    launch(blocks, &mut parts)?;
    let one = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 };
    let kernel = MODULE.function(gpu, "total")?;
    // SAFETY: the parameters are the kernel's; it reads `count` parts and adds to one number of `total`,
    // which has some. The parts' release is queued on the same stream.
    unsafe { kernel.launch(one, (&parts, count, total)) }.during(OP)
}
