//! Launches of `status.cu`: an update's status, which stays on the device until the host reads it.

use super::UpdateStatus;
use crate::{
    device::{
        cuda::launch::{Module, THREADS, module, push_long},
        raw_pointer::{self, Address},
    },
    error::{Context, Error, Result},
};
use cudarc::driver::{CudaDevice, CudaSlice, CudaStream, DevicePtr, LaunchAsync, LaunchConfig, result};
use dfdx::tensor::Cuda;
use std::sync::Arc;

const OP: &str = "update status";
const MODULE: Module = module!("status", each [], others ["square_pieces", "check_finite_and_clip"]);

/// Values whose squares one block adds; `PIECE` of the kernels.
const PIECE: usize = 1 << 14;

/// One gradient, as `struct Gradient` of the kernels has it but for the pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gradient {
    pub address: Address,
    pub count: usize,
}

/// `struct Gradient` of the kernels, one after another, as words of 32 bits; and the pieces of all.
pub(crate) fn gradient_words(gradients: &[Gradient]) -> (Vec<u32>, usize) {
    let (mut words, mut pieces) = (Vec::new(), 0);
    for gradient in gradients {
        push_long(&mut words, gradient.address);
        push_long(&mut words, gradient.count as u64);
        push_long(&mut words, pieces as u64);
        pieces += gradient.count.div_ceil(PIECE);
    }
    (words, pieces)
}

/// `struct UpdateStatus` of the kernels, whose fields are all doubles, and how it is read.
pub struct DeviceStatus {
    status: CudaSlice<f64>,
    /// Waits for the status alone, whatever has been queued since on the stream that computes it.
    reader: CudaStream,
    /// Whether there was a loss.
    has_loss: bool,
    /// The lists of age groups that are on the device: they change at growths alone.
    lists: Option<(Vec<u32>, CudaSlice<u32>)>,
}

impl std::fmt::Debug for DeviceStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceStatus").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Doubles of a status.
const FIELDS: usize = 4;

impl DeviceStatus {
    /// One that has seen nothing, and applies nothing.
    pub(crate) fn new(device: &Cuda) -> Result<Self> {
        let gpu = raw_pointer::driver(device)?;
        let status = gpu.alloc_zeros::<f64>(FIELDS).during(OP)?;
        Ok(DeviceStatus {
            status,
            reader: gpu.fork_default_stream().during(OP)?,
            has_loss: false,
            lists: None,
        })
    }

    /// Decides by the loss, if any, and `count` gradients of `pieces` pieces in a table on the device.
    #[allow(unsafe_code, reason = "launches kernels")]
    pub(crate) fn check_finite_and_clip(
        &mut self,
        (table, count, pieces): (Address, u32, usize),
        loss: Option<Address>,
        clip: f64,
    ) -> Result<()> {
        let gpu = self.status.device();
        self.has_loss = loss.is_some();
        // SAFETY: the kernel below writes every part before the second one reads it.
        let parts = unsafe { gpu.alloc::<f64>(pieces) }.during(OP)?;
        if pieces > 0 {
            let kernel = MODULE.function(&gpu, "square_pieces")?;
            // SAFETY: the parameters are the kernel's. The table has `count` gradients with `pieces` pieces in
            // all, each on a boundary of 16 bytes (the caller checks); it writes one part a block. What it
            // reads and writes outlives the launch on the stream, where its release is queued too.
            unsafe { kernel.launch(blocks(OP, pieces)?, (table, count, &parts)) }.during(OP)?;
        }
        let kernel = MODULE.function(&gpu, "check_finite_and_clip")?;
        let parameters = (&parts, pieces, loss.unwrap_or(0), clip, &mut self.status);
        // SAFETY: the parameters are the kernel's. It reads the parts and the loss, if any, and writes the
        // status, which has `FIELDS` doubles. All outlive the launch on the stream.
        unsafe { kernel.launch(blocks(OP, 1)?, parameters) }.during(OP)?;
        self.reader.wait_for_default().during(OP)
    }

    /// Where these lists of age groups lie; none do at 0. They stay from update to update.
    pub(crate) fn lists(&mut self, units: Vec<u32>) -> Result<Address> {
        if units.is_empty() {
            return Ok(0);
        }
        let (_, there) = match self.lists.take().filter(|(known, _)| *known == units) {
            Some(known) => self.lists.insert(known),
            None => {
                let there = self.status.device().htod_copy(units.clone()).during(OP)?;
                self.lists.insert((units, there))
            }
        };
        Ok(*there.device_ptr())
    }

    /// The device that it lies on.
    pub(crate) fn gpu(&self) -> Arc<CudaDevice> {
        self.status.device()
    }

    /// Where it lies, for kernels.
    pub(crate) fn address(&self) -> Address {
        *self.status.device_ptr()
    }

    /// The status on the host; waits until it is computed, and for nothing that was queued after it.
    #[allow(unsafe_code, reason = "copies on a stream of its own")]
    pub(crate) fn read(&self) -> Result<UpdateStatus> {
        let mut host = [0.0; FIELDS];
        // SAFETY: both sides have `FIELDS` doubles and live until the stream, on which the copy is put, has
        // been waited for. The stream waits for the launch of `check_finite_and_clip`, which wrote the status last.
        unsafe {
            result::memcpy_dtoh_async(&mut host, self.address(), self.reader.stream).during(OP)?;
            result::stream::synchronize(self.reader.stream).during(OP)?;
        }
        let [square, grad_scale, applied, loss] = host;
        Ok(UpdateStatus {
            square,
            grad_scale: grad_scale as f32,
            applied: applied != 0.0,
            loss: self.has_loss.then_some(loss as f32),
        })
    }
}

/// So many blocks of [`THREADS`] threads.
pub(crate) fn blocks(op: &'static str, count: usize) -> Result<LaunchConfig> {
    let too_many = || Error::Value { what: op, expected: "fewer than 2^31 blocks", got: count as f64 };
    let blocks = i32::try_from(count).map_err(|_| too_many())?;
    Ok(LaunchConfig { grid_dim: (blocks as u32, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 })
}
