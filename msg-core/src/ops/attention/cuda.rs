//! Launches of `kernels/attention.cu`.

use crate::{
    device::{
        bridge::Address,
        cuda::{
            Module,
            element::{DeviceResult, Element, Values, parameters},
            module,
        },
    },
    ops::columns::DropoutNumbers,
};
use cudarc::driver::{CudaDevice, LaunchConfig};
use std::sync::Arc;

/// The largest head that the kernels take.
pub(crate) const LARGEST_HEAD: usize = 128;

/// `WARPS`, `TILE`, `FORWARD_ROWS` and `BACKWARD_ROWS` of the kernels.
const WARPS: usize = 4;
const TILE: usize = 32;
const FORWARD_ROWS: usize = 4;
const BACKWARD_ROWS: usize = 2;

/// The kernels of one element, for heads of up to 32, 64 and 128.
macro_rules! plain {
    ($file:literal, $($suffix:literal),*) => {
        module!($file, each [], others [$(
            concat!("attention_deltas_", $suffix),
            concat!("attention_forward_", $suffix, "_1"),
            concat!("attention_forward_", $suffix, "_2"),
            concat!("attention_forward_", $suffix, "_4"),
            concat!("attention_keys_", $suffix, "_1"),
            concat!("attention_keys_", $suffix, "_2"),
            concat!("attention_keys_", $suffix, "_4"),
            concat!("attention_queries_", $suffix, "_1"),
            concat!("attention_queries_", $suffix, "_2"),
            concat!("attention_queries_", $suffix, "_4")
        ),*])
    };
}
const MODULE: Module = plain!("attention", "f32", "bf16");

parameters! {
    /// `Attention` of the kernels.
    struct Attention {
        qkv: Address,
        mixed: Address,
        log_sums: Address,
        dmixed: Address,
        deltas: Address,
        dqkv: Address,
        padding: Address,
        dropout: DropoutNumbers,
        scale: f32,
        batch: u32,
        length: u32,
        heads: u32,
        head_dim: u32,
        causal: u32,
    }
}

/// Attention over sequences of equal length: its sizes, and what hides scores.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sequences {
    pub(crate) batch: usize,
    pub(crate) length: usize,
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) causal: bool,
    /// What is added to the scores of a key, (batch, length); null: nothing.
    pub(crate) padding: Address,
    pub(crate) dropout: DropoutNumbers,
}

impl Sequences {
    fn parameters(&self) -> Attention {
        let [batch, length, heads, head_dim] =
            [self.batch, self.length, self.heads, self.head_dim].map(|size| size as u32);
        Attention {
            padding: self.padding,
            dropout: self.dropout,
            scale: (1.0 / (self.head_dim as f64).sqrt()) as f32,
            batch,
            length,
            heads,
            head_dim,
            causal: u32::from(self.causal),
            ..Attention::default()
        }
    }

    /// Rows times heads: the number of a query's statistics.
    pub(crate) fn statistics(&self) -> usize {
        self.batch * self.heads * self.length
    }

    #[allow(unsafe_code, reason = "launches a kernel")]
    fn launch<E: Element>(
        &self,
        gpu: &Arc<CudaDevice>,
        name: &str,
        (rows, floats): (usize, usize),
        with: Attention,
    ) -> DeviceResult {
        let chunks = self.head_dim.div_ceil(32).next_power_of_two();
        let config = LaunchConfig {
            grid_dim: (self.length.div_ceil(rows) as u32, with.heads, with.batch),
            block_dim: (32 * WARPS as u32, 1, 1),
            shared_mem_bytes: (floats * size_of::<f32>()) as u32,
        };
        // SAFETY: the struct is the kernels'; the buffers are of the sizes that it says, heads no larger than the
        // kernels' (checked by the block), and the shared memory is what the kernel lays out.
        unsafe { MODULE.launch(gpu, &format!("{name}_{}_{chunks}", E::SUFFIX), config, with) }
    }

    /// Writes the mix of each row to `mixed`, and the statistics to `log_sums`.
    pub(crate) fn forward<E: Element>(
        &self,
        gpu: &Arc<CudaDevice>,
        qkv: Address,
        mixed: Address,
        log_sums: Address,
    ) -> DeviceResult {
        let (rows, d) = (WARPS * FORWARD_ROWS, self.head_dim);
        let with = Attention { qkv, mixed, log_sums, ..self.parameters() };
        self.launch::<E>(gpu, "attention_forward", (rows, rows * d + TILE * (2 * d + 1)), with)
    }

    /// Writes the gradient of `qkv` to `dqkv`.
    #[allow(unsafe_code, reason = "launches a kernel")]
    pub(crate) fn backward<E: Element>(
        &self,
        gpu: &Arc<CudaDevice>,
        (qkv, mixed, log_sums): (Address, Address, Address),
        dmixed: Address,
        dqkv: Address,
    ) -> DeviceResult {
        let deltas = Values::<f32>::of(gpu, self.statistics())?;
        let with =
            Attention { qkv, mixed, log_sums, dmixed, deltas: deltas.address(), dqkv, ..self.parameters() };
        let config = LaunchConfig {
            grid_dim: (self.statistics().div_ceil(WARPS) as u32, 1, 1),
            block_dim: (32 * WARPS as u32, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: as in `launch`; there is a delta for every query and head.
        unsafe { MODULE.launch(gpu, &format!("attention_deltas_{}", E::SUFFIX), config, with) }?;
        let (rows, d) = (WARPS * BACKWARD_ROWS, self.head_dim);
        let floats = 2 * rows * d + 2 * TILE * (d + 1);
        self.launch::<E>(gpu, "attention_keys", (rows, floats), with)?;
        self.launch::<E>(gpu, "attention_queries", (rows, floats), with)
    }
}
