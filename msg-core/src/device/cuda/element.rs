//! Numbers as activations are stored on the device, buffers of them, and how kernels take their parameters.

use super::launch::DeviceResult;
use crate::device::raw_pointer::Address;
use cudarc::{
    cublas::sys::cudaDataType,
    driver::{CudaDevice, CudaSlice, DevicePtr, DeviceRepr, ValidAsZeroBits},
};
use half::bf16;
use std::sync::Arc;

/// A type of stored activations: f32, or bf16. Kernels for both are named alike.
pub(crate) trait Element: Sized + 'static {
    /// The same bits as a type that cudarc knows.
    type Bits: DeviceRepr + ValidAsZeroBits + std::fmt::Debug;
    /// Whether f32 values are stored as they are.
    const IS_F32: bool;
    /// What the names of its kernels end in.
    const SUFFIX: &'static str;
    /// What cuBLAS calls it.
    const KIND: cudaDataType;
    /// Whether products may add biases rounded to it, and activate sums.
    const FUSES: bool;
}

impl Element for f32 {
    type Bits = f32;
    const IS_F32: bool = true;
    const SUFFIX: &'static str = "f32";
    const KIND: cudaDataType = cudaDataType::CUDA_R_32F;
    const FUSES: bool = false;
}

impl Element for bf16 {
    type Bits = u16;
    const IS_F32: bool = false;
    const SUFFIX: &'static str = "bf16";
    const KIND: cudaDataType = cudaDataType::CUDA_R_16BF;
    const FUSES: bool = true;
}

/// A buffer on the device. It is released on the stream, so that work queued before still finds it.
#[derive(Debug)]
pub(crate) struct Values<E: Element>(CudaSlice<E::Bits>);

impl<E: Element> Values<E> {
    /// A buffer whose values mean nothing yet.
    #[allow(unsafe_code, reason = "allocates without writing")]
    pub(crate) fn of(gpu: &Arc<CudaDevice>, count: usize) -> DeviceResult<Self> {
        // SAFETY: the elements are plain numbers of which every bit pattern is one, and no host code can read
        // them: this type shows no more than the address (tests read bits of what a kernel has written).
        Ok(Values(unsafe { gpu.alloc::<E::Bits>(count) }?))
    }

    /// A buffer of zeros.
    pub(crate) fn zeros(gpu: &Arc<CudaDevice>, count: usize) -> DeviceResult<Self> {
        Ok(Values(gpu.alloc_zeros::<E::Bits>(count)?))
    }

    /// Its values' bits on the host.
    #[cfg(all(test, not(feature = "ci-check")))]
    pub(crate) fn bits(&self) -> Vec<E::Bits>
    where
        E::Bits: Clone + Default + Unpin,
    {
        self.0.device().dtoh_sync_copy(&self.0).unwrap_or_default()
    }

    /// Where it lies.
    pub(crate) fn address(&self) -> Address {
        *self.0.device_ptr()
    }
}

/// The name of a kernel for an element and a vector width.
pub(crate) fn kernel_name<E: Element>(name: &str, width: usize) -> String {
    let suffix = E::SUFFIX;
    if width == 4 { format!("{name}_{suffix}_4") } else { format!("{name}_{suffix}") }
}

/// Structs that kernels take as their one parameter: `repr(C)`, with the fields of the kernel's struct in its order.
/// All fields begin as zeros, which is null, off or nothing.
macro_rules! parameters {
    ($($(#[$doc:meta])* struct $name:ident { $($field:ident: $type:ty,)* })+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, Default)]
            #[repr(C)]
            pub(crate) struct $name { $(pub(crate) $field: $type,)* }

            #[allow(unsafe_code, reason = "kernel parameters")]
            // SAFETY: a `repr(C)` struct of numbers, laid out as the struct of this name in the kernel's file.
            unsafe impl cudarc::driver::DeviceRepr for $name {}
        )+
    };
}
pub(crate) use parameters;
