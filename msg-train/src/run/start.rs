//! Where a new run begins: at fresh weights, or at a checkpoint (`[init] from`).
//!
//! A checkpoint gives weights, sizes, layer identities and masks; with `init.state` the optimizer's state and ages
//! too. Schedule, data and counters start from zero. A ramp that was in progress continues from its value: it starts
//! before this run's step 0, where the model therefore computes what the checkpoint did, to the bit, and each step of
//! this run raises it as a step of the other run would have. Masks at 0 are on a ramp like others, so this run raises
//! them.
//!
//! A checkpoint smaller than the first stage is grown into it before the first step, by that stage's own
//! keys, with the receipt of every growth. That growth is number 0, a part of the initialisation: the plan
//! of everything after it is the same with and without it.

use crate::{
    checkpoint::{self, Loaded},
    config::{InitFrom, Resolved},
    data::Prepared,
    error::{AtPath, Error, Result},
    families::family::Family,
    step::state::State,
};
use msg_core::{
    Backend,
    growth::Init,
    optim::{AnyOptimizer, OptimizerConfig},
};
use std::{fs, path::Path};

/// A model, its optimizer, and where its run stands.
pub(super) type Start<D, M> = (M, AnyOptimizer<D>, State);

/// The start of a new run with a vocabulary of `vocab`.
///
/// # Errors
/// What the checkpoint or the device refuse; [`Error::Config`] where the checkpoint does not fit the run.
pub(super) fn begin<D: Backend, M: Family<D>>(
    device: &D,
    config: &Resolved,
    data: &Prepared,
    vocab: usize,
    rule: OptimizerConfig,
) -> Result<Start<D, M>> {
    if let Some(init) = config.init() {
        return from_checkpoint(device, init, config, data, vocab, rule);
    }
    let std = config.model().init_std;
    let model = M::build(device, M::config_of(config, vocab), Init { seed: config.run().seed, std })?;
    let optimizer = AnyOptimizer::new(&model, rule)?;
    Ok((model, optimizer, State { stage: 1, ..State::default() }))
}

/// Whether a run that stands so began, or is to begin, with a growth into its first stage.
pub(super) fn grows_first(state: &State) -> bool {
    // Every other growth has steps before it.
    state.stage == 0 || state.births.first().is_some_and(|(steps, _)| *steps == 0)
}

fn from_checkpoint<D: Backend, M: Family<D>>(
    device: &D,
    init: &InitFrom,
    config: &Resolved,
    data: &Prepared,
    vocab: usize,
    rule: OptimizerConfig,
) -> Result<Start<D, M>> {
    let path = checkpoint::find(&init.from)?;
    let fits = Fits { path: &path, config };
    let family = checkpoint::family_of(&path)?;
    fits.same("model.family", word(&family), word(&config.model().family.name))?;
    fits.tokenizer(data)?;
    let (mut model, header, optimizer) = if init.state {
        let Loaded { model, optimizer, header, .. } = checkpoint::load::<D, M>(&path, device, rule)?;
        (model, header, optimizer)
    } else {
        let (model, header) = checkpoint::load_model::<D, M>(&path, device)?;
        let optimizer = AnyOptimizer::new(&model, rule)?;
        (model, header, optimizer)
    };
    fits.model(&header.model, &word(&M::config_of(config, vocab)))?;
    let sizes = header.growing.sizes;
    config.check_start(sizes)?;

    model.growing_mut().ramps.count_from(header.state.step);
    model.set_dropout(config.model().dropout)?;
    let same = config.first_sizes() == sizes;
    tracing::info!(path = %path.display(), step = header.state.step, "begins at a checkpoint");
    Ok((model, optimizer, State { stage: usize::from(same), ..State::default() }))
}

/// A value as JSON has it.
fn word<T: serde::Serialize>(value: &T) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Compares a checkpoint with a run.
struct Fits<'a> {
    path: &'a Path,
    config: &'a Resolved,
}

impl Fits<'_> {
    fn refuse(&self, key: &str, expected: String, got: String) -> Error {
        Error::Config { file: self.config.run().name.clone(), key: key.to_owned(), expected, got }
    }

    fn same(&self, key: &str, expected: serde_json::Value, got: serde_json::Value) -> Result<()> {
        if expected == got {
            return Ok(());
        }
        let expected = format!("{expected}, as in {}", self.path.display());
        Err(self.refuse(key, expected, got.to_string()))
    }

    /// Everything that a model is made from but its sizes, which may grow, and its dropout, which is the run's.
    fn model(&self, theirs: &serde_json::Value, ours: &serde_json::Value) -> Result<()> {
        let keys = theirs.as_object().into_iter().flatten();
        for (key, expected) in keys.filter(|(key, _)| !["sizes", "dropout"].contains(&key.as_str())) {
            // No key of a run: batches here have two segments.
            if key == "segments" && *expected != ours[key] {
                let wanted =
                    format!("a BERT with type_vocab_size {}: training here has two segments", ours[key]);
                return Err(self.refuse(
                    "init.from",
                    wanted,
                    format!("{expected} in {}", self.path.display()),
                ));
            }
            self.same(&format!("model.{key}"), expected.clone(), ours[key].clone())?;
        }
        Ok(())
    }

    /// The tokens must be those that the weights know.
    fn tokenizer(&self, data: &Prepared) -> Result<()> {
        let path = self.path.join(checkpoint::TOKENIZER);
        if !path.is_file() {
            tracing::warn!(path = %self.path.display(), "holds no tokenizer to compare the data's with");
            return Ok(());
        }
        if fs::read(&path).at(&path)? == data.tokenizer().json() {
            return Ok(());
        }
        let cure =
            format!("kind = \"file\", path = {:?}: the checkpoint's tokenizer", path.display().to_string());
        Err(self.refuse("data.tokenizer", cure, "another tokenizer".into()))
    }
}
