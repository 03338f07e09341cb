//! Numbers as activations are stored on the device, buffers of them, and how kernels take their parameters.

use super::super::raw_pointer::Address;
use cudarc::{
    cublas::sys::cudaDataType,
    driver::{CudaDevice, CudaSlice, DevicePtr, DeviceRepr, ValidAsZeroBits},
};
use dfdx::tensor::CudaError;
use half::bf16;
use std::sync::Arc;

/// What devices and kernels refuse; dfdx's error, because backward passes may give no other.
pub(crate) type DeviceResult<T = ()> = Result<T, CudaError>;

/// A type of stored activations: f32, or bf16. Kernels for both are named alike.
pub(crate) trait Element: Sized + 'static {
    /// The same bits as a type that cudarc knows.
    type Bits: DeviceRepr + std::fmt::Debug;
    /// What the names of its kernels end in.
    const SUFFIX: &'static str;
    /// What cuBLAS calls it.
    const KIND: cudaDataType;
    /// Whether products may add biases rounded to it, and activate sums.
    const FUSES: bool;

    /// `count` f32 values as operands of products in this type, and zeros behind them up to `padded` where they are a
    /// copy.
    ///
    /// # Errors
    /// Where the device fails.
    fn padded(
        gpu: &Arc<CudaDevice>,
        from: Address,
        count: usize,
        padded: usize,
    ) -> DeviceResult<Operand<Self>>;

    /// As [`Element::padded`], without padding.
    ///
    /// # Errors
    /// Where the device fails.
    fn operand(gpu: &Arc<CudaDevice>, from: Address, count: usize) -> DeviceResult<Operand<Self>> {
        Self::padded(gpu, from, count, count)
    }
}

/// Values that are there as they are needed, or a rounded copy of them.
#[derive(Debug)]
pub(crate) enum Operand<E: Element> {
    /// Someone else's, who outlives this.
    There(Address),
    /// A copy.
    Copy(Values<E>),
}

impl<E: Element> Operand<E> {
    pub(crate) fn address(&self) -> Address {
        match self {
            Operand::There(address) => *address,
            Operand::Copy(values) => values.address(),
        }
    }
}

impl Element for f32 {
    type Bits = f32;
    const SUFFIX: &'static str = "f32";
    const KIND: cudaDataType = cudaDataType::CUDA_R_32F;
    const FUSES: bool = false;

    fn padded(_: &Arc<CudaDevice>, from: Address, _: usize, _: usize) -> DeviceResult<Operand<f32>> {
        Ok(Operand::There(from))
    }
}

impl Element for bf16 {
    type Bits = u16;
    const SUFFIX: &'static str = "bf16";
    const KIND: cudaDataType = cudaDataType::CUDA_R_16BF;
    const FUSES: bool = true;

    fn padded(
        gpu: &Arc<CudaDevice>,
        from: Address,
        count: usize,
        padded: usize,
    ) -> DeviceResult<Operand<bf16>> {
        let copy = if padded > count { Values::zeros(gpu, padded)? } else { Values::of(gpu, count)? };
        crate::ops::elementwise::cast::<bf16>(gpu, from, copy.address(), count)?;
        Ok(Operand::Copy(copy))
    }
}

/// A buffer on the device. It is released on the stream, so that work queued before still finds it.
#[derive(Debug)]
pub(crate) struct Values<E: Element>(CudaSlice<E::Bits>);

impl<E: Element> Values<E> {
    /// A buffer whose values mean nothing yet.
    #[allow(unsafe_code, reason = "allocates without writing")]
    pub(crate) fn of(gpu: &Arc<CudaDevice>, count: usize) -> DeviceResult<Self> {
        // SAFETY: the elements are plain numbers of which every bit pattern is one, and no host code can read
        // them: this type shows no more than the address.
        Ok(Values(unsafe { gpu.alloc::<E::Bits>(count) }?))
    }

    /// A buffer of zeros.
    pub(crate) fn zeros(gpu: &Arc<CudaDevice>, count: usize) -> DeviceResult<Self>
    where
        E::Bits: ValidAsZeroBits,
    {
        Ok(Values(gpu.alloc_zeros::<E::Bits>(count)?))
    }

    /// Where it lies.
    pub(crate) fn address(&self) -> Address {
        *self.0.device_ptr()
    }
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
