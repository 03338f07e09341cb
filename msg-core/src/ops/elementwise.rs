//! Launches of `elementwise.cu`: passes over matrices of rows on Cuda.

use super::{dropout::cuda::DropoutNumbers, gelu::Gelu};
use crate::device::{
    cuda::{
        element::{Element, Values, kernel_name, parameters},
        launch::{DeviceResult, Module, flat, module, vector_width},
    },
    raw_pointer::Address,
};
use cudarc::driver::{CudaDevice, LaunchConfig};
use std::sync::Arc;

const MODULE: Module = module!(
    "elementwise",
    each ["activate", "activate_back", "bias_and_mask", "mask_back", "branch_back", "add_scaled"],
    others ["column_totals"]
);

/// `ACROSS` and `DOWN` of the kernels.
const ACROSS: u32 = 32;
const DOWN: u32 = 8;
/// Blocks that share the rows: enough to fill a GPU together with those side by side, few enough that the final
/// reduction is cheap.
const SHARES: u32 = 64;

parameters! {
    /// `Columns` of the kernels.
    struct Columns {
        x: Address,
        y: Address,
        active: Address,
        stream: Address,
        bias: Address,
        mask: [Address; 3],
        sums: Address,
        dropout: DropoutNumbers,
        gate: f32,
        rows: u32,
        columns: u32,
        length: u32,
        part: u32,
        is_tanh: u32,
    }

    /// `Totals` of the kernels.
    struct Totals {
        parts: Address,
        to: [Address; 3],
        count: u32,
        kinds: u32,
        columns: u32,
    }

    /// `AddScaled` of the kernels: `to += factor * (a + b + scale * c)`.
    struct AddScaled {
        to: Address,
        a: Address,
        b: Address,
        c: Address,
        factor: Address,
        scale: f32,
        count: usize,
    }
}

/// The sizes of a matrix of rows in one buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Columns of one of the equal parts that have masks of their own.
    pub(crate) part: usize,
}

impl Shape {
    fn parameters(self) -> Columns {
        let [rows, columns, part] = [self.rows, self.columns, self.part].map(|size| size as u32);
        Columns { rows, columns, part, ..Columns::default() }
    }

    fn launch<E: Element>(self, gpu: &Arc<CudaDevice>, name: &str, with: Columns) -> DeviceResult {
        self.launch_shares::<E>(gpu, name, with, SHARES)
    }

    #[allow(unsafe_code, reason = "launches a kernel")]
    fn launch_shares<E: Element>(
        self,
        gpu: &Arc<CudaDevice>,
        name: &str,
        with: Columns,
        shares: u32,
    ) -> DeviceResult {
        let count = vector_width(&[self.columns, self.part]);
        let across = with.columns.div_ceil(ACROSS * count as u32);
        let config = LaunchConfig {
            grid_dim: (across, shares.min(with.rows.div_ceil(DOWN)), 1),
            block_dim: (ACROSS, DOWN, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the struct is the kernels'. Matrices are `rows` x `columns` (checked by `Block` and its like before
        // any launch), the bias has `columns` values, each mask `part` or is null.
        unsafe { MODULE.launch(gpu, &kernel_name::<E>(name, count), config, with) }
    }

    /// Launches a kernel that sums the columns, and adds the sums to `total`.
    fn summed<E: Element>(
        self,
        gpu: &Arc<CudaDevice>,
        name: &str,
        with: Columns,
        total: Address,
    ) -> DeviceResult {
        let shares = SHARES.min(with.rows.div_ceil(DOWN));
        let parts = Values::<f32>::of(gpu, shares as usize * self.columns)?;
        self.launch_shares::<E>(gpu, name, Columns { sums: parts.address(), ..with }, shares)?;
        add_totals(gpu, &parts, (shares, self.columns), [total, 0, 0], 1)
    }

    /// `y = c (y + b)`, in place.
    pub(crate) fn bias_and_mask<E: Element>(
        self,
        gpu: &Arc<CudaDevice>,
        y: Address,
        bias: Address,
        mask: [Address; 3],
    ) -> DeviceResult {
        self.launch::<E>(gpu, "bias_and_mask", Columns { y, bias, mask, ..self.parameters() })
    }

    /// `y = c y`, in place; adds the sums of y's columns to `total`.
    pub(crate) fn mask_back<E: Element>(
        self,
        gpu: &Arc<CudaDevice>,
        y: Address,
        mask: [Address; 3],
        total: Address,
    ) -> DeviceResult {
        self.summed::<E>(gpu, "mask_back", Columns { y, mask, ..self.parameters() }, total)
    }

    /// `y = gelu(c (x + b))`.
    pub(crate) fn activate<E: Element>(
        self,
        gpu: &Arc<CudaDevice>,
        form: Gelu,
        (x, bias, mask): (Address, Address, Address),
        y: Address,
    ) -> DeviceResult {
        let is_tanh = u32::from(form == Gelu::Tanh);
        let mask = [mask, 0, 0];
        self.launch::<E>(gpu, "activate", Columns { x, y, bias, mask, is_tanh, ..self.parameters() })
    }

    /// As [`Shape::activate`] to `active`; turns its gradient `y` into that of x, and adds the sums of the columns of
    /// this to `total`.
    pub(crate) fn activate_back<E: Element>(
        self,
        gpu: &Arc<CudaDevice>,
        form: Gelu,
        (x, bias, mask): (Address, Address, Address),
        (active, y): (Address, Address),
        total: Address,
    ) -> DeviceResult {
        let (is_tanh, mask) = (u32::from(form == Gelu::Tanh), [mask, 0, 0]);
        let with = Columns { x, y, active, bias, mask, is_tanh, ..self.parameters() };
        self.summed::<E>(gpu, "activate_back", with, total)
    }

    /// `y = gate * drop(stream)`, whose sequences have `length` rows; adds the sums of y's columns to `total`.
    pub(crate) fn branch_back<E: Element>(
        self,
        gpu: &Arc<CudaDevice>,
        (stream, gate, dropout, length): (Address, f32, DropoutNumbers, usize),
        y: Address,
        total: Address,
    ) -> DeviceResult {
        let with = Columns { stream, y, gate, dropout, length: length as u32, ..self.parameters() };
        self.summed::<E>(gpu, "branch_back", with, total)
    }
}

/// Adds up `parts`, of `kinds` rows of columns each, to the rows at `to`; a null one is skipped.
#[allow(unsafe_code, reason = "launches a kernel")]
pub(crate) fn add_totals(
    gpu: &Arc<CudaDevice>,
    parts: &Values<f32>,
    (count, columns): (u32, usize),
    to: [Address; 3],
    kinds: u32,
) -> DeviceResult {
    let columns = columns as u32;
    let config = LaunchConfig {
        grid_dim: (columns.div_ceil(32), kinds, 1),
        block_dim: (32, 32, 1),
        shared_mem_bytes: 0,
    };
    let with = Totals { parts: parts.address(), to, count, kinds, columns };
    // SAFETY: the struct is the kernel's; there are `count` parts of `kinds` rows, and each row at `to` has `columns`.
    unsafe { MODULE.launch(gpu, "column_totals", config, with) }
}

/// Adds up to three terms to the values of a buffer.
#[allow(unsafe_code, reason = "launches a kernel")]
pub(crate) fn add_scaled<E: Element>(gpu: &Arc<CudaDevice>, with: AddScaled) -> DeviceResult {
    let name = kernel_name::<E>("add_scaled", vector_width(&[with.count]));
    // SAFETY: the struct is the kernel's; all buffers that are there have `count` values, and `factor` one.
    unsafe { MODULE.launch(gpu, &name, flat(with.count), with) }
}
