//! What is left out, filled in.

use super::{Family, LrShape, RunConfig, StageConfig, TokenizerKind};
use msg_models::{Sizes, bert::BertConfig, cost::Logits, gpt::GptConfig};

impl RunConfig {
    /// The same run with every default written out: sizes of every stage, positions, the family's
    /// numbers, the final rate. Paths that follow from the run's name, the vocabulary and the micro-batch
    /// (the whole batch, whatever it is in a stage) stay as they are.
    ///
    /// Two texts that mean the same run resolve to equal values.
    pub fn resolved(&self) -> RunConfig {
        let mut run = self.clone();
        let mut before = StageConfig::default();
        for stage in &mut run.stages {
            stage.layers = stage.layers.or(before.layers);
            stage.hidden = stage.hidden.or(before.hidden);
            stage.ffn = stage.ffn.or(before.ffn);
            stage.heads = stage.heads.or(before.heads);
            stage.sequence = stage.sequence.or(before.sequence);
            stage.batch = stage.batch.or(before.batch);
            before = stage.clone();
        }
        let longest = run.stages.iter().filter_map(|stage| stage.sequence).max();
        let (eps, gelu, dropout) = match run.model.family {
            Family::Gpt => {
                let GptConfig { eps, gelu, dropout, .. } = GptConfig::default();
                (eps, gelu, dropout)
            }
            Family::Bert => {
                let BertConfig { eps, gelu, dropout, .. } = BertConfig::default();
                (eps, gelu, dropout)
            }
        };
        let model = &mut run.model;
        model.positions = model.positions.or(longest);
        model.eps = model.eps.or(Some(eps));
        model.gelu = model.gelu.or(Some(gelu));
        model.dropout = model.dropout.or(Some(dropout));
        model.init_std = model.init_std.or(Some(msg_core::growth::NORMAL_STD));
        if run.lr.shape != LrShape::Constant {
            run.lr.r#final = run.lr.r#final.or(Some(0.0));
        }
        run
    }

    /// The entries of the token table, as far as the configuration alone tells: `model.vocab`, or the
    /// tokenizer's. A tokenizer file has to be read first.
    pub fn vocab(&self) -> Option<usize> {
        self.model.vocab.or(self.tokenizer_vocab())
    }

    /// The tokenizer's entries, where the configuration alone tells them.
    pub(super) fn tokenizer_vocab(&self) -> Option<usize> {
        let specials = self.model.family.specials().count();
        match self.data.tokenizer.kind {
            TokenizerKind::Bytes => Some(256 + specials),
            TokenizerKind::Bpe | TokenizerKind::WordPiece => self.data.tokenizer.vocab,
            TokenizerKind::File => None,
        }
    }

    /// The model of a resolved run as a GPT with the first stage's sizes.
    pub fn gpt(&self, vocab: usize) -> GptConfig {
        let (default, run) = (GptConfig::default(), self.resolved());
        GptConfig {
            vocab,
            positions: run.model.positions.unwrap_or(default.positions),
            head_dim: run.model.head_dim,
            sizes: run.first_sizes(),
            eps: run.model.eps.unwrap_or(default.eps),
            gelu: run.model.gelu.unwrap_or(default.gelu),
            dropout: run.model.dropout.unwrap_or(default.dropout),
        }
    }

    /// The model of a resolved run as a BERT with the first stage's sizes.
    pub fn bert(&self, vocab: usize) -> BertConfig {
        let (default, run) = (BertConfig::default(), self.resolved());
        BertConfig {
            vocab,
            positions: run.model.positions.unwrap_or(default.positions),
            segments: default.segments,
            head_dim: run.model.head_dim,
            sizes: run.first_sizes(),
            eps: run.model.eps.unwrap_or(default.eps),
            gelu: run.model.gelu.unwrap_or(default.gelu),
            dropout: run.model.dropout.unwrap_or(default.dropout),
        }
    }

    /// At which positions training computes token logits.
    pub fn logits(&self) -> Logits {
        match self.model.family {
            Family::Gpt => Logits::Everywhere,
            Family::Bert => Logits::Labelled(self.data.mlm.rate),
        }
    }

    fn first_sizes(&self) -> Sizes {
        let stage = self.stages.first().cloned().unwrap_or_default();
        stage.sizes()
    }
}

impl StageConfig {
    /// The sizes of a resolved stage; 0 for what no stage gave.
    pub fn sizes(&self) -> Sizes {
        let given = |size: Option<usize>| size.unwrap_or(0);
        Sizes {
            layers: given(self.layers),
            hidden: given(self.hidden),
            ffn: given(self.ffn),
            heads: given(self.heads),
        }
    }
}
