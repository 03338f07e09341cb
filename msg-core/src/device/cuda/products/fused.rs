//! Products with what follows them in one kernel, by cuBLASLt: `y = x W^T + b`, and GELU of it. For bf16.
//!
//! Where cuBLASLt has no such kernel (sizes that are not aligned, older versions), the caller does both separately.

use super::{
    super::{super::raw_pointer::Address, element::Values},
    Sizes, size,
};
use cudarc::{
    cublas::sys::cublasOperation_t::CUBLAS_OP_T,
    cublaslt::{
        result::{self, CublasError},
        sys::{
            self, cublasComputeType_t::CUBLAS_COMPUTE_32F, cublasLtEpilogue_t as Kind,
            cublasLtMatmulDescAttributes_t as Of, cudaDataType_t as Type,
        },
    },
    driver::CudaDevice,
};
use std::{cell::RefCell, collections::HashMap, ffi::c_void, rc::Rc, sync::Arc};

/// Bytes that a product may use for itself: what NVIDIA advises for an H100.
const WORKSPACE: usize = 32 << 20;
/// Elements that rows have to be multiples of: 16 bytes.
const ALIGNED: usize = 8;

/// What follows the product. All vectors and matrices are bf16.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Epilogue {
    /// `y = z`, with `z = x W^T + b`.
    Bias(Address),
    /// `y = gelu(z)` by the tanh form, and z itself at `sum`.
    BiasAndGelu {
        /// b.
        bias: Address,
        /// Where z goes.
        sum: Address,
    },
}

impl Epilogue {
    fn kind(self) -> Kind {
        match self {
            Epilogue::Bias(_) => Kind::CUBLASLT_EPILOGUE_BIAS,
            Epilogue::BiasAndGelu { .. } => Kind::CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
        }
    }
}

/// One thread's handle on a device, its workspace, and the kernels that were chosen so far.
#[derive(Debug)]
pub(super) struct Fused {
    handle: sys::cublasLtHandle_t,
    gpu: Arc<CudaDevice>,
    workspace: Values<f32>,
    plans: RefCell<HashMap<[usize; 4], Option<Rc<Plan>>>>,
}

impl Drop for Fused {
    #[allow(unsafe_code, reason = "releases a cuBLASLt handle")]
    fn drop(&mut self) {
        // SAFETY: made by `new`, and released here alone. A failure leaves nothing to do.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

/// A kernel for a product of certain sizes.
#[derive(Debug)]
struct Plan {
    what: sys::cublasLtMatmulDesc_t,
    /// Of W, x and y.
    layouts: [sys::cublasLtMatrixLayout_t; 3],
    kernel: sys::cublasLtMatmulAlgo_t,
}

impl Drop for Plan {
    #[allow(unsafe_code, reason = "releases descriptions of a product")]
    fn drop(&mut self) {
        // SAFETY: made by `Plan::new`, and released here alone.
        unsafe {
            let _ = result::destroy_matmul_desc(self.what);
            for layout in self.layouts {
                let _ = result::destroy_matrix_layout(layout);
            }
        }
    }
}

/// Sets one attribute of a product.
#[allow(unsafe_code, reason = "hands a value to cuBLASLt")]
fn set<T>(what: sys::cublasLtMatmulDesc_t, attribute: Of, value: &T) -> Result<(), CublasError> {
    // SAFETY: cuBLASLt copies the value, whose size it checks, before it returns.
    unsafe { result::set_matmul_desc_attribute(what, attribute, (&raw const *value).cast(), size_of::<T>()) }
}

impl Plan {
    fn new(handle: sys::cublasLtHandle_t, size: Sizes, epilogue: Epilogue) -> Result<Self, CublasError> {
        let Sizes { rows, inputs, outputs } = size;
        let [rows, inputs, outputs] = [rows, inputs, outputs].map(|size| size as u64);
        let layout = |rows: u64, columns: u64| {
            result::create_matrix_layout(Type::CUDA_R_16BF, rows, columns, rows as i64)
        };
        let mut plan = Plan {
            what: result::create_matmul_desc(CUBLAS_COMPUTE_32F, Type::CUDA_R_32F)?,
            layouts: [layout(inputs, outputs)?, layout(inputs, rows)?, layout(outputs, rows)?],
            kernel: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
        };
        set(plan.what, Of::CUBLASLT_MATMUL_DESC_TRANSA, &CUBLAS_OP_T)?;
        plan.follow(epilogue, outputs)?;
        plan.kernel = plan.choose(handle)?;
        Ok(plan)
    }

    /// Says what follows, and where its operands lie.
    fn follow(&self, epilogue: Epilogue, outputs: u64) -> Result<(), CublasError> {
        set(self.what, Of::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue.kind())?;
        match epilogue {
            Epilogue::Bias(bias) => set(self.what, Of::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias),
            Epilogue::BiasAndGelu { bias, sum } => {
                set(self.what, Of::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
                set(self.what, Of::CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &sum)?;
                set(self.what, Of::CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &(outputs as i64))
            }
        }
    }

    /// The kernel that cuBLASLt considers the fastest.
    #[allow(unsafe_code, reason = "hands a value to cuBLASLt")]
    fn choose(&self, handle: sys::cublasLtHandle_t) -> Result<sys::cublasLtMatmulAlgo_t, CublasError> {
        let preference = result::create_matmul_pref()?;
        let bytes = WORKSPACE;
        // SAFETY: cuBLASLt copies the value before it returns; the preference is released once, below.
        let limited = unsafe {
            result::set_matmul_pref_attribute(
                preference,
                sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                (&raw const bytes).cast(),
                size_of::<usize>(),
            )
        };
        let [weight, x, y] = self.layouts;
        let found = limited
            .and_then(|()| result::get_matmul_algo_heuristic(handle, self.what, weight, x, y, y, preference));
        // SAFETY: made above.
        let _ = unsafe { result::destroy_matmul_pref(preference) };
        Ok(found?.algo)
    }
}

impl Fused {
    pub(super) fn new(gpu: &Arc<CudaDevice>) -> Option<Self> {
        let workspace = Values::of(gpu, WORKSPACE / size_of::<f32>()).ok()?;
        let handle = result::create_handle().ok()?;
        Some(Fused { handle, gpu: gpu.clone(), workspace, plans: RefCell::default() })
    }

    /// Queues the product and what follows; false where there is no kernel for both, and then nothing is done.
    #[allow(unsafe_code, reason = "calls cuBLASLt")]
    pub(super) fn run(
        &self,
        sizes: Sizes,
        (x, weight): (Address, Address),
        y: Address,
        epilogue: Epilogue,
    ) -> bool {
        let Sizes { rows, inputs, outputs } = sizes;
        let fit = |count: usize| size(count) > 0;
        if ![inputs, outputs].iter().all(|size| size.is_multiple_of(ALIGNED)) || !fit(rows) {
            return false;
        }
        let key = [rows, inputs, outputs, epilogue.kind() as usize];
        let known = self.plans.borrow().get(&key).cloned();
        let plan = known.unwrap_or_else(|| {
            let plan = Plan::new(self.handle, sizes, epilogue).ok().map(Rc::new);
            self.plans.borrow_mut().insert(key, plan.clone());
            plan
        });
        let Some(plan) = plan else { return false };
        let [one, zero] = [1.0_f32, 0.0];
        let [of_weight, of_x, of_y] = plan.layouts;
        plan.follow(epilogue, outputs as u64).is_ok()
            // SAFETY: the layouts are those of W (outputs x inputs), x (rows x inputs) and y (rows x outputs), row-major;
            // the bias has `outputs` values and the sum is as y. The factors are read before the call returns. The
            // workspace is used by products on this stream alone, one after the other.
            && unsafe {
                result::matmul(
                    self.handle,
                    plan.what,
                    (&raw const one).cast(),
                    (&raw const zero).cast(),
                    weight as *const c_void,
                    of_weight,
                    x as *const c_void,
                    of_x,
                    y as *const c_void,
                    of_y,
                    y as *mut c_void,
                    of_y,
                    &raw const plan.kernel,
                    self.workspace.address() as *mut c_void,
                    WORKSPACE,
                    self.gpu.cu_stream().cast(),
                )
            }
            .is_ok()
    }
}
