//! The configuration that everything else takes: read, checked, and with every default filled in.

use crate::{
    config::{
        RunConfig,
        check::Rules,
        data::{DataConfig, TokenizerKind},
        model::{FamilyRules, ModelConfig, ResolvedModel},
        optimizer::OptimizerConfig,
        schedule::{AtGrowth, LrConfig, ResolvedStage, StageConfig},
        shapes::ShapeKey,
        train::{InitFrom, RunTable, TrainConfig},
    },
    error::{Error, Result},
};
use msg_core::growth::NORMAL_STD;
use msg_models::{Sizes, cost::Logits};

/// How many evaluations and checkpoints a run has by default, beside those at the ends of stages.
const EVALUATIONS: u64 = 20;
const CHECKPOINTS: u64 = 10;

/// A configuration that can be run. There is no other way to one than through the checks, so what takes it need not
/// look again, and nothing in it is left open that the configuration alone can tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    written: RunConfig,
    model: ResolvedModel,
    stages: Vec<ResolvedStage>,
    eval_every: u64,
    checkpoint_every: u64,
}

impl Resolved {
    /// Checks a configuration that was made in code and fills it in; `families` are those that it may name. Reads no
    /// data and makes nothing.
    ///
    /// # Errors
    /// [`Error::Config`] or [`Error::MissingKey`] for the first rule that does not hold; the file's name in them is
    /// `configuration`.
    pub fn new(config: RunConfig, families: &[FamilyRules]) -> Result<Resolved> {
        Self::checked(config, "configuration", families)
    }

    /// The same for a configuration that was read from `file`.
    pub(super) fn checked(config: RunConfig, file: &str, families: &[FamilyRules]) -> Result<Resolved> {
        let rules = Rules { file };
        let family = rules.family(&config.model.family, families)?;
        rules.tables(&config)?;
        let stages = stages(rules, family, &config.stages)?;
        rules.growths(&stages, config.init.as_ref())?;
        let model = model(rules, &config.model, family, &stages)?;
        let total = stages.iter().fold(0_u64, |sum, stage| sum.saturating_add(stage.steps));
        let evaluations = if config.data.held_out > 0.0 { total.div_ceil(EVALUATIONS) } else { 0 };
        let mut resolved = Resolved {
            eval_every: config.train.eval_every.unwrap_or(evaluations),
            checkpoint_every: config.train.checkpoint_every.unwrap_or(total.div_ceil(CHECKPOINTS)),
            written: config,
            model,
            stages,
        };
        resolved.write_out();
        rules.across(&resolved.written, &resolved.model, &resolved.stages, resolved.tokenizer_vocab())?;
        Ok(resolved)
    }

    /// Refuses a first stage that a checkpoint of sizes `from` cannot become, or that says how to grow what does not.
    ///
    /// # Errors
    /// [`Error::Config`] for the first rule that does not hold.
    pub(crate) fn check_start(&self, from: Sizes) -> Result<()> {
        let Some(first) = self.stages.first() else { return Ok(()) };
        Rules { file: &self.written.run.name }.start(from, first)
    }

    /// The same run as a user could have written it, every default included: sizes of every stage, positions, the
    /// family's numbers, the final rate. Paths that follow from the run's name, the vocabulary and the micro-batch
    /// (the whole batch, whatever it is in a stage) are left open.
    ///
    /// Two texts that mean the same run are equal here.
    pub fn written(&self) -> &RunConfig {
        &self.written
    }

    /// The configuration as TOML, every default written out. Reading it gives an equal value.
    ///
    /// # Errors
    /// [`Error::Config`] for a whole number beyond TOML's, 2^63 - 1.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(&self.written).map_err(|error| Error::Config {
            file: "configuration".into(),
            key: "as TOML".into(),
            expected: "whole numbers below 2^63".into(),
            got: error.to_string(),
        })
    }

    /// Name, folder and seed.
    pub fn run(&self) -> &RunTable {
        &self.written.run
    }

    /// What is read.
    pub fn data(&self) -> &DataConfig {
        &self.written.data
    }

    /// What of the model does not grow.
    pub fn model(&self) -> &ResolvedModel {
        &self.model
    }

    /// How steps are made.
    pub fn train(&self) -> &TrainConfig {
        &self.written.train
    }

    /// What updates the parameters.
    pub fn optimizer(&self) -> &OptimizerConfig {
        &self.written.optimizer
    }

    /// The learning rate.
    pub fn lr(&self) -> &LrConfig {
        &self.written.lr
    }

    /// Steps between evaluations; 0 evaluates at the ends of stages only.
    pub fn eval_every(&self) -> u64 {
        self.eval_every
    }

    /// Steps between checkpoints; 0 saves at the ends of stages only.
    pub fn checkpoint_every(&self) -> u64 {
        self.checkpoint_every
    }

    /// The stages, first to last; there is at least one.
    pub fn stages(&self) -> &[ResolvedStage] {
        &self.stages
    }

    /// Where to start from, instead of fresh weights.
    pub fn init(&self) -> Option<&InitFrom> {
        self.written.init.as_ref()
    }

    /// Optimizer steps of all stages.
    pub fn total_steps(&self) -> u64 {
        self.stages.iter().map(|stage| stage.steps).sum()
    }

    /// The sizes that the run starts with.
    pub fn first_sizes(&self) -> Sizes {
        self.stages[0].sizes
    }

    /// The entries of the token table, as far as the configuration alone tells: `model.vocab`, or the tokenizer's.
    /// A tokenizer file has to be read first.
    pub fn vocab(&self) -> Option<usize> {
        self.model.vocab.or(self.tokenizer_vocab())
    }

    /// The tokenizer's entries, where the configuration alone tells them.
    fn tokenizer_vocab(&self) -> Option<usize> {
        let specials = self.model.family.specials.count();
        match self.data().tokenizer.kind {
            TokenizerKind::Bytes => Some(256 + specials),
            TokenizerKind::Bpe | TokenizerKind::WordPiece => self.data().tokenizer.vocab,
            TokenizerKind::File => None,
        }
    }

    /// At which positions training computes token logits.
    pub fn logits(&self) -> Logits {
        if self.model.family.mlm { Logits::Labelled(self.data().mlm.rate) } else { Logits::Everywhere }
    }
}

/// The stages with what the ones before say.
fn stages(rules: Rules<'_>, family: FamilyRules, tables: &[StageConfig]) -> Result<Vec<ResolvedStage>> {
    let mut stages: Vec<ResolvedStage> = Vec::with_capacity(tables.len());
    for (number, table) in (1..).zip(tables) {
        let before = stages.last();
        let size = |name: &str, given: Option<usize>, before: Option<usize>| {
            given.or(before).ok_or_else(|| rules.missing(format_args!("stage.{number}.{name}")))
        };
        let mut sizes = Sizes::NONE;
        for &axis in family.axes {
            let before = before.map(|stage| stage.sizes.get(axis));
            sizes = sizes.with(axis, size(axis.key(), table.size(axis), before)?);
        }
        let sequence = size("sequence", table.sequence, before.map(|stage| stage.sequence))?;
        let batch = size("batch", table.batch, before.map(|stage| stage.batch))?;
        rules.stage_sizes(number, family, table)?;
        let steps = rules.steps_of(number, table, sequence as u64 * batch as u64)?;
        let growth = AtGrowth {
            ramp: table.ramp,
            operator: table.operator,
            units: table.units,
            layers: table.new_layers,
            lr: table.lr,
            rewarm_steps: table.rewarm_steps.unwrap_or(0),
            state: table.state,
        };
        stages.push(ResolvedStage { steps, sizes, sequence, batch, growth });
    }
    Ok(stages)
}

/// The size of one head: that of the configuration, or the last stage's hidden size over its heads.
fn head_dim(rules: Rules<'_>, given: Option<usize>, stages: &[ResolvedStage]) -> Result<usize> {
    match (given, stages.last().map(|stage| stage.sizes)) {
        (Some(head_dim), _) => Ok(head_dim),
        (None, Some(Sizes { hidden, heads, .. })) if hidden.is_multiple_of(heads) => Ok(hidden / heads),
        (None, Some(Sizes { hidden, heads, .. })) => {
            let expected = format!(
                "a size: the hidden size of the last stage, {hidden}, is no multiple of its {heads} heads"
            );
            Err(rules.refused("model.head_dim", expected, "none"))
        }
        (None, None) => Err(rules.missing("model.head_dim")),
    }
}

/// The model with its family's numbers.
fn model(
    rules: Rules<'_>,
    table: &ModelConfig,
    family: FamilyRules,
    stages: &[ResolvedStage],
) -> Result<ResolvedModel> {
    let longest = stages.iter().map(|stage| stage.sequence).max().unwrap_or(0);
    let open = ModelConfig {
        family: table.family.clone(),
        head_dim: table.head_dim,
        positions: None,
        vocab: None,
        dropout: None,
        eps: None,
        gelu: None,
        init_std: None,
    };
    let head_dim = head_dim(rules, table.head_dim, stages)?;
    let (mut known, mut filled) = (open, table.clone());
    (family.fill)(&mut known);
    (family.fill)(&mut filled);
    rules.key_of_family(family, "model.eps", known.eps.is_some(), table.eps)?;
    rules.key_of_family(family, "model.gelu", known.gelu.is_some(), table.gelu)?;
    rules.key_of_family(family, "model.dropout", known.dropout.is_some(), table.dropout)?;
    Ok(ResolvedModel {
        family,
        head_dim,
        positions: table.positions.unwrap_or(longest),
        vocab: table.vocab,
        dropout: filled.dropout.unwrap_or(0.0),
        eps: filled.eps,
        gelu: filled.gelu,
        init_std: filled.init_std.unwrap_or(NORMAL_STD),
    })
}

impl Resolved {
    /// Writes every default out.
    fn write_out(&mut self) {
        let run = &mut self.written;
        for (table, stage) in run.stages.iter_mut().zip(&self.stages) {
            for (axis, size) in stage.sizes.iter() {
                *table.size_mut(axis) = Some(size);
            }
            table.sequence = Some(stage.sequence);
            table.batch = Some(stage.batch);
        }
        let ResolvedModel { family, head_dim, positions, vocab, dropout, eps, gelu, init_std } = self.model;
        run.model = ModelConfig {
            family: family.name.to_owned(),
            head_dim: Some(head_dim),
            positions: Some(positions),
            vocab,
            dropout: Some(dropout),
            eps,
            gelu,
            init_std: Some(init_std),
        };
        if run.lr.shape.uses(ShapeKey::Final) {
            run.lr.r#final = run.lr.r#final.or(Some(0.0));
        }
        run.train.eval_every = Some(self.eval_every);
        run.train.checkpoint_every = Some(self.checkpoint_every);
    }
}
