//! Launches of `kernels/guard.cu`: the verdict on an update, which stays on the device until it is asked for.

use super::{Module, reduce};
use crate::{
    device::bridge::{self, Address},
    error::{Context, Result},
    optim::Verdict,
    params::Param,
};
use cudarc::driver::{CudaSlice, DevicePtr, LaunchAsync, LaunchConfig};
use dfdx::tensor::{Cuda, Storage};

const OP: &str = "guard";
const MODULE: Module = Module {
    name: "msg_guard",
    ptx: include_str!(concat!(env!("OUT_DIR"), "/guard.ptx")),
    functions: &["judge"],
};

/// `struct Verdict` of the kernels, whose fields are all doubles; the squares come first.
#[derive(Debug)]
pub struct Guard(CudaSlice<f64>);

impl Guard {
    /// One that has seen no gradient, and lets nothing through.
    pub(super) fn new(device: &Cuda) -> Result<Self> {
        Ok(Guard(bridge::driver(device)?.alloc_zeros::<f64>(3).during(OP)?))
    }

    /// Adds the squares of a gradient.
    pub(super) fn add_squares(&mut self, gradient: &<Cuda as Storage<f32>>::Vec) -> Result<()> {
        reduce::add_squares(&gradient.device(), reduce::Values::of(gradient), 0.0, &mut self.0)
    }

    /// Judges by the loss, if any, and the squares so far.
    #[allow(unsafe_code, reason = "launches a kernel")]
    pub(super) fn judge(&mut self, loss: Option<&Param<(), Cuda>>, clip: f64) -> Result<()> {
        let kernel = MODULE.function(&self.0.device(), "judge")?;
        let loss: Address = loss.map_or(Ok(0), bridge::address)?;
        let one = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (1, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: the parameters are the kernel's. It reads the loss, if any, and changes the verdict, which
        // is 3 doubles. Both outlive the launch on the stream, where their release is queued too.
        unsafe { kernel.launch(one, (&mut self.0, loss, clip)) }.during(OP)
    }

    /// Where the verdict lies, for kernels.
    pub(super) fn address(&self) -> Address {
        *self.0.device_ptr()
    }

    /// The verdict; waits for it.
    pub(super) fn verdict(&self) -> Result<Verdict> {
        let mut host = [0.0; 3];
        self.0.device().dtoh_sync_copy_into(&self.0, &mut host).during(OP)?;
        let [square, grad_scale, applied] = host;
        Ok(Verdict { square, grad_scale: grad_scale as f32, applied: applied != 0.0 })
    }
}
