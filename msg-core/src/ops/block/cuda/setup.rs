//! What a block's pass on Cuda begins with: addresses, masks, dropout, and weights as operands.

use super::super::{Block, Pair};
use crate::{
    axis::{Batch, Hidden, Qkv, Query},
    device::{
        cuda::{
            cast::{Operand, operand},
            element::Element,
            products::{F32Mode, Products},
        },
        raw_pointer::{self, Address},
    },
    error::{Context, Result},
    mask::Mask,
    ops::{
        attention::cuda::{AttentionKernels, Sequences},
        dropout::cuda::DropoutNumbers,
        gelu::Gelu,
        masked_norm::cuda::Norm,
    },
    params::Param,
};
use cudarc::driver::CudaDevice;
use dfdx::{shapes::HasShape, tensor::Cuda};
use std::sync::Arc;

/// Of the linear maps.
pub(super) struct Biases {
    pub(super) qkv: Address,
    pub(super) output: Address,
    pub(super) up: Address,
    pub(super) down: Address,
}

/// A block at work on one batch. The block's tensors live as long as the addresses.
pub(super) struct Pass<E: AttentionKernels> {
    pub(super) block: Block<Cuda>,
    pub(super) gpu: Arc<CudaDevice>,
    pub(super) products: Products,
    pub(super) sequences: Sequences,
    pub(super) norms: [Norm; 2],
    pub(super) qkv_mask: [Address; 3],
    pub(super) units_mask: Address,
    pub(super) branch_dropout: [DropoutNumbers; 2],
    pub(super) biases: Biases,
    /// Those of qkv and up rounded, where the product may add them.
    pub(super) fused: [Option<Operand<E>>; 2],
    pub(super) qkv: Operand<E>,
    pub(super) output: Operand<E>,
    pub(super) up: Operand<E>,
    pub(super) down: Operand<E>,
    pub(super) rows: usize,
    pub(super) hidden: usize,
    pub(super) inner: usize,
    pub(super) ffn: usize,
}

impl<E: AttentionKernels> Pass<E> {
    pub(super) fn new(block: Block<Cuda>, device: &Cuda, shape: (Batch, Query, Hidden)) -> Result<Self> {
        let (batch, length, hidden) = shape;
        let (Qkv(_), inner, _) = *block.qkv.0.shape();
        let ffn = block.up.0.shape().0;
        let gpu = raw_pointer::driver(device)?;
        let at = |place| {
            let (dropout, site) = block.dropout_at(place);
            DropoutNumbers::from(dropout.stream(site))
        };
        let (padding, causal) = block.attention_mask.on_device(batch, length)?;
        let masks = &block.masks;
        masks.attention_norm.count();
        masks.feed_forward_norm.count();
        masks.qkv.iter().for_each(Mask::count);
        masks.feed_forward.count();
        let mut qkv_mask = [0; 3];
        for (address, mask) in qkv_mask.iter_mut().zip(&masks.qkv) {
            *address = mask.values().map_or(Ok(0), raw_pointer::address)?;
        }
        let norm = |(weight, bias): &Pair<(Hidden,), (Hidden,), Cuda>, mask| {
            Norm::new(weight, bias, mask, block.eps)
        };
        let f32_mode = if block.compute.tf32 { F32Mode::Tf32 } else { F32Mode::Exact };
        let bias = |of: Address, count, unmasked: bool| match E::FUSES && unmasked {
            true => operand::<E>(&gpu, of, count).map(Some).during("block"),
            false => Ok(None),
        };
        let biases = Biases {
            qkv: raw_pointer::address(&block.qkv.1)?,
            output: raw_pointer::address(&block.output.1)?,
            up: raw_pointer::address(&block.up.1)?,
            down: raw_pointer::address(&block.down.1)?,
        };
        let units_mask = masks.feed_forward.values().map_or(Ok(0), raw_pointer::address)?;
        Ok(Pass {
            fused: [
                bias(biases.qkv, 3 * inner.0, qkv_mask == [0; 3])?,
                bias(biases.up, ffn.0, units_mask == 0 && block.gelu == Gelu::Tanh)?,
            ],
            products: Products::on(&gpu, f32_mode).during("block")?,
            sequences: Sequences {
                batch: batch.0,
                length: length.0,
                heads: inner.0 / block.head_dim.0,
                head_dim: block.head_dim.0,
                causal,
                padding,
                dropout: at("attention"),
            },
            norms: [
                norm(&block.attention_norm, &masks.attention_norm)?,
                norm(&block.feed_forward_norm, &masks.feed_forward_norm)?,
            ],
            qkv_mask,
            units_mask,
            branch_dropout: [at("attention output"), at("feed-forward output")],
            biases,
            qkv: weight_operand(&gpu, &block.qkv.0)?,
            output: weight_operand(&gpu, &block.output.0)?,
            up: weight_operand(&gpu, &block.up.0)?,
            down: weight_operand(&gpu, &block.down.0)?,
            rows: batch.0 * length.0,
            hidden: hidden.0,
            inner: inner.0,
            ffn: ffn.0,
            gpu,
            block,
        })
    }
}

/// A weight as an operand of the products.
fn weight_operand<E: Element, S: dfdx::shapes::Shape>(
    gpu: &Arc<CudaDevice>,
    weight: &Param<S, Cuda>,
) -> Result<Operand<E>> {
    operand::<E>(gpu, raw_pointer::address(weight)?, weight.shape().num_elements()).during("block")
}
