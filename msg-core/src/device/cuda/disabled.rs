//! Refusing to open a GPU, in a build without the feature `cuda`.

use crate::error::{Error, Result};

/// Stands in for the GPU, so that callers of [`open_cuda`] need no conditional code. It is never opened.
pub type Gpu = dfdx::tensor::Cpu;

/// Refuses: this build has no GPU support.
///
/// # Errors
/// Always.
pub fn open_cuda(ordinal: usize) -> Result<Gpu> {
    let message = format!("cannot open GPU {ordinal}: built without the cuda feature");
    Err(Error::Device { op: "open_cuda", message })
}
