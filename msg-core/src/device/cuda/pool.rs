//! Memory that has been freed, kept for the next allocation.

use crate::error::{Context, Result};
use cudarc::driver::{CudaDevice, sys};
use std::sync::Arc;

const OP: &str = "memory pool";

/// Makes the device's default pool keep what is freed. By default it returns all of it to the system
/// at every synchronisation, so that each step would allocate its memory again.
///
/// # Errors
/// Where the driver refuses.
#[allow(unsafe_code, reason = "cudarc has no safe call for it")]
pub(in crate::device) fn keep_freed(gpu: &Arc<CudaDevice>) -> Result<()> {
    let supported = sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED;
    if gpu.attribute(supported).during(OP)? == 0 {
        // There every allocation is one of the system.
        return Ok(());
    }
    let mut pool = std::ptr::null_mut();
    let mut threshold = u64::MAX;
    // SAFETY: `pool` and `threshold` are places that the driver writes and reads during the calls alone, of
    // the types that it wants (the attribute is 64 bits wide). The device is one that cudarc has opened, and
    // its default pool lives as long as the driver.
    unsafe {
        sys::cuDeviceGetDefaultMemPool(&mut pool, *gpu.cu_device()).result().during(OP)?;
        let attribute = sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut threshold).cast()).result().during(OP)
    }
}
