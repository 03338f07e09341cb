//! Opening a GPU.

use crate::error::{Context, Error, Result};
use cudarc::driver::result;
use dfdx::tensor::Cuda;

/// The device that [`open_cuda`] opens.
pub type Gpu = Cuda;

/// Opens the GPU of that number.
///
/// dfdx panics without a driver or such a GPU, so both are checked first. The addresses that kernels work with are
/// tested here too (see [`raw_pointer`](crate::device::raw_pointer)).
///
/// # Errors
/// Without a driver, and for a number that no GPU has.
pub fn open_cuda(ordinal: usize) -> Result<Gpu> {
    const OP: &str = "open_cuda";
    result::init().during(OP)?;
    let count = result::device::get_count().during(OP)?;
    if !usize::try_from(count).is_ok_and(|count| ordinal < count) {
        return Err(Error::Device {
            op: OP,
            message: format!("there is no GPU {ordinal}: the driver has {count}"),
        });
    }
    let device = Cuda::try_build(ordinal, 0).during(OP)?;
    super::pool::keep_freed(&crate::device::raw_pointer::driver(&device)?)?;
    crate::device::raw_pointer::trusted(&device)?;
    Ok(device)
}
