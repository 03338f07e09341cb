//! What a model costs, from its axes alone: parameters, FLOPs and bytes.
//!
//! A multiply-add counts 2. Counted are the matrix products: the four attention projections, scores and
//! mix over the whole sequence (a causal mask hides half of the scores, the plain path computes all), the
//! feed-forward layer, the output head, and BERT's pooler and sentence head (once per sequence). Norms,
//! activations and table look-ups are left out: they are linear in the sizes. Training costs 3 forward
//! passes: one forward, two backward (gradients of inputs and of weights).

use crate::{Sizes, bert::BertConfig, gpt::GptConfig};
use msg_core::ops::{Compute, Precision};

/// Forward passes that one training step is worth.
const FORWARD_PASSES: f64 = 3.0;
/// Classes of BERT's sentence-level head.
const CLASSES: u128 = 2;
/// Bytes of an f32.
const BYTES: f64 = 4.0;

/// The axes that no stage grows, and the family that they belong to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    vocab: usize,
    positions: usize,
    head_dim: usize,
    family: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Gpt,
    Bert { segments: usize },
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
    /// Of GPTs with this vocabulary, positions and head size; `sizes` are not looked at.
    pub fn gpt(config: &GptConfig) -> Self {
        let GptConfig { vocab, positions, head_dim, .. } = *config;
        Cost { vocab, positions, head_dim, family: Kind::Gpt }
    }

    /// Of BERTs with this vocabulary, positions, segments and head size; `sizes` are not looked at.
    pub fn bert(config: &BertConfig) -> Self {
        let BertConfig { vocab, positions, head_dim, segments, .. } = *config;
        Cost { vocab, positions, head_dim, family: Kind::Bert { segments } }
    }

    /// Trainable numbers; tied ones count once. Beyond `u64` it stays at its end.
    pub fn parameters(&self, sizes: Sizes) -> u64 {
        let [layers, hidden, ffn, heads] =
            [sizes.layers, sizes.hidden, sizes.ffn, sizes.heads].map(|size| size as u128);
        let [vocab, positions, head_dim] =
            [self.vocab, self.positions, self.head_dim].map(|size| size as u128);
        let inner = heads * head_dim;
        let linear = |inputs: u128, outputs: u128| inputs * outputs + outputs;
        let norm = 2 * hidden;
        let block = 3 * linear(hidden, inner)
            + linear(inner, hidden)
            + linear(hidden, ffn)
            + linear(ffn, hidden)
            + 2 * norm;
        let outside = match self.family {
            Kind::Gpt => (vocab + positions) * hidden + norm,
            Kind::Bert { segments } => {
                let tables = (vocab + positions + segments as u128) * hidden + norm;
                let pooler = linear(hidden, hidden);
                let masked_token = linear(hidden, hidden) + norm + vocab;
                tables + pooler + masked_token + linear(hidden, CLASSES)
            }
        };
        u64::try_from(layers * block + outside).unwrap_or(u64::MAX)
    }

    /// Trainable numbers of the matrices among them.
    pub fn matrices(&self, sizes: Sizes) -> u64 {
        let [layers, hidden, ffn, heads] =
            [sizes.layers, sizes.hidden, sizes.ffn, sizes.heads].map(|size| size as u128);
        let block = 4 * hidden * heads * self.head_dim as u128 + 2 * hidden * ffn;
        let outside = match self.family {
            Kind::Gpt => 0,
            // Pooler, transform of masked tokens, classes.
            Kind::Bert { .. } => 2 * hidden * hidden + hidden * CLASSES as u128,
        };
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
        let head = match self.family {
            Kind::Gpt => hidden * vocab,
            Kind::Bert { .. } => {
                let transform = hidden * hidden;
                let sentence = (hidden * hidden + hidden * CLASSES as f64) / sequence;
                logits.share() * (transform + hidden * vocab) + sentence
            }
        };
        2.0 * (layers * block + head)
    }

    /// Of one token's share of a training step: three forward passes.
    pub fn training_flops(&self, sizes: Sizes, sequence: usize, logits: Logits) -> f64 {
        FORWARD_PASSES * self.forward_flops(sizes, sequence, logits)
    }

    /// Bytes of a training process, for micro-batches of `micro_batch` sequences, where the head holds `head_logits`
    /// logits at once ([`msg_core::ops::head::HeadKernel::LOGITS`]).
    ///
    /// A rough figure, meant to tell 2 GB from 20. Weights, gradients and the optimizer's state are exact; activations are those
    /// that the fused operations keep or need at once (see [`msg_core::ops::block`] and
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
        let (norm_inputs, share) = match self.family {
            Kind::Gpt => (1.0, 1.0),
            Kind::Bert { .. } => (2.0, logits.share()),
        };
        let kept = BYTES * (norm_inputs * hidden + heads) + stored * (4.0 * inner + ffn);
        // One block on its way back: gradients of stream, branch and units, the units' activations.
        let at_work = BYTES * 3.0 * hidden + stored * (2.0 * hidden + (2.0 * ffn).max(4.0 * inner));
        let blocks_kept = if compute.recompute { 1.0 } else { layers };
        let waiting = tokens * (layers * BYTES * hidden + blocks_kept * kept);
        // The head: logits of some rows, their gradients; the table's gradient apart, and in bf16 the table twice.
        let (vocab, rows) = (self.vocab as f64, share * tokens);
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
mod tests {
    use super::*;
    use crate::{bert::Bert, gpt::Gpt, sizes};
    use dfdx::{shapes::HasShape, tensor::Cpu};
    use msg_core::{
        axis::NamedShape,
        growth::Init,
        ops::head::LOGITS_ON_CPU,
        params::{self, Module, Param, ParamName, Role, Visitor},
    };

    const ADAMW: OptimizerNumbers = OptimizerNumbers { matrices: 2, others: 2 };
    const BASE: Sizes = sizes! { layers: 12, hidden: 768, ffn: 3072, heads: 12 };

    /// Entries of the parameters that are matrices.
    fn in_matrices<M: Module<Cpu>>(model: &M) -> u64 {
        struct Count(u64);
        impl Visitor<Cpu> for Count {
            fn visit<S: NamedShape>(
                &mut self,
                _: &ParamName,
                role: Role,
                t: &mut Param<S, Cpu>,
            ) -> msg_core::error::Result<()> {
                self.0 += if role.kind == params::Kind::Weight { t.shape().num_elements() as u64 } else { 0 };
                Ok(())
            }
        }
        let mut count = Count(0);
        model.inspect(&mut count).unwrap();
        count.0
    }

    #[test]
    fn the_optimizers_state_is_counted_by_matrices_and_others() {
        let cost = Cost::gpt(&GptConfig::default());
        let of = |state| {
            cost.memory(BASE, (1024, 1), Logits::Everywhere, Compute::default(), LOGITS_ON_CPU, state)
                .optimizer
        };
        let matrices = 12.0 * (4.0 * 768.0 * 768.0 + 2.0 * 768.0 * 3072.0);
        assert_eq!(of(ADAMW), 8.0 * 124_439_808.0);
        let one_for_matrices = OptimizerNumbers { matrices: 1, others: 2 };
        assert_eq!(of(one_for_matrices), 8.0 * 124_439_808.0 - 4.0 * matrices);
    }

    #[test]
    fn parameters_are_those_that_a_model_walks() {
        let device = Cpu::default();
        for sizes in [
            sizes! { layers: 1, hidden: 5, ffn: 7, heads: 2 },
            sizes! { layers: 3, hidden: 10, ffn: 13, heads: 1 },
        ] {
            let gpt = GptConfig { vocab: 17, positions: 6, head_dim: 3, sizes, ..GptConfig::default() };
            let model = Gpt::new(&device, gpt, Init::default()).unwrap();
            assert_eq!(Cost::gpt(&gpt).parameters(sizes), model.num_params() as u64);
            assert_eq!(Cost::gpt(&gpt).matrices(sizes), in_matrices(&model));
            let bert = BertConfig {
                vocab: 19,
                positions: 8,
                segments: 4,
                head_dim: 3,
                sizes,
                ..BertConfig::default()
            };
            let model = Bert::new(&device, bert, Init::default()).unwrap();
            assert_eq!(Cost::bert(&bert).parameters(sizes), model.num_params() as u64);
            assert_eq!(Cost::bert(&bert).matrices(sizes), in_matrices(&model));
        }
    }

    #[test]
    fn the_published_models_have_their_published_numbers_of_parameters() {
        // Hugging Face's `num_parameters()` of GPT2LMHeadModel and BertForPreTraining.
        assert_eq!(Cost::gpt(&GptConfig::default()).parameters(BASE), 124_439_808);
        assert_eq!(Cost::bert(&BertConfig::default()).parameters(BASE), 110_106_428);
    }

    #[test]
    fn flops_are_twice_the_multiply_adds_of_each_product() {
        let sizes = sizes! { layers: 2, hidden: 5, ffn: 7, heads: 3 };
        let gpt = GptConfig { vocab: 11, positions: 8, head_dim: 2, sizes, ..GptConfig::default() };
        // A layer: four projections 5x6, scores and mix 6x8 each, 5x7 and 7x5; then the head 5x11.
        let by_hand = 2 * (2 * (4 * 30 + 2 * 48 + 2 * 35) + 55);
        assert_eq!(Cost::gpt(&gpt).forward_flops(sizes, 8, Logits::Everywhere), f64::from(by_hand));
        let bert =
            BertConfig { vocab: 11, positions: 8, segments: 2, head_dim: 2, sizes, ..BertConfig::default() };
        // The head: transform 5x5 and decoder 5x11 at a quarter of the positions; pooler 5x5 and
        // sentence head 5x2 at one position of 8.
        let by_hand = 2.0 * (2.0 * 286.0 + 0.25 * 80.0 + 35.0 / 8.0);
        let cost = Cost::bert(&bert);
        assert_eq!(cost.forward_flops(sizes, 8, Logits::Labelled(0.25)), by_hand);
        assert_eq!(cost.training_flops(sizes, 8, Logits::Labelled(0.25)), 3.0 * by_hand);
    }

    #[test]
    fn memory_grows_with_the_micro_batch_in_its_activations_only() {
        let cost = Cost::gpt(&GptConfig::default());
        let one = cost.memory(BASE, (1024, 1), Logits::Everywhere, Compute::default(), LOGITS_ON_CPU, ADAMW);
        let four = cost.memory(BASE, (1024, 4), Logits::Everywhere, Compute::default(), LOGITS_ON_CPU, ADAMW);
        assert_eq!(one.weights, 4.0 * 124_439_808.0);
        assert_eq!(
            (one.weights, one.gradients, one.optimizer),
            (four.weights, four.gradients, four.optimizer)
        );
        // The head works on some rows at a time, and on the whole table.
        assert!(four.activations > one.activations && four.activations < 4.0 * one.activations);
        let recompute = Compute { recompute: true, ..Compute::default() };
        let less = cost.memory(BASE, (1024, 4), Logits::Everywhere, recompute, LOGITS_ON_CPU, ADAMW);
        let half = Compute { precision: Precision::Bf16, ..Compute::default() };
        let half = cost.memory(BASE, (1024, 4), Logits::Everywhere, half, LOGITS_ON_CPU, ADAMW);
        assert!(less.activations < half.activations && half.activations < four.activations);
        assert_eq!(one.total(), 4.0 * one.weights + one.activations);
    }
}
