//! What a BERT has outside its blocks: three tables, of which one is the decoder, their norm, the pooler and both heads.

use crate::{bert::config::BertConfig, cost::Cost};

/// Classes of the next-sentence head.
const CLASSES: u32 = 2;

impl Cost {
    /// Of BERTs with this vocabulary, positions, segments and head size, whatever their sizes.
    pub fn bert(config: &BertConfig) -> Self {
        let BertConfig { vocab, positions, head_dim, segments, .. } = *config;
        let tables = vocab as u128 + positions as u128 + segments as u128;
        Cost {
            vocab,
            head_dim,
            // Pooler, transform of masked tokens, next-sentence head.
            matrix_parameters: [2, CLASSES.into()],
            // The two norms have 2 a unit, pooler and transform a bias each; then the biases of both heads.
            other_parameters: [tables + 2 * 2 + 2, vocab as u128 + u128::from(CLASSES)],
            // The transform.
            per_label: 1.0,
            // Pooler and next-sentence head.
            per_sequence: [1.0, CLASSES.into()],
            norm_inputs: 2.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bert::model::Bert,
        cost::{Logits, tests::in_matrices},
        sizes,
    };
    use dfdx::tensor::Cpu;
    use msg_core::{growth::Init, params::Module};

    #[test]
    fn parameters_are_those_that_a_model_walks() {
        for sizes in [
            sizes! { layers: 1, hidden: 5, ffn: 7, heads: 2 },
            sizes! { layers: 3, hidden: 10, ffn: 13, heads: 1 },
        ] {
            let config = BertConfig {
                vocab: 19,
                positions: 8,
                segments: 4,
                head_dim: 3,
                sizes,
                ..BertConfig::default()
            };
            let model = Bert::new(&Cpu::default(), config, Init::default()).unwrap();
            assert_eq!(Cost::bert(&config).parameters(sizes), model.num_params() as u64);
            assert_eq!(Cost::bert(&config).matrices(sizes), in_matrices(&model));
        }
    }

    #[test]
    fn the_published_model_has_its_published_number_of_parameters() {
        // Hugging Face's `num_parameters()` of BertForPreTraining.
        let base = sizes! { layers: 12, hidden: 768, ffn: 3072, heads: 12 };
        assert_eq!(Cost::bert(&BertConfig::default()).parameters(base), 110_106_428);
    }

    #[test]
    fn flops_are_twice_the_multiply_adds_of_each_product() {
        let sizes = sizes! { layers: 2, hidden: 5, ffn: 7, heads: 3 };
        let config =
            BertConfig { vocab: 11, positions: 8, segments: 2, head_dim: 2, sizes, ..BertConfig::default() };
        // A layer as of a GPT. The head: transform 5x5 and decoder 5x11 at a quarter of the positions; pooler 5x5 and
        // next-sentence head 5x2 at one position of 8.
        let by_hand = 2.0 * (2.0 * 286.0 + 0.25 * 80.0 + 35.0 / 8.0);
        let cost = Cost::bert(&config);
        assert_eq!(cost.forward_flops(sizes, 8, Logits::Labelled(0.25)), by_hand);
        assert_eq!(cost.training_flops(sizes, 8, Logits::Labelled(0.25)), 3.0 * by_hand);
    }
}
