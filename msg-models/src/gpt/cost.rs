//! What a GPT has outside its blocks: two tables, of which one is the head, and the final norm.

use crate::{cost::Cost, gpt::config::GptConfig};

impl Cost {
    /// Of GPTs with this vocabulary, positions and head size, whatever their sizes.
    pub fn gpt(config: &GptConfig) -> Self {
        let GptConfig { vocab, positions, head_dim, .. } = *config;
        Cost {
            vocab,
            head_dim,
            matrix_parameters: [0, 0],
            other_parameters: [vocab as u128 + positions as u128 + 2, 0],
            per_label: 0.0,
            per_sequence: [0.0, 0.0],
            norm_inputs: 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cost::{Logits, OptimizerNumbers, tests::in_matrices},
        gpt::model::Gpt,
        sizes,
        sizes::Sizes,
    };
    use dfdx::tensor::Cpu;
    use msg_core::{
        growth::Init,
        ops::{Compute, Precision, head::LOGITS_ON_CPU},
        params::Module,
    };

    const ADAMW: OptimizerNumbers = OptimizerNumbers { matrices: 2, others: 2 };
    const BASE: Sizes = sizes! { layers: 12, hidden: 768, ffn: 3072, heads: 12 };

    #[test]
    fn parameters_are_those_that_a_model_walks() {
        for sizes in [
            sizes! { layers: 1, hidden: 5, ffn: 7, heads: 2 },
            sizes! { layers: 3, hidden: 10, ffn: 13, heads: 1 },
        ] {
            let config = GptConfig { vocab: 17, positions: 6, head_dim: 3, sizes, ..GptConfig::default() };
            let model = Gpt::new(&Cpu::default(), config, Init::default()).unwrap();
            assert_eq!(Cost::gpt(&config).parameters(sizes), model.num_params() as u64);
            assert_eq!(Cost::gpt(&config).matrices(sizes), in_matrices(&model));
        }
    }

    #[test]
    fn the_published_model_has_its_published_number_of_parameters() {
        // Hugging Face's `num_parameters()` of GPT2LMHeadModel.
        assert_eq!(Cost::gpt(&GptConfig::default()).parameters(BASE), 124_439_808);
    }

    #[test]
    fn flops_are_twice_the_multiply_adds_of_each_product() {
        let sizes = sizes! { layers: 2, hidden: 5, ffn: 7, heads: 3 };
        let config = GptConfig { vocab: 11, positions: 8, head_dim: 2, sizes, ..GptConfig::default() };
        // A layer: four projections 5x6, scores and mix 6x8 each, 5x7 and 7x5; then the head 5x11.
        let by_hand = 2 * (2 * (4 * 30 + 2 * 48 + 2 * 35) + 55);
        assert_eq!(Cost::gpt(&config).forward_flops(sizes, 8, Logits::Everywhere), f64::from(by_hand));
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
