//! Small models of every family, and their batches, so that one test body serves all families.

use dfdx::tensor::{NoneTape, Tape, Tensor};
use msg_core::{
    Backend, Result,
    growth::Init,
    ops::{Compute, Dropout, Precision},
    params::Module,
    random::{Key, bits_at},
};
use msg_models::{
    MaskPlace, MaskSite, Masks, Sizes,
    bert::{Bert, BertConfig},
    gpt::{Gpt, GptConfig},
    hf::Subset,
};
use msg_train::{
    data::{CausalBatch, MlmBatch},
    families::{
        family::{HostOf, Trainable},
        objective::Objective,
    },
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
pub trait Family<D: Backend>: msg_train::families::family::Family<D> {
    /// Its name.
    const NAME: &'static str = Self::RULES.name;

    /// The configuration of a small model.
    fn small_config(spec: &Spec) -> Self::Config;
    /// The configuration of golden values, which have epsilon and activation of the published ones.
    fn golden_config(table: (usize, usize), head_dim: usize, sizes: Sizes) -> Self::Config;
    /// A random batch.
    fn host(spec: &Spec) -> HostOf<D, Self>;
    /// The batch that golden values were computed for, from the tensors under `input/`.
    fn golden_host(input: &Subset<'_>) -> HostOf<D, Self>;
    /// Every mask that must be there for an old stack of `layers` to stay as it was.
    fn sites(layers: usize) -> Vec<MaskSite>;

    /// A model with weights wide enough that every path matters.
    fn small(device: &D, spec: &Spec) -> Self {
        let init = Init { seed: spec.seed, std: INIT_STD };
        let mut model = Self::build(device, Self::small_config(spec), init).expect("a small model");
        model.set_compute(spec.compute());
        model
    }

    /// Everything that the model puts out for a batch.
    fn outputs(&self, host: &HostOf<D, Self>, masks: &Masks<D>) -> msg_train::Result<Vec<f32>> {
        outputs(self, host, masks)
    }

    /// The loss on a batch.
    fn mean_loss<T: Tape<f32, D>>(
        &self,
        host: &HostOf<D, Self>,
        masks: &Masks<D>,
        tape: T,
    ) -> msg_train::Result<Tensor<(), f32, D, T>> {
        loss(self, host, masks, tape)
    }

    /// The outputs, and last the loss, which has a way of its own through the head.
    fn all_outputs(&self, host: &HostOf<D, Self>, masks: &Masks<D>) -> msg_train::Result<Vec<f32>> {
        let mut outputs = Family::outputs(self, host, masks)?;
        outputs.push(self.mean_loss(host, masks, NoneTape)?.as_vec()[0]);
        Ok(outputs)
    }

    /// [`Family::all_outputs`] in the step `step`.
    fn outputs_at(&self, host: &HostOf<D, Self>, step: u64) -> msg_train::Result<Vec<f32>> {
        self.all_outputs(host, &self.masks(step)?)
    }
}

/// Does the same for the model type of every family, on one type of device: `every_family!(Cpu, M => check::<M>())`.
/// `tests/tests/families.rs` holds the list against the registry.
#[macro_export]
macro_rules! every_family {
    ($device:ty, $model:ident => $body:expr) => {{
        {
            type $model = msg_models::gpt::Gpt<$device>;
            $body;
        }
        {
            type $model = msg_models::bert::Bert<$device>;
            $body;
        }
    }};
}

/// Everything that a model puts out for a batch.
///
/// # Errors
/// Where the batch does not fit the model.
pub fn outputs<D: Backend, M: Trainable<D>>(
    model: &M,
    host: &HostOf<D, M>,
    masks: &Masks<D>,
) -> msg_train::Result<Vec<f32>> {
    <M::Objective>::outputs(model, &<M::Objective>::upload(model, host)?, masks)
}

/// A model's loss on a batch without dropout.
///
/// # Errors
/// Where the batch does not fit the model.
pub fn loss<D: Backend, M: Trainable<D>, T: Tape<f32, D>>(
    model: &M,
    host: &HostOf<D, M>,
    masks: &Masks<D>,
    tape: T,
) -> msg_train::Result<Tensor<(), f32, D, T>> {
    let (batch, counts) = (<M::Objective>::upload(model, host)?, <M::Objective>::counts(host));
    <M::Objective>::loss(model, &batch, counts, masks, &Dropout::OFF, tape)
}

/// A batch of random ids.
pub fn drawn<D: Backend, M: Trainable<D>>(model: &M, shape: (usize, usize), seed: u64) -> HostOf<D, M> {
    <M::Objective>::drawn(model, shape, seed)
}

const INIT_STD: f32 = 0.3;

/// The places that both families have in every layer.
fn layer_sites(layers: usize) -> impl Iterator<Item = MaskSite> {
    let places =
        [MaskPlace::AttentionNorm, MaskPlace::FeedForwardNorm, MaskPlace::FeedForward, MaskPlace::Value];
    (0..layers).flat_map(move |layer| places.map(|place| MaskSite::in_layer(layer, place)))
}

impl<D: Backend> Family<D> for Gpt<D> {
    fn small_config(spec: &Spec) -> GptConfig {
        GptConfig {
            vocab: spec.vocab,
            positions: spec.batch.1 + 1,
            head_dim: spec.head_dim,
            sizes: spec.sizes,
            ..GptConfig::default()
        }
    }

    fn golden_config((vocab, positions): (usize, usize), head_dim: usize, sizes: Sizes) -> GptConfig {
        GptConfig { vocab, positions, head_dim, sizes, ..GptConfig::default() }
    }

    fn host(spec: &Spec) -> CausalBatch {
        let ids = spec.tokens();
        let labels = (0..ids.len()).map(|at| spec.draw("labels", at, spec.vocab) as i64).collect();
        CausalBatch { ids, labels, shape: spec.batch }
    }

    fn golden_host(input: &Subset<'_>) -> CausalBatch {
        let (ids, labels) = (golden_ids(input, "ids"), golden(input, "labels"));
        CausalBatch { ids, labels, shape: golden_shape(input) }
    }

    fn sites(layers: usize) -> Vec<MaskSite> {
        layer_sites(layers).chain([MaskSite::outside(MaskPlace::FinalNorm)]).collect()
    }
}

impl<D: Backend> Family<D> for Bert<D> {
    fn small_config(spec: &Spec) -> BertConfig {
        BertConfig {
            vocab: spec.vocab,
            positions: spec.batch.1 + 1,
            head_dim: spec.head_dim,
            sizes: spec.sizes,
            ..BertConfig::default()
        }
    }

    fn golden_config((vocab, positions): (usize, usize), head_dim: usize, sizes: Sizes) -> BertConfig {
        BertConfig { vocab, positions, head_dim, sizes, ..BertConfig::default() }
    }

    fn host(spec: &Spec) -> MlmBatch {
        let ids = spec.tokens();
        let all = || 0..ids.len();
        // The first key of each sequence is always seen.
        let seen = |at| at % spec.batch.1 == 0 || spec.draw("seen", at, 4) > 0;
        let label = |at| if at % 3 == 0 { spec.draw("labels", at, spec.vocab) as i64 } else { -100 };
        MlmBatch {
            segments: all().map(|at| spec.draw("types", at, 2) as u32).collect(),
            seen: all().map(seen).collect(),
            labels: all().map(label).collect(),
            next: (0..spec.batch.0).map(|at| spec.draw("next", at, 2) as i64).collect(),
            shape: spec.batch,
            ids,
        }
    }

    fn golden_host(input: &Subset<'_>) -> MlmBatch {
        MlmBatch {
            ids: golden_ids(input, "ids"),
            segments: golden_ids(input, "types"),
            seen: golden(input, "attn").iter().map(|&seen| seen != 0).collect(),
            labels: golden(input, "labels"),
            next: golden(input, "nsp"),
            shape: golden_shape(input),
        }
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
