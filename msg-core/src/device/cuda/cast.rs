//! Operands of products from f32 values: launches of `cast.cu`.

use super::{
    element::{Element, Values, kernel_name, parameters},
    launch::{DeviceResult, Module, flat, module, vector_width},
};
use crate::device::raw_pointer::Address;
use cudarc::driver::CudaDevice;
use std::sync::Arc;

const MODULE: Module = module!("cast", each ["cast"], others []);

parameters! {
    /// `Cast` of the kernels.
    struct Cast {
        x: Address,
        y: Address,
        count: usize,
    }
}

/// f32 values in an element's form: themselves, or a rounded copy.
#[derive(Debug)]
pub(crate) enum Operand<E: Element> {
    /// The values themselves, whose owner outlives this.
    Borrowed(Address),
    /// A copy.
    Copy(Values<E>),
}

impl<E: Element> Operand<E> {
    pub(crate) fn address(&self) -> Address {
        match self {
            Operand::Borrowed(address) => *address,
            Operand::Copy(values) => values.address(),
        }
    }
}

/// `count` f32 values as operands of products in this type.
pub(crate) fn operand<E: Element>(
    gpu: &Arc<CudaDevice>,
    from: Address,
    count: usize,
) -> DeviceResult<Operand<E>> {
    padded_operand(gpu, from, count, count)
}

/// As [`operand`], with zeros behind the values up to `padded` where they are a copy.
pub(crate) fn padded_operand<E: Element>(
    gpu: &Arc<CudaDevice>,
    from: Address,
    count: usize,
    padded: usize,
) -> DeviceResult<Operand<E>> {
    if E::IS_F32 {
        return Ok(Operand::Borrowed(from));
    }
    let copy = if padded > count { Values::zeros(gpu, padded)? } else { Values::of(gpu, count)? };
    cast::<E>(gpu, from, copy.address(), count)?;
    Ok(Operand::Copy(copy))
}

/// Rounds `count` values at `x` to E.
#[allow(unsafe_code, reason = "launches a kernel")]
fn cast<E: Element>(gpu: &Arc<CudaDevice>, x: Address, y: Address, count: usize) -> DeviceResult {
    let name = kernel_name::<E>("cast", vector_width(&[count]));
    // SAFETY: the struct is the kernel's; both buffers have `count` values.
    unsafe { MODULE.launch(gpu, &name, flat(count), Cast { x, y, count }) }
}
