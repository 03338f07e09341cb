//! Matrix products of device buffers by cuBLAS: operands of any [`Element`], sums in f32.

mod fused;
#[cfg(test)]
mod tests;

use super::{super::raw_pointer::Address, element::Element, launch::DeviceResult};
use cudarc::{
    cublas::{CudaBlas, result, sys},
    driver::CudaDevice,
};
use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc};

pub(crate) use fused::Epilogue;
use sys::cublasOperation_t::{CUBLAS_OP_N as AS_IS, CUBLAS_OP_T as TRANSPOSED};

/// What f32 products are computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum F32Mode {
    /// f32.
    Exact,
    /// Operands cut to TF32, on tensor cores.
    Tf32,
}

/// Sizes of a linear map `y = x W^T`: rows of x and y, their lengths.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) rows: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
}

/// The products on one device.
#[derive(Clone, Debug)]
pub(crate) struct Products {
    on: Rc<Handles>,
    f32_mode: F32Mode,
}

/// One thread's handles on a device.
#[derive(Debug)]
struct Handles {
    blas: CudaBlas,
    /// None where cuBLASLt cannot be had.
    fused: Option<fused::Fused>,
}

/// One product in cuBLAS' terms: column-major, `C = op(A) op(B)`, or added to C.
struct Call {
    transposed: [bool; 2],
    size: [usize; 3],
    operands: [Address; 2],
    strides: [usize; 2],
    result: Address,
    adds: bool,
}

impl Products {
    /// Those of a device: one cuBLAS handle a thread, on dfdx's stream.
    pub(crate) fn on(gpu: &Arc<CudaDevice>, f32_mode: F32Mode) -> DeviceResult<Self> {
        thread_local! {
            static HANDLES: RefCell<HashMap<usize, Rc<Handles>>> = RefCell::default();
        }
        let known = HANDLES.with_borrow(|handles| handles.get(&gpu.ordinal()).cloned());
        let on = match known {
            // Another device value of the same number may have another stream.
            Some(on) if same_device(&on.blas, gpu) => on,
            _ => {
                let on = Handles { blas: CudaBlas::new(gpu.clone())?, fused: fused::Fused::new(gpu) };
                let on = Rc::new(on);
                HANDLES.with_borrow_mut(|handles| handles.insert(gpu.ordinal(), on.clone()));
                on
            }
        };
        Ok(Products { on, f32_mode })
    }

    /// `y = x W^T`.
    pub(crate) fn linear<E: Element, Y: Element>(
        &self,
        size: Sizes,
        (x, weight): (Address, Address),
        y: Address,
    ) -> DeviceResult {
        let Sizes { rows, inputs, outputs } = size;
        self.run::<E, Y>(Call {
            transposed: [true, false],
            size: [outputs, rows, inputs],
            operands: [weight, x],
            strides: [inputs, inputs],
            result: y,
            adds: false,
        })
    }

    /// `x W^T` and what follows, all in bf16, in one kernel; false where there is none, and then nothing is done.
    pub(crate) fn linear_with_epilogue(
        &self,
        size: Sizes,
        operands: (Address, Address),
        y: Address,
        epilogue: Epilogue,
    ) -> bool {
        self.on.fused.as_ref().is_some_and(|fused| fused.run(size, operands, y, epilogue))
    }

    /// `dx = dy W`.
    pub(crate) fn back_to_inputs<E: Element, X: Element>(
        &self,
        size: Sizes,
        (dy, weight): (Address, Address),
        dx: Address,
    ) -> DeviceResult {
        let Sizes { rows, inputs, outputs } = size;
        self.run::<E, X>(Call {
            transposed: [false, false],
            size: [inputs, rows, outputs],
            operands: [weight, dy],
            strides: [inputs, outputs],
            result: dx,
            adds: false,
        })
    }

    /// `dW = dy^T x` in f32, or added to what is there.
    pub(crate) fn back_to_weight<E: Element>(
        &self,
        size: Sizes,
        (dy, x): (Address, Address),
        dweight: Address,
        adds: bool,
    ) -> DeviceResult {
        let Sizes { rows, inputs, outputs } = size;
        self.run::<E, f32>(Call {
            transposed: [false, true],
            size: [inputs, outputs, rows],
            operands: [x, dy],
            strides: [inputs, outputs],
            result: dweight,
            adds,
        })
    }

    #[allow(unsafe_code, reason = "calls cuBLAS")]
    fn run<E: Element, C: Element>(&self, call: Call) -> DeviceResult {
        let compute = match (E::KIND, self.f32_mode) {
            (sys::cudaDataType::CUDA_R_32F, F32Mode::Tf32) => {
                sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32
            }
            _ => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
        };
        let [op_a, op_b] = call.transposed.map(|transposed| if transposed { TRANSPOSED } else { AS_IS });
        let [m, n, k] = call.size.map(size);
        let [a, b] = call.operands;
        let [stride_a, stride_b] = call.strides.map(size);
        let (one, start) = (1.0_f32, if call.adds { 1.0_f32 } else { 0.0 });
        // SAFETY: the callers' sizes are those of their buffers: A is size[0] x size[2], B size[2] x size[1] and C
        // size[0] x size[1], with the strides of whole rows. The factors are read before the call returns. All work is
        // on the stream on which the buffers are used and released.
        unsafe {
            result::gemm_ex(
                *self.on.blas.handle(),
                op_a,
                op_b,
                m,
                n,
                k,
                (&raw const one).cast(),
                a as *const _,
                E::KIND,
                stride_a,
                b as *const _,
                E::KIND,
                stride_b,
                (&raw const start).cast(),
                call.result as *mut _,
                C::KIND,
                m,
                compute,
                sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP,
            )?;
        }
        Ok(())
    }
}

/// Whether a handle's stream is the device's.
fn same_device(blas: &CudaBlas, gpu: &Arc<CudaDevice>) -> bool {
    let mut stream = std::ptr::null_mut();
    #[allow(unsafe_code, reason = "asks cuBLAS for its stream")]
    // SAFETY: the handle lives, and the stream's name is written to a place of our own.
    let asked = unsafe { sys::cublasGetStream_v2(*blas.handle(), &raw mut stream) };
    asked == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS && stream.cast::<()>() == gpu.cu_stream().cast()
}

/// A size as cuBLAS takes it. [`Block`](crate::ops::Block) and its like have far smaller ones; a larger one would be refused
/// by cuBLAS as negative.
fn size(size: usize) -> i32 {
    i32::try_from(size).unwrap_or(-1)
}
