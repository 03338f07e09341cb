//! Launches of `attention.cu` and `attention_bf16.cu`.

use crate::{
    device::{
        cuda::{
            element::{Element, Values, parameters},
            launch::{DeviceResult, Module, module},
        },
        raw_pointer::Address,
    },
    ops::dropout::cuda::DropoutNumbers,
};
use cudarc::driver::{CudaDevice, LaunchConfig};
use half::bf16;
use std::sync::Arc;

/// The largest head that the kernels take.
pub(crate) const LARGEST_HEAD: usize = 128;

/// Sizes of heads for which there are kernels; smaller ones are padded.
const SIZES: [usize; 3] = [32, 64, LARGEST_HEAD];
/// `WARPS` of the kernels.
const WARPS: usize = 4;

const SINGLE: Module = module!(
    "attention",
    each [],
    others [
        "attention_deltas_f32",
        "attention_deltas_bf16",
        "attention_forward_f32_32",
        "attention_forward_f32_64",
        "attention_forward_f32_128",
        "attention_keys_f32_32",
        "attention_keys_f32_64",
        "attention_keys_f32_128",
        "attention_queries_f32_32",
        "attention_queries_f32_64",
        "attention_queries_f32_128"
    ]
);

const HALF: Module = module!(
    "attention_bf16",
    each [],
    others [
        "attention_forward_bf16_32",
        "attention_forward_bf16_64",
        "attention_forward_bf16_128",
        "attention_keys_bf16_32",
        "attention_keys_bf16_64",
        "attention_keys_bf16_128",
        "attention_queries_bf16_32",
        "attention_queries_bf16_64",
        "attention_queries_bf16_128"
    ]
);

/// How a pass is laid out: rows that stay with a block, and bytes of its shared memory.
#[derive(Clone, Copy)]
pub(crate) struct Layout {
    rows: usize,
    bytes: usize,
}

/// The kernels of an element.
pub(crate) trait AttentionKernels: Element {
    /// Their file.
    const MODULE: Module;

    /// The layout forward, and back.
    fn layouts(head_dim: usize, size: usize) -> [Layout; 2];
}

impl AttentionKernels for f32 {
    const MODULE: Module = SINGLE;

    fn layouts(head_dim: usize, _: usize) -> [Layout; 2] {
        /// `TILE`, `FORWARD_ROWS` and `BACKWARD_ROWS` of the kernels.
        const TILE: usize = 32;
        const ROWS: [usize; 2] = [4 * WARPS, 2 * WARPS];
        let [forward, back] = ROWS;
        let floats =
            [forward * head_dim + TILE * (2 * head_dim + 1), 2 * back * head_dim + 2 * TILE * (head_dim + 1)];
        [(forward, floats[0]), (back, floats[1])]
            .map(|(rows, floats)| Layout { rows, bytes: floats * size_of::<f32>() })
    }
}

impl AttentionKernels for bf16 {
    const MODULE: Module = HALF;

    fn layouts(_: usize, size: usize) -> [Layout; 2] {
        /// Columns that keep rows of a tile apart.
        const APART: usize = 8;
        let tiles = match size {
            32 => [64, 64],
            64 => [64, 32],
            _ => [32, 16],
        };
        // Two tiles under way, two at work.
        let bytes = |tile: usize| 4 * tile * (size + APART) * size_of::<bf16>();
        tiles.map(|tile| Layout { rows: 16 * WARPS, bytes: bytes(tile) })
    }
}

parameters! {
    /// `Attention` of the kernels.
    struct Attention {
        qkv: Address,
        attn_out: Address,
        logsumexp: Address,
        dattn_out: Address,
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

    /// The size of head that the kernels compute with.
    fn size(&self) -> usize {
        SIZES.into_iter().find(|&size| self.head_dim <= size).unwrap_or(LARGEST_HEAD)
    }

    /// Rows times heads: the number of a query's statistics.
    pub(crate) fn statistics(&self) -> usize {
        self.batch * self.heads * self.length
    }

    #[allow(unsafe_code, reason = "launches a kernel")]
    fn launch<E: AttentionKernels>(
        &self,
        gpu: &Arc<CudaDevice>,
        name: &str,
        layout: Layout,
        with: Attention,
    ) -> DeviceResult {
        let config = LaunchConfig {
            grid_dim: (self.length.div_ceil(layout.rows) as u32, with.heads, with.batch),
            block_dim: (32 * WARPS as u32, 1, 1),
            shared_mem_bytes: layout.bytes as u32,
        };
        // SAFETY: the struct is the kernels'; the buffers are of the sizes that it says, heads no larger than the
        // kernels' (checked by the block), and the shared memory is what the kernel lays out.
        unsafe { E::MODULE.launch(gpu, &format!("{name}_{}_{}", E::SUFFIX, self.size()), config, with) }
    }

    /// Writes the attention output of each row to `attn_out`, and the statistics to `logsumexp`.
    pub(crate) fn forward<E: AttentionKernels>(
        &self,
        gpu: &Arc<CudaDevice>,
        qkv: Address,
        attn_out: Address,
        logsumexp: Address,
    ) -> DeviceResult {
        let [layout, _] = E::layouts(self.head_dim, self.size());
        let with = Attention { qkv, attn_out, logsumexp, ..self.parameters() };
        self.launch::<E>(gpu, "attention_forward", layout, with)
    }

    /// Writes the gradient of `qkv` to `dqkv`.
    #[allow(unsafe_code, reason = "launches a kernel")]
    pub(crate) fn backward<E: AttentionKernels>(
        &self,
        gpu: &Arc<CudaDevice>,
        (qkv, attn_out, logsumexp): (Address, Address, Address),
        dattn_out: Address,
        dqkv: Address,
    ) -> DeviceResult {
        let deltas = Values::<f32>::of(gpu, self.statistics())?;
        let with = Attention {
            qkv,
            attn_out,
            logsumexp,
            dattn_out,
            deltas: deltas.address(),
            dqkv,
            ..self.parameters()
        };
        let config = LaunchConfig {
            grid_dim: (self.statistics().div_ceil(WARPS) as u32, 1, 1),
            block_dim: (32 * WARPS as u32, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: as in `launch`; there is a delta for every query and head.
        unsafe { SINGLE.launch(gpu, &format!("attention_deltas_{}", E::SUFFIX), config, with) }?;
        let [_, layout] = E::layouts(self.head_dim, self.size());
        self.launch::<E>(gpu, "attention_keys", layout, with)?;
        self.launch::<E>(gpu, "attention_queries", layout, with)
    }
}
