//! Small GPTs and BERTs behind one face, so that one test body serves both families.

use dfdx::tensor::{NoneTape, Tape, Tensor};
use msg_core::{
    Result,
    device::Backend,
    growth::Init,
    ops::{Compute, Dropout, Precision},
    params::Module,
    random::{Key, bits_at},
};
use msg_models::{
    GrowingModel, MaskPlace, MaskSite, Masks, Sizes,
    bert::{self, Bert, BertBatch, BertConfig, BertInput},
    gpt::{self, Gpt, GptBatch, GptConfig},
    hf::{Naming, Subset},
};

/// The sizes that a test model is made from.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Tokens.
    pub vocab: usize,
    /// Size of one head.
    pub head_dim: usize,
    /// The sizes that grow.
    pub sizes: Sizes,
    /// Sequences and their length.
    pub batch: (usize, usize),
    /// Seed of weights and data.
    pub seed: u64,
    /// What it computes in.
    pub precision: Precision,
}

impl Spec {
    /// The `at`-th number of the stream `name`, below `limit`.
    pub fn draw(&self, name: &str, at: usize, limit: usize) -> usize {
        let bits = bits_at(Key::new(self.seed, name, 0), [0, 0, 0, at as u32]);
        ((u64::from(bits) * limit as u64) >> 32) as usize
    }

    fn compute(&self) -> Compute {
        Compute { precision: self.precision, ..Compute::default() }
    }

    fn tokens(&self) -> Vec<u32> {
        (0..self.batch.0 * self.batch.1).map(|at| self.draw("tokens", at, self.vocab) as u32).collect()
    }
}

/// A model family under test.
pub trait Family<D: Backend>: GrowingModel<D> + Sized {
    /// A batch of its kind.
    type Batch;
    /// Its name.
    const NAME: &'static str;

    /// A model with weights wide enough that every path matters.
    fn build(device: &D, spec: &Spec) -> Result<Self>;
    /// A random batch.
    fn batch(&self, spec: &Spec) -> Result<Self::Batch>;
    /// Everything that the model puts out for a batch.
    fn outputs(&self, batch: &Self::Batch, masks: &Masks<D>) -> Result<Vec<f32>>;
    /// The mean loss over labelled positions (plus, for BERT, the mean next-sentence loss).
    fn mean_loss<T: Tape<f32, D>>(
        &self,
        batch: &Self::Batch,
        masks: &Masks<D>,
        tape: T,
    ) -> Result<Tensor<(), f32, D, T>>;
    /// How the family lies in Hugging Face files.
    const NAMING: Naming;
    /// A model for golden values, which have epsilon and activation of the published configurations.
    fn published(device: &D, table: (usize, usize), head_dim: usize, sizes: Sizes) -> Result<Self>;
    /// The batch that golden values were computed for, from the tensors under `input/`.
    fn golden_batch(&self, input: &Subset<'_>) -> Self::Batch;
    /// Every mask that must be there for an old stack of `layers` to stay as it was.
    fn sites(layers: usize) -> Vec<MaskSite>;

    /// The outputs, and last the loss, which has a way of its own through the head.
    fn all_outputs(&self, batch: &Self::Batch, masks: &Masks<D>) -> Result<Vec<f32>> {
        let mut outputs = self.outputs(batch, masks)?;
        outputs.push(self.mean_loss(batch, masks, NoneTape)?.as_vec()[0]);
        Ok(outputs)
    }

    /// [`Family::all_outputs`] in the step `step`.
    fn outputs_at(&self, batch: &Self::Batch, step: u64) -> Result<Vec<f32>> {
        self.all_outputs(batch, &self.masks(step)?)
    }
}

const INIT_STD: f32 = 0.3;

/// The places that both families have in every layer.
fn layer_sites(layers: usize) -> impl Iterator<Item = MaskSite> {
    let places =
        [MaskPlace::AttentionNorm, MaskPlace::FeedForwardNorm, MaskPlace::FeedForward, MaskPlace::Value];
    (0..layers).flat_map(move |layer| places.map(|place| MaskSite::in_layer(layer, place)))
}

impl<D: Backend> Family<D> for Gpt<D> {
    type Batch = GptBatch<D>;
    const NAME: &'static str = "gpt";

    fn build(device: &D, spec: &Spec) -> Result<Self> {
        let config = GptConfig {
            vocab: spec.vocab,
            positions: spec.batch.1 + 1,
            head_dim: spec.head_dim,
            sizes: spec.sizes,
            ..GptConfig::default()
        };
        let mut model = Gpt::new(device, config, Init { seed: spec.seed, std: INIT_STD })?;
        model.set_compute(spec.compute());
        Ok(model)
    }

    fn batch(&self, spec: &Spec) -> Result<Self::Batch> {
        let ids = spec.tokens();
        let labels: Vec<i64> = (0..ids.len()).map(|at| spec.draw("labels", at, spec.vocab) as i64).collect();
        GptBatch::new(self.device(), &ids, &labels, spec.batch, self.config())
    }

    fn outputs(&self, batch: &Self::Batch, masks: &Masks<D>) -> Result<Vec<f32>> {
        Ok(self.logits(batch, masks, &Dropout::OFF, NoneTape)?.as_vec())
    }

    const NAMING: Naming = gpt::hf::names::NAMING;

    fn mean_loss<T: Tape<f32, D>>(
        &self,
        batch: &Self::Batch,
        masks: &Masks<D>,
        tape: T,
    ) -> Result<Tensor<(), f32, D, T>> {
        self.loss(batch, batch.counted(), masks, &Dropout::OFF, tape)
    }

    fn published(device: &D, table: (usize, usize), head_dim: usize, sizes: Sizes) -> Result<Self> {
        let (vocab, positions) = table;
        let config = GptConfig { vocab, positions, head_dim, sizes, ..GptConfig::default() };
        Gpt::new(device, config, Init::default())
    }

    fn golden_batch(&self, input: &Subset<'_>) -> Self::Batch {
        let shape = golden_shape(input);
        GptBatch::new(
            self.device(),
            &golden_ids(input, "ids"),
            &golden(input, "labels"),
            shape,
            self.config(),
        )
        .expect("a golden batch")
    }

    fn sites(layers: usize) -> Vec<MaskSite> {
        layer_sites(layers).chain([MaskSite::outside(MaskPlace::FinalNorm)]).collect()
    }
}

impl<D: Backend> Family<D> for Bert<D> {
    type Batch = BertBatch<D>;
    const NAME: &'static str = "bert";

    fn build(device: &D, spec: &Spec) -> Result<Self> {
        let config = BertConfig {
            vocab: spec.vocab,
            positions: spec.batch.1 + 1,
            head_dim: spec.head_dim,
            sizes: spec.sizes,
            ..BertConfig::default()
        };
        let mut model = Bert::new(device, config, Init { seed: spec.seed, std: INIT_STD })?;
        model.set_compute(spec.compute());
        Ok(model)
    }

    fn batch(&self, spec: &Spec) -> Result<Self::Batch> {
        let ids = spec.tokens();
        let segments: Vec<u32> = (0..ids.len()).map(|at| spec.draw("types", at, 2) as u32).collect();
        // The first key of each sequence is always seen.
        let seen: Vec<bool> =
            (0..ids.len()).map(|at| at % spec.batch.1 == 0 || spec.draw("seen", at, 4) > 0).collect();
        let labels: Vec<i64> = (0..ids.len())
            .map(|at| if at % 3 == 0 { spec.draw("labels", at, spec.vocab) as i64 } else { -100 })
            .collect();
        let next: Vec<i64> = (0..spec.batch.0).map(|at| spec.draw("next", at, 2) as i64).collect();
        let input = BertInput {
            ids: &ids,
            segments: &segments,
            seen: &seen,
            labels: &labels,
            next_sentence: &next,
            shape: spec.batch,
        };
        BertBatch::new(self.device(), &input, self.config())
    }

    fn outputs(&self, batch: &Self::Batch, masks: &Masks<D>) -> Result<Vec<f32>> {
        let encoded = self.encode(batch, masks, &Dropout::OFF, NoneTape)?;
        let mut outputs = self.token_logits(encoded.clone(), masks)?.as_vec();
        outputs.extend(self.next_sentence_logits(encoded, masks)?.as_vec());
        Ok(outputs)
    }

    const NAMING: Naming = bert::hf::names::NAMING;

    fn mean_loss<T: Tape<f32, D>>(
        &self,
        batch: &Self::Batch,
        masks: &Masks<D>,
        tape: T,
    ) -> Result<Tensor<(), f32, D, T>> {
        self.loss(batch, (batch.labelled(), batch.pairs()), masks, &Dropout::OFF, tape)
    }

    fn published(device: &D, table: (usize, usize), head_dim: usize, sizes: Sizes) -> Result<Self> {
        let (vocab, positions) = table;
        let config = BertConfig { vocab, positions, head_dim, sizes, ..BertConfig::default() };
        Bert::new(device, config, Init::default())
    }

    fn golden_batch(&self, input: &Subset<'_>) -> Self::Batch {
        let seen: Vec<bool> = golden(input, "attn").iter().map(|&seen| seen != 0).collect();
        let input = BertInput {
            ids: &golden_ids(input, "ids"),
            segments: &golden_ids(input, "types"),
            seen: &seen,
            labels: &golden(input, "labels"),
            next_sentence: &golden(input, "nsp"),
            shape: golden_shape(input),
        };
        BertBatch::new(self.device(), &input, self.config()).expect("a golden batch")
    }

    fn sites(layers: usize) -> Vec<MaskSite> {
        let outside = [MaskPlace::EmbeddingNorm, MaskPlace::Pooler, MaskPlace::TransformNorm];
        layer_sites(layers).chain(outside.map(MaskSite::outside)).collect()
    }
}

fn golden(input: &Subset<'_>, name: &str) -> Vec<i64> {
    input.i64s(name).expect("a golden input")
}

fn golden_ids(input: &Subset<'_>, name: &str) -> Vec<u32> {
    golden(input, name).into_iter().map(|id| u32::try_from(id).expect("an id")).collect()
}

fn golden_shape(input: &Subset<'_>) -> (usize, usize) {
    let shape = input.shape("ids").expect("golden ids");
    (shape[0], shape[1])
}

/// The names that a module's walk lists, in order.
pub fn names<D: Backend, M: Module<D>>(module: &M) -> Vec<String> {
    use msg_core::{
        axis::NamedShape,
        params::{Param, ParamName, Role, Visitor},
    };
    struct Names(Vec<String>);
    impl<D: Backend> Visitor<D> for Names {
        fn visit<S: NamedShape>(&mut self, name: &ParamName, _: Role, _: &mut Param<S, D>) -> Result<()> {
            self.0.push(name.to_string());
            Ok(())
        }
    }
    let mut names = Names(Vec::new());
    match module.inspect(&mut names) {
        Ok(()) => names.0,
        Err(error) => panic!("{error}"),
    }
}
