//! What a model costs, from its axes alone: parameters, FLOPs and bytes.
//!
//! A multiply-add counts 2. Counted are the matrix products: the four attention projections, scores and
//! mix over the whole sequence (a causal mask hides half of the scores, the plain path computes all), the
//! feed-forward layer, the output head, and BERT's pooler and sentence head (once per sequence). Norms,
//! activations and table look-ups are left out: they are linear in the sizes. Training costs 3 forward
//! passes: one forward, two backward (gradients of inputs and of weights).

use crate::sizes::Sizes;
use msg_core::ops::{Compute, Precision};

/// Forward passes that one training step is worth.
const FORWARD_PASSES: f64 = 3.0;
/// Bytes of an f32.
const BYTES: f64 = 4.0;

/// What the cost of a family's models depends on besides their sizes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Entries of the token table, which is the output head, too.
    pub(crate) vocab: usize,
    /// Units of one head.
    pub(crate) head_dim: usize,
    /// Parameters of matrices outside the blocks: so many times the square of the hidden size, and the hidden size.
    pub(crate) matrix_parameters: [u128; 2],
    /// All other parameters outside the blocks: so many times the hidden size, and a constant.
    pub(crate) other_parameters: [u128; 2],
    /// Multiply-adds at each position with token logits besides the head's own: so many times the square of the
    /// hidden size.
    pub(crate) per_label: f64,
    /// Multiply-adds once a sequence: so many times the square of the hidden size, and the hidden size.
    pub(crate) per_sequence: [f64; 2],
    /// Inputs of norms that a block keeps for its backward pass besides the residual stream.
    pub(crate) norm_inputs: f64,
}

/// At which positions a BERT computes token logits in training. A GPT computes them everywhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Logits {
    /// At all positions.
    Everywhere,
    /// At labelled positions only: this share of all. The transform before the decoder counts likewise.
    Labelled(f64),
}

impl Logits {
    fn share(self) -> f64 {
        match self {
            Logits::Everywhere => 1.0,
            Logits::Labelled(share) => share,
        }
    }
}

/// Bytes that one training process holds at its peak, roughly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// Parameters in f32.
    pub weights: f64,
    /// Their gradients.
    pub gradients: f64,
    /// The optimizer's state.
    pub optimizer: f64,
    /// What one micro-batch keeps for its backward pass, each tensor with its gradient.
    pub activations: f64,
}

/// f32 numbers that an optimizer keeps for each entry of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptimizerNumbers {
    /// Of a matrix.
    pub matrices: usize,
    /// Of any other parameter.
    pub others: usize,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> f64 {
        self.weights + self.gradients + self.optimizer + self.activations
    }
}

impl Cost {
    /// Trainable numbers; tied ones count once. Beyond `u64` it stays at its end.
    pub fn parameters(&self, sizes: Sizes) -> u64 {
        let [layers, hidden, ffn, heads] =
            [sizes.layers, sizes.hidden, sizes.ffn, sizes.heads].map(|size| size as u128);
        let inner = heads * self.head_dim as u128;
        let linear = |inputs: u128, outputs: u128| inputs * outputs + outputs;
        let norm = 2 * hidden;
        let block = 3 * linear(hidden, inner)
            + linear(inner, hidden)
            + linear(hidden, ffn)
            + linear(ffn, hidden)
            + 2 * norm;
        let [squares, rows] = self.matrix_parameters;
        let [others, constant] = self.other_parameters;
        let outside = squares * hidden * hidden + (rows + others) * hidden + constant;
        u64::try_from(layers * block + outside).unwrap_or(u64::MAX)
    }

    /// Trainable numbers of the matrices among them.
    pub fn matrices(&self, sizes: Sizes) -> u64 {
        let [layers, hidden, ffn, heads] =
            [sizes.layers, sizes.hidden, sizes.ffn, sizes.heads].map(|size| size as u128);
        let block = 4 * hidden * heads * self.head_dim as u128 + 2 * hidden * ffn;
        let [squares, rows] = self.matrix_parameters;
        let outside = squares * hidden * hidden + rows * hidden;
        u64::try_from(layers * block + outside).unwrap_or(u64::MAX)
    }

    /// Of one token's forward pass in a sequence of `sequence`.
    pub fn forward_flops(&self, sizes: Sizes, sequence: usize, logits: Logits) -> f64 {
        let [layers, hidden, ffn, heads] =
            [sizes.layers, sizes.hidden, sizes.ffn, sizes.heads].map(|size| size as f64);
        let [vocab, head_dim, sequence] = [self.vocab, self.head_dim, sequence].map(|size| size as f64);
        let inner = heads * head_dim;
        let projections = 4.0 * hidden * inner;
        let scores_and_mix = 2.0 * inner * sequence;
        let feed_forward = 2.0 * hidden * ffn;
        let block = projections + scores_and_mix + feed_forward;
        let labels = logits.share() * (self.per_label * hidden * hidden + hidden * vocab);
        let [squares, rows] = self.per_sequence;
        let head = labels + (squares * hidden * hidden + rows * hidden) / sequence;
        2.0 * (layers * block + head)
    }

    /// Of one token's share of a training step: three forward passes.
    pub fn training_flops(&self, sizes: Sizes, sequence: usize, logits: Logits) -> f64 {
        FORWARD_PASSES * self.forward_flops(sizes, sequence, logits)
    }

    /// Bytes of a training process, for micro-batches of `micro_batch` sequences, where the head holds `head_logits`
    /// logits at once ([`msg_core::ops::head::HeadKernel::LOGITS`]).
    ///
    /// A rough figure, meant to tell 2 GB from 20. Weights, gradients and the optimizer's state are exact; activations
    /// are those that the fused operations keep or need at once (see [`msg_core::ops::block`] and
    /// [`msg_core::ops::head`]). Masks, dropout, the corpus and the runtime are not in it.
    pub fn memory(
        &self,
        sizes: Sizes,
        (sequence, micro_batch): (usize, usize),
        logits: Logits,
        compute: Compute,
        head_logits: usize,
        state: OptimizerNumbers,
    ) -> Memory {
        let [layers, hidden, ffn, heads] =
            [sizes.layers, sizes.hidden, sizes.ffn, sizes.heads].map(|size| size as f64);
        let inner = heads * self.head_dim as f64;
        let tokens = micro_batch as f64 * sequence as f64;
        let stored = match compute.precision {
            Precision::F32 => BYTES,
            Precision::Bf16 => BYTES / 2.0,
        };
        // The residual stream between blocks, with one gradient, and what a block keeps beside it: norm inputs;
        // queries, keys, values and their mix; units before their activation.
        let kept = BYTES * (self.norm_inputs * hidden + heads) + stored * (4.0 * inner + ffn);
        // One block on its way back: gradients of stream, branch and units, the units' activations.
        let at_work = BYTES * 3.0 * hidden + stored * (2.0 * hidden + (2.0 * ffn).max(4.0 * inner));
        let blocks_kept = if compute.recompute { 1.0 } else { layers };
        let waiting = tokens * (layers * BYTES * hidden + blocks_kept * kept);
        // The head: logits of some rows, their gradients; the table's gradient apart, and in bf16 the table twice.
        let (vocab, rows) = (self.vocab as f64, logits.share() * tokens);
        let (table, most) = (vocab * hidden, head_logits as f64);
        let head = match compute.precision {
            Precision::F32 => BYTES * (table + (rows * vocab).min(most)),
            Precision::Bf16 => {
                let logits = BYTES * (rows * vocab).min(most / 2.0);
                BYTES * 2.0 * table + stored * (rows * vocab).min(2.0 * most) + logits
            }
        };
        let weights = BYTES * self.parameters(sizes) as f64;
        // The head is done before the first block goes back.
        let activations = waiting + head.max(tokens * at_work);
        let matrices = self.matrices(sizes);
        let others = self.parameters(sizes).saturating_sub(matrices);
        let numbers = state.matrices as f64 * matrices as f64 + state.others as f64 * others as f64;
        Memory { weights, gradients: weights, optimizer: BYTES * numbers, activations }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use dfdx::{shapes::HasShape, tensor::Cpu};
    use msg_core::{
        axis::NamedShape,
        error::Result,
        params::{Kind, Module, Param, ParamName, Role, Visitor},
    };

    /// Entries of the parameters that are matrices.
    pub(crate) fn in_matrices<M: Module<Cpu>>(model: &M) -> u64 {
        struct Count(u64);
        impl Visitor<Cpu> for Count {
            fn visit<S: NamedShape>(
                &mut self,
                _: &ParamName,
                role: Role,
                t: &mut Param<S, Cpu>,
            ) -> Result<()> {
                self.0 += if role.kind == Kind::Weight { t.shape().num_elements() as u64 } else { 0 };
                Ok(())
            }
        }
        let mut count = Count(0);
        model.inspect(&mut count).unwrap();
        count.0
    }
}
