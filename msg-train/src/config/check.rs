//! The rules within and across tables. Each refusal names the key, what would do, and what it says.

use crate::{
    config::{
        RunConfig,
        data::{DataConfig, MlmConfig, TokenizerConfig, TokenizerKind},
        model::{FamilyRules, ModelConfig, ResolvedModel},
        optimizer::OptimizerConfig,
        schedule::{AtGrowth, LrAtGrowth, LrConfig, ResolvedStage, StageConfig},
        shapes::{LrShape, ShapeKey},
        suggest::any_of,
        train::{InitFrom, RunTable, TrainConfig},
    },
    error::{Error, Result},
};
use msg_core::optim::Rule;
use msg_models::{GrowingAxis, Grows, Sizes, sizes::LARGEST};
use serde::Serialize;
use std::{fmt::Display, path::Path};

/// Largest number of steps or tokens, and the largest seed: TOML's whole numbers are signed.
const MOST: u64 = i64::MAX as u64;

/// What a stage's model comes from.
#[derive(Clone, Copy)]
enum Before<'a> {
    /// Fresh weights.
    Nothing,
    /// The checkpoint of `init.from`.
    Checkpoint(Sizes),
    /// The stage before.
    Stage(&'a ResolvedStage),
}

/// The rules; `file` is the configuration's name in refusals.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) file: &'a str,
}

impl Rules<'_> {
    /// Refuses values that no table can have, whatever the others say.
    pub(super) fn tables(self, config: &RunConfig) -> Result<()> {
        self.run(&config.run)?;
        self.data(&config.data)?;
        self.model(&config.model)?;
        self.train(&config.train)?;
        self.optimizer(&config.optimizer)?;
        self.lr(&config.lr)?;
        if let Some(init) = &config.init {
            self.init(init)?;
        }
        self.need(!config.stages.is_empty(), "stage", "at least one [[stage]]", "none")
    }

    pub(super) fn refused(self, key: impl Display, expected: impl Display, got: impl Display) -> Error {
        Error::Config {
            file: self.file.to_owned(),
            key: key.to_string(),
            expected: expected.to_string(),
            got: got.to_string(),
        }
    }

    /// Refuses `key` unless `holds`.
    fn need(self, holds: bool, key: impl Display, expected: impl Display, got: impl Display) -> Result<()> {
        if holds { Ok(()) } else { Err(self.refused(key, expected, got)) }
    }

    pub(super) fn missing(self, key: impl Display) -> Error {
        Error::MissingKey { file: self.file.to_owned(), key: key.to_string() }
    }

    /// A number; NaN is in no range.
    fn number(self, holds: bool, key: &str, expected: &str, got: f64) -> Result<()> {
        self.need(holds && got.is_finite(), key, expected, format!("{got:?}"))
    }

    /// A number of units, where it is given.
    fn size(self, key: impl Display, size: Option<usize>) -> Result<()> {
        let Some(size) = size else { return Ok(()) };
        self.need((1..=LARGEST).contains(&size), key, format!("1 to {LARGEST}"), size)
    }

    fn run(self, run: &RunTable) -> Result<()> {
        let name = run.name.as_str();
        let plain = Path::new(name).file_name().is_some_and(|last| last == name)
            && !name.contains(['/', '\\', ':'])
            && !name.contains(char::is_control);
        self.need(plain, "run.name", "a plain file name", format!("\"{}\"", name.escape_debug()))?;
        self.need(run.seed <= MOST, "run.seed", format!("at most {MOST}"), run.seed)
    }

    fn data(self, data: &DataConfig) -> Result<()> {
        let other = data.source().err();
        self.need(other.is_none(), "data.sources", DataConfig::one_source(), other.unwrap_or_default())?;
        let share = data.held_out;
        let holds = DataConfig::HELD_OUT.contains(&share);
        self.number(holds, "data.held_out", DataConfig::HELD_OUT_IN_WORDS, share)?;
        let MlmConfig { rate, .. } = data.mlm;
        self.number(rate > 0.0 && rate < 1.0, "data.mlm.rate", "a share above 0 and below 1", rate)?;
        self.tokenizer(&data.tokenizer)
    }

    fn tokenizer(self, tokenizer: &TokenizerConfig) -> Result<()> {
        let TokenizerConfig { kind, vocab, path } = tokenizer;
        let trained = matches!(kind, TokenizerKind::Bpe | TokenizerKind::WordPiece);
        let file = matches!(kind, TokenizerKind::File);
        if trained && vocab.is_none() {
            return Err(self.missing("data.tokenizer.vocab"));
        }
        if file && path.is_none() {
            return Err(self.missing("data.tokenizer.path"));
        }
        if let Some(vocab) = vocab {
            self.need(trained, "data.tokenizer.vocab", "none: this kind brings its own", vocab)?;
        }
        if let Some(path) = path {
            self.need(file, "data.tokenizer.path", "none but with kind = \"file\"", path.display())?;
        }
        self.size("data.tokenizer.vocab", *vocab)
    }

    fn model(self, model: &ModelConfig) -> Result<()> {
        self.size("model.head_dim", model.head_dim)?;
        self.size("model.positions", model.positions)?;
        self.size("model.vocab", model.vocab)?;
        if let Some(rate) = model.dropout {
            let holds = (0.0..1.0).contains(&rate);
            self.need(holds, "model.dropout", "a share of at least 0 and below 1", format!("{rate:?}"))?;
        }
        if let Some(eps) = model.eps {
            self.number(eps > 0.0, "model.eps", "a number above 0", eps)?;
        }
        if let Some(std) = model.init_std {
            let holds = std > 0.0 && std.is_finite();
            self.need(holds, "model.init_std", "a number above 0", format!("{std:?}"))?;
        }
        Ok(())
    }

    fn train(self, train: &TrainConfig) -> Result<()> {
        self.size("train.micro_batch", train.micro_batch)?;
        if let Some(clip) = train.clip {
            self.number(clip > 0.0, "train.clip", "a number above 0, or \"off\"", clip)?;
        }
        self.need(train.eval_sequences > 0, "train.eval_sequences", "at least 1", train.eval_sequences)?;
        self.need(train.keep_last > 0, "train.keep_last", "at least 1", train.keep_last)?;
        match train.receipt_tolerance {
            Some(bound) => {
                self.number(bound >= 0.0, "train.receipt_tolerance", "a number of at least 0", bound)
            }
            None => Ok(()),
        }
    }

    /// The ranges are the optimizer's own.
    fn optimizer(self, optimizer: &OptimizerConfig) -> Result<()> {
        match optimizer.check() {
            // Named as `adamw: beta1`.
            Err(msg_core::error::Error::Value { what, expected, got }) => {
                let key = what.rsplit(' ').next().unwrap_or(what);
                Err(self.refused(format_args!("optimizer.{key}"), expected, format!("{got:?}")))
            }
            other => Ok(other?),
        }
    }

    fn lr(self, lr: &LrConfig) -> Result<()> {
        let peak = lr.peak;
        self.number(peak > 0.0, "lr.peak", "a number above 0", peak)?;
        if let Some(last) = lr.r#final {
            let expected = format!("none with shape = {:?}", lr.shape.name());
            self.need(lr.shape.uses(ShapeKey::Final), "lr.final", expected, last)?;
            let expected = format!("0 to {peak:?}, the peak");
            self.number((0.0..=peak).contains(&last), "lr.final", &expected, last)?;
        }
        match (lr.shape.uses(ShapeKey::Decay), lr.decay) {
            (true, None) => Err(self.missing("lr.decay")),
            (true, Some(decay)) => self.need(decay > 0, "lr.decay", "at least 1", decay),
            (false, Some(decay)) => {
                let expected = format!("none but with shape = {}", LrShape::with(ShapeKey::Decay));
                self.need(false, "lr.decay", expected, decay)
            }
            (false, None) => Ok(()),
        }
    }

    fn init(self, init: &InitFrom) -> Result<()> {
        let given = !init.from.as_os_str().is_empty();
        self.need(given, "init.from", "the path of a checkpoint", "\"\"")
    }

    /// The numbers of one stage.
    pub(super) fn stage_sizes(self, number: usize, family: FamilyRules, stage: &StageConfig) -> Result<()> {
        for &axis in GrowingAxis::ALL {
            let (key, size) = (format!("stage.{number}.{}", axis.key()), stage.size(axis));
            if let Some(size) = size.filter(|_| !family.axes.contains(&axis)) {
                let expected = format!("no such key with family = {:?}", family.name);
                return Err(self.refused(key, expected, size));
            }
            self.size(key, size)?;
        }
        for (name, size) in [("sequence", stage.sequence), ("batch", stage.batch)] {
            self.size(format_args!("stage.{number}.{name}"), size)?;
        }
        let key = || format!("stage.{number}.rewarm_steps");
        let rewarms = matches!(stage.lr, LrAtGrowth::Rewarm | LrAtGrowth::RewarmNew);
        match stage.rewarm_steps {
            None if rewarms => Err(self.missing(key())),
            Some(steps) if rewarms => self.need((1..=MOST).contains(&steps), key(), "at least 1", steps),
            Some(steps) => self.need(false, key(), "none but with lr = \"rewarm\" or \"rewarm-new\"", steps),
            None => Ok(()),
        }
    }

    /// The optimizer steps of a stage: `tokens` is rounded up to whole steps.
    pub(super) fn steps_of(self, number: usize, stage: &StageConfig, tokens_per_step: u64) -> Result<u64> {
        let key = |name: &str| format!("stage.{number}.{name}");
        let (name, count, per_step) = match (stage.steps, stage.tokens) {
            (Some(steps), None) => ("steps", steps, 1),
            (None, Some(tokens)) => ("tokens", tokens, tokens_per_step),
            (None, None) => {
                return Err(self.missing(format_args!("{}` or `{}", key("steps"), key("tokens"))));
            }
            (Some(_), Some(_)) => return Err(self.refused(key("steps"), "either it or `tokens`", "both")),
        };
        self.need((1..=MOST).contains(&count), key(name), "at least 1", count)?;
        Ok(count.div_ceil(per_step))
    }

    /// A schedule that was made in code.
    pub(super) fn schedule(self, stages: &[ResolvedStage], lr: &LrConfig) -> Result<()> {
        self.need(!stages.is_empty(), "stage", "at least one stage", "none")?;
        for (number, stage) in (1..).zip(stages) {
            let key = |name: &str| format!("stage.{number}.{name}");
            self.need((1..=MOST).contains(&stage.steps), key("steps"), "at least 1", stage.steps)?;
            for (axis, size) in stage.sizes.iter() {
                self.size(key(axis.key()), Some(size))?;
            }
            self.size(key("sequence"), Some(stage.sequence))?;
            self.size(key("batch"), Some(stage.batch))?;
        }
        self.lr(lr)?;
        self.growths(stages, None)?;
        self.steps(lr, stages)
    }

    /// The family of that name.
    pub(super) fn family(self, name: &str, families: &[FamilyRules]) -> Result<FamilyRules> {
        let names: Vec<&str> = families.iter().map(|family| family.name).collect();
        let known = families.iter().find(|family| family.name == name);
        known.copied().ok_or_else(|| self.refused("model.family", any_of(&names), format_args!("{name:?}")))
    }

    /// Refuses a key that the family does not have.
    pub(super) fn key_of_family<T: Serialize>(
        self,
        family: FamilyRules,
        key: &str,
        has: bool,
        given: Option<T>,
    ) -> Result<()> {
        let Some(given) = given.filter(|_| !has) else { return Ok(()) };
        let expected = format!("no such key with family = \"{}\"", family.name);
        self.need(false, key, expected, word(given))
    }

    /// What each stage says beside the one before it.
    pub(super) fn growths(self, stages: &[ResolvedStage], init: Option<&InitFrom>) -> Result<()> {
        if let Some(first) = stages.first() {
            match init {
                None => self.growth(1, Before::Nothing, first)?,
                Some(init) => self.first_stage(init, first)?,
            }
        }
        for (number, pair) in (2..).zip(stages.windows(2)) {
            self.growth(number, Before::Stage(&pair[0]), &pair[1])?;
        }
        Ok(())
    }

    /// The first stage beside the checkpoint of `init.from`, once its sizes are known.
    pub(super) fn start(self, from: Sizes, first: &ResolvedStage) -> Result<()> {
        self.growth(1, Before::Checkpoint(from), first)
    }

    /// What can be said of the first stage while the checkpoint's sizes are not known.
    fn first_stage(self, init: &InitFrom, stage: &ResolvedStage) -> Result<()> {
        let (AtGrowth { lr, state, ramp, .. }, none) = (stage.growth, AtGrowth::default());
        self.need(lr == none.lr, "stage.1.lr", "none: the schedule starts here", word(lr))?;
        let holds = init.state || state == none.state;
        self.need(holds, "stage.1.state", "none but with init.state = true", word(state))?;
        self.need(ramp <= MOST, "stage.1.ramp", format!("at most {MOST}"), ramp)
    }

    /// The sizes of a stage beside those before it. `ramp`, `units`, `new_layers`, `lr` and `state` are allowed only
    /// where something grows.
    fn growth(self, number: usize, before: Before<'_>, stage: &ResolvedStage) -> Result<()> {
        let key = |name: &str| format!("stage.{number}.{name}");
        let new = stage.sizes;
        let (old, place) = match before {
            Before::Nothing => (new, String::new()),
            Before::Checkpoint(sizes) => (sizes, "the checkpoint of init.from".to_owned()),
            Before::Stage(stage) => (stage.sizes, format!("stage {}", number - 1)),
        };
        // Sequence and batch may change either way.
        for (axis, old, new) in old.changes(new) {
            self.need(new >= old, key(axis.key()), format_args!("at least {old}, as in {place}"), new)?;
        }
        let (AtGrowth { ramp, operator, units, layers, lr, state, .. }, none) =
            (stage.growth, AtGrowth::default());
        let deeper = old.changes(new).any(|(axis, ..)| axis.grows() == Grows::Depth);
        let wider = old.changes(new).any(|(axis, ..)| axis.grows() != Grows::Depth);
        let grows = deeper || wider;
        let nothing = |what: &str| {
            let before =
                if number == 1 { "before the first stage".into() } else { format!("in stage {number}") };
            format!("none: no {what} grows {before}")
        };
        let axis = || nothing("axis");
        self.need(grows || ramp == none.ramp, key("ramp"), axis(), ramp)?;
        self.need(grows || operator == none.operator, key("operator"), axis(), word(operator))?;
        self.need(grows || lr == none.lr, key("lr"), axis(), word(lr))?;
        self.need(grows || state == none.state, key("state"), axis(), word(state))?;
        self.need(wider || units == none.units, key("units"), nothing("width"), word(units))?;
        self.need(deeper || layers == none.layers, key("new_layers"), nothing("depth"), word(layers))?;
        self.need(ramp <= MOST, key("ramp"), format!("at most {MOST}"), ramp)
    }

    /// Rules that need more than one table.
    pub(super) fn across(
        self,
        run: &RunConfig,
        model: &ResolvedModel,
        stages: &[ResolvedStage],
        tokenizer_vocab: Option<usize>,
    ) -> Result<()> {
        let window = stages.iter().map(|stage| stage.sequence).max().unwrap_or(0);
        for (number, &ResolvedStage { sequence, batch, .. }) in (1..).zip(stages) {
            let key = format!("stage.{number}.sequence");
            let expected = format!("at most {}, model.positions", model.positions);
            self.need(sequence <= model.positions, &key, expected, sequence)?;
            if model.family.whole_windows {
                // A window is cut into whole pieces: no token is lost.
                let expected = format!("a divisor of {window}, the longest of the plan");
                self.need(window.is_multiple_of(sequence), &key, expected, sequence)?;
            }
            if let Some(micro) = run.train.micro_batch {
                let expected = format!("a divisor of {batch}, the batch of stage {number}");
                self.need(batch.is_multiple_of(micro), "train.micro_batch", expected, micro)?;
            }
        }
        if let (Some(vocab), Some(tokens)) = (model.vocab, tokenizer_vocab) {
            let expected = format!("at least {tokens}, the tokenizer's");
            self.need(vocab >= tokens, "model.vocab", expected, vocab)?;
        }
        if !model.family.mlm {
            let holds = run.data.mlm == MlmConfig::default();
            let expected = format!("no such table with family = \"{}\"", model.family.name);
            self.need(holds, "data.mlm", expected, "one")?;
        }
        let every = run.train.eval_every.unwrap_or(0);
        let holds = every == 0 || run.data.held_out > 0.0;
        self.need(holds, "train.eval_every", "0, as data.held_out is 0", every)?;
        self.steps(&run.lr, stages)
    }

    /// Rules about the number of steps.
    fn steps(self, lr: &LrConfig, stages: &[ResolvedStage]) -> Result<()> {
        let too_many = || self.refused("stage", format_args!("at most {MOST} tokens in all"), "more");
        let mut tokens = 0_u64;
        let mut starts = Vec::new();
        let mut total = 0_u64;
        for stage in stages {
            starts.push(total);
            let of_stage = stage.steps.checked_mul(stage.tokens_per_step()).ok_or_else(too_many)?;
            tokens = tokens.checked_add(of_stage).filter(|sum| *sum <= MOST).ok_or_else(too_many)?;
            total += stage.steps;
        }
        let LrConfig { warmup, decay, .. } = *lr;
        let expected = format!("fewer than {total}, the steps of all stages");
        self.need(warmup < total, "lr.warmup", expected, warmup)?;
        if let Some(decay) = decay {
            let expected = format!("at most {}, the steps after the warm-up", total - warmup);
            self.need(decay <= total - warmup, "lr.decay", expected, decay)?;
        }
        for (number, (stage, &start)) in (1..).zip(stages.iter().zip(&starts)) {
            let AtGrowth { lr, rewarm_steps, .. } = stage.growth;
            if matches!(lr, LrAtGrowth::Rewind | LrAtGrowth::RewindPublished) {
                let expected = format!("no rewind before the warm-up of {warmup} steps is over");
                let got = format!("one after step {start}");
                self.need(start >= warmup, format_args!("stage.{number}.lr"), expected, got)?;
            }
            // The optimizer knows entries born since a growth: a later growth's would be taken for them.
            let next = stages.iter().zip(&starts).skip(number).find(|(later, _)| later.sizes != stage.sizes);
            if let (LrAtGrowth::RewarmNew, Some((_, &end))) = (lr, next) {
                let expected = format!("at most {}, the steps until the next growth", end - start);
                let key = format_args!("stage.{number}.rewarm_steps");
                self.need(rewarm_steps <= end - start, key, expected, rewarm_steps)?;
            }
        }
        Ok(())
    }
}

/// Refuses a schedule that was made in code, by the rules of configurations.
///
/// # Errors
/// [`Error::Config`] for the first rule that does not hold; the file's name in it is `plan`.
pub(crate) fn check_schedule(stages: &[ResolvedStage], lr: &LrConfig) -> Result<()> {
    Rules { file: "plan" }.schedule(stages, lr)
}

/// A value as TOML writes it.
fn word<T: Serialize>(value: T) -> String {
    toml::Value::try_from(value).map_or_else(|_| "another".to_owned(), |value| value.to_string())
}
