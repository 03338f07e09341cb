//! The rules within and across tables. Each refusal names the key, what would do, and what it says.

use super::{
    DataConfig, Family, InitFrom, LrAtGrowth, LrConfig, LrShape, MlmConfig, ModelConfig, RunConfig, RunTable,
    StageConfig, TokenizerConfig, TokenizerKind, TrainConfig,
};
use crate::error::{Error, Result};
use msg_models::{GrowingAxis, Grows, Sizes, sizes::LARGEST};
use serde::Serialize;
use std::{fmt::Display, path::Path};

/// Largest number of steps or tokens, and the largest seed: TOML's whole numbers are signed.
const MOST: u64 = i64::MAX as u64;

impl RunConfig {
    /// Refuses a run that cannot be; `file` is its name in the refusal. Allocates nothing and reads no data.
    ///
    /// # Errors
    /// [`Error::Config`] or [`Error::MissingKey`] for the first rule that does not hold.
    pub fn check(&self, file: &str) -> Result<()> {
        let rules = Rules { file };
        rules.run(&self.run)?;
        rules.data(&self.data)?;
        rules.model(&self.model)?;
        rules.train(&self.train)?;
        rules.lr(&self.lr)?;
        if let Some(init) = &self.init {
            rules.init(init)?;
        }
        rules.stages(self)?;
        rules.across(self)
    }

    /// Refuses a first stage that a checkpoint of sizes `from` cannot become, or that says how to grow
    /// what does not.
    ///
    /// # Errors
    /// [`Error::Config`] for the first rule that does not hold.
    pub(crate) fn check_start(&self, file: &str, from: Sizes) -> Result<()> {
        match self.resolved().stages.first() {
            Some(first) => Rules { file }.growth(1, Before::Checkpoint(from), first),
            None => Ok(()),
        }
    }
}

/// What a stage's model comes from.
#[derive(Clone, Copy)]
enum Before<'a> {
    /// Fresh weights.
    Nothing,
    /// The checkpoint of `init.from`.
    Checkpoint(Sizes),
    /// The stage before.
    Stage(&'a StageConfig),
}

#[derive(Clone, Copy)]
struct Rules<'a> {
    file: &'a str,
}

impl Rules<'_> {
    /// Refuses `key` unless `holds`.
    fn need(self, holds: bool, key: impl Display, expected: impl Display, got: impl Display) -> Result<()> {
        if holds {
            return Ok(());
        }
        Err(Error::Config {
            file: self.file.to_owned(),
            key: key.to_string(),
            expected: expected.to_string(),
            got: got.to_string(),
        })
    }

    fn missing(self, key: impl Display) -> Error {
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
        let (sources, crates) = (!data.sources.is_empty(), !data.crates.is_empty());
        let given = if sources { "both" } else { "neither" };
        self.need(
            sources != crates,
            "data.sources",
            "either it or `data.crates`, one that is not empty",
            given,
        )?;
        let share = data.held_out;
        self.number((0.0..=0.5).contains(&share), "data.held_out", "a share from 0 to 0.5", share)?;
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
        self.size("model.head_dim", Some(model.head_dim))?;
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
        let decay = train.weight_decay;
        self.number(decay >= 0.0, "train.weight_decay", "a number of at least 0", decay)?;
        for (key, beta) in [("train.beta1", train.beta1), ("train.beta2", train.beta2)] {
            self.number((0.0..1.0).contains(&beta), key, "a share of at least 0 and below 1", beta)?;
        }
        self.number(train.adam_eps > 0.0, "train.adam_eps", "a number above 0", train.adam_eps)?;
        self.need(train.eval_sequences > 0, "train.eval_sequences", "at least 1", train.eval_sequences)?;
        self.need(train.keep_last > 0, "train.keep_last", "at least 1", train.keep_last)?;
        match train.receipt_tolerance {
            Some(bound) => {
                self.number(bound >= 0.0, "train.receipt_tolerance", "a number of at least 0", bound)
            }
            None => Ok(()),
        }
    }

    fn lr(self, lr: &LrConfig) -> Result<()> {
        let peak = lr.peak;
        self.number(peak > 0.0, "lr.peak", "a number above 0", peak)?;
        if let Some(last) = lr.r#final {
            self.need(lr.shape != LrShape::Constant, "lr.final", "none with shape = \"constant\"", last)?;
            let expected = format!("0 to {peak:?}, the peak");
            self.number((0.0..=peak).contains(&last), "lr.final", &expected, last)?;
        }
        match (lr.shape, lr.decay) {
            (LrShape::Wsd, None) => Err(self.missing("lr.decay")),
            (LrShape::Wsd, Some(decay)) => self.need(decay > 0, "lr.decay", "at least 1", decay),
            (_, Some(decay)) => self.need(false, "lr.decay", "none but with shape = \"wsd\"", decay),
            (_, None) => Ok(()),
        }
    }

    fn init(self, init: &InitFrom) -> Result<()> {
        let given = !init.from.as_os_str().is_empty();
        self.need(given, "init.from", "the path of a checkpoint", "\"\"")
    }

    fn stages(self, run: &RunConfig) -> Result<()> {
        self.need(!run.stages.is_empty(), "stage", "at least one [[stage]]", "none")?;
        if let Some(first) = run.stages.first() {
            let axes = run.model.family.axes().iter().map(|axis| (axis.key(), first.size(*axis)));
            for (name, size) in axes.chain(shape(first)) {
                if size.is_none() {
                    return Err(self.missing(format_args!("stage.1.{name}")));
                }
            }
        }
        for (index, stage) in run.stages.iter().enumerate() {
            self.stage(index + 1, stage, run.model.family)?;
        }
        let resolved = run.resolved();
        match &run.init {
            None => self.growth(1, Before::Nothing, &resolved.stages[0])?,
            Some(init) => self.first_stage(init, &resolved.stages[0])?,
        }
        for (index, pair) in resolved.stages.windows(2).enumerate() {
            self.growth(index + 2, Before::Stage(&pair[0]), &pair[1])?;
        }
        Ok(())
    }

    /// What can be said of the first stage while the checkpoint's sizes are not known.
    fn first_stage(self, init: &InitFrom, stage: &StageConfig) -> Result<()> {
        let none = StageConfig::default();
        let schedule = "none: the schedule starts here";
        self.need(stage.lr == none.lr, "stage.1.lr", schedule, word(stage.lr))?;
        let holds = init.state || stage.state == none.state;
        self.need(holds, "stage.1.state", "none but with init.state = true", word(stage.state))?;
        self.need(stage.ramp <= MOST, "stage.1.ramp", format!("at most {MOST}"), stage.ramp)
    }

    fn stage(self, number: usize, stage: &StageConfig, family: Family) -> Result<()> {
        let key = |name: &str| format!("stage.{number}.{name}");
        for &axis in GrowingAxis::ALL {
            let size = stage.size(axis);
            if let Some(size) = size.filter(|_| !family.axes().contains(&axis)) {
                let expected = format!("no such key with family = {:?}", family.name());
                self.need(false, key(axis.key()), expected, size)?;
            }
            self.size(key(axis.key()), size)?;
        }
        for (name, size) in shape(stage) {
            self.size(key(name), size)?;
        }
        let count = match (stage.steps, stage.tokens) {
            (Some(steps), None) => steps,
            (None, Some(tokens)) => tokens,
            (None, None) => {
                return Err(self.missing(format_args!("{}` or `{}", key("steps"), key("tokens"))));
            }
            (Some(_), Some(_)) => {
                return self.need(false, key("steps"), "either it or `tokens`", "both");
            }
        };
        let name = if stage.steps.is_some() { "steps" } else { "tokens" };
        self.need((1..=MOST).contains(&count), key(name), "at least 1", count)?;
        let rewarms = matches!(stage.lr, LrAtGrowth::Rewarm | LrAtGrowth::RewarmNew);
        match stage.rewarm_steps {
            None if rewarms => Err(self.missing(key("rewarm_steps"))),
            Some(steps) if rewarms => {
                self.need((1..=MOST).contains(&steps), key("rewarm_steps"), "at least 1", steps)
            }
            Some(steps) => self.need(
                false,
                key("rewarm_steps"),
                "none but with lr = \"rewarm\" or \"rewarm-new\"",
                steps,
            ),
            None => Ok(()),
        }
    }

    /// The sizes of a stage beside those of the one before; what only a growth uses is for growths.
    fn growth(self, number: usize, before: Before<'_>, stage: &StageConfig) -> Result<()> {
        let key = |name: &str| format!("stage.{number}.{name}");
        let new = stage.sizes();
        let (old, place) = match before {
            Before::Nothing => (new, String::new()),
            Before::Checkpoint(sizes) => (sizes, "the checkpoint of init.from".to_owned()),
            Before::Stage(stage) => (stage.sizes(), format!("stage {}", number - 1)),
        };
        // Sequence and batch may change either way.
        for (axis, old, new) in old.changes(new) {
            self.need(new >= old, key(axis.key()), format_args!("at least {old}, as in {place}"), new)?;
        }
        let none = StageConfig::default();
        let deeper = old.changes(new).any(|(axis, ..)| axis.grows() == Grows::Depth);
        let wider = old.changes(new).any(|(axis, ..)| axis.grows() != Grows::Depth);
        let grows = deeper || wider;
        let nothing = |what: &str| {
            let before =
                if number == 1 { "before the first stage".into() } else { format!("in stage {number}") };
            format!("none: no {what} grows {before}")
        };
        let axis = || nothing("axis");
        self.need(grows || stage.ramp == none.ramp, key("ramp"), axis(), stage.ramp)?;
        self.need(grows || stage.lr == none.lr, key("lr"), axis(), word(stage.lr))?;
        self.need(grows || stage.state == none.state, key("state"), axis(), word(stage.state))?;
        let expected = nothing("width");
        self.need(wider || stage.units == none.units, key("units"), expected, word(stage.units))?;
        let expected = nothing("depth");
        let layers = stage.new_layers;
        self.need(deeper || layers == none.new_layers, key("new_layers"), expected, word(layers))?;
        self.need(stage.ramp <= MOST, key("ramp"), format!("at most {MOST}"), stage.ramp)
    }

    /// Rules that need more than one table.
    fn across(self, run: &RunConfig) -> Result<()> {
        let resolved = run.resolved();
        let stages: Vec<(usize, &StageConfig)> =
            resolved.stages.iter().enumerate().map(|(index, stage)| (index + 1, stage)).collect();
        let given = |size: Option<usize>| size.unwrap_or(0);
        let window = stages.iter().map(|(_, stage)| given(stage.sequence)).max().unwrap_or(0);
        for (number, stage) in &stages {
            let (sequence, batch) = (given(stage.sequence), given(stage.batch));
            if let Some(positions) = run.model.positions {
                let expected = format!("at most {positions}, model.positions");
                self.need(
                    sequence <= positions,
                    format_args!("stage.{number}.sequence"),
                    expected,
                    sequence,
                )?;
            }
            if run.model.family == Family::Gpt {
                // A window is cut into whole pieces: no token is lost.
                let expected = format!("a divisor of {window}, the longest of the plan");
                let holds = window.is_multiple_of(sequence);
                self.need(holds, format_args!("stage.{number}.sequence"), expected, sequence)?;
            }
            if let Some(micro) = run.train.micro_batch {
                let expected = format!("a divisor of {batch}, the batch of stage {number}");
                self.need(batch.is_multiple_of(micro), "train.micro_batch", expected, micro)?;
            }
        }
        if let (Some(vocab), Some(tokens)) = (run.model.vocab, run.tokenizer_vocab()) {
            let expected = format!("at least {tokens}, the tokenizer's");
            self.need(vocab >= tokens, "model.vocab", expected, vocab)?;
        }
        if run.model.family == Family::Gpt {
            let holds = run.data.mlm == MlmConfig::default();
            self.need(holds, "data.mlm", "no such table with family = \"gpt\"", "one")?;
        }
        let every = run.train.eval_every;
        let holds = every == 0 || run.data.held_out > 0.0;
        self.need(holds, "train.eval_every", "0, as data.held_out is 0", every)?;
        self.steps(run, &resolved.stages)
    }

    /// Rules about the number of steps.
    fn steps(self, run: &RunConfig, stages: &[StageConfig]) -> Result<()> {
        let too_many = || Error::Config {
            file: self.file.to_owned(),
            key: "stage".into(),
            expected: format!("at most {MOST} tokens in all"),
            got: "more".into(),
        };
        let mut tokens = 0_u64;
        let mut starts = Vec::new();
        let mut total = 0_u64;
        for stage in stages {
            starts.push(total);
            let steps = stage.steps_resolved();
            let of_stage = steps.checked_mul(stage.tokens_per_step()).ok_or_else(too_many)?;
            tokens = tokens.checked_add(of_stage).filter(|sum| *sum <= MOST).ok_or_else(too_many)?;
            total += steps;
        }
        let LrConfig { warmup, shape, decay, .. } = run.lr;
        let expected = format!("fewer than {total}, the steps of all stages");
        self.need(warmup < total, "lr.warmup", expected, warmup)?;
        if let (LrShape::Wsd, Some(decay)) = (shape, decay) {
            let expected = format!("at most {}, the steps after the warm-up", total - warmup);
            self.need(decay <= total - warmup, "lr.decay", expected, decay)?;
        }
        for (index, (stage, &start)) in stages.iter().zip(&starts).enumerate() {
            let number = index + 1;
            if matches!(stage.lr, LrAtGrowth::Rewind | LrAtGrowth::RewindPublished) {
                let expected = format!("no rewind before the warm-up of {warmup} steps is over");
                let got = format!("one after step {start}");
                self.need(start >= warmup, format_args!("stage.{number}.lr"), expected, got)?;
            }
            // The optimizer knows entries born since a boundary: a later growth's would be taken for them.
            let next =
                stages.iter().zip(&starts).skip(number).find(|(later, _)| later.sizes() != stage.sizes());
            if let (LrAtGrowth::RewarmNew, Some(steps), Some((_, &end))) =
                (stage.lr, stage.rewarm_steps, next)
            {
                let expected = format!("at most {}, the steps until the next growth", end - start);
                self.need(
                    steps <= end - start,
                    format_args!("stage.{number}.rewarm_steps"),
                    expected,
                    steps,
                )?;
            }
        }
        Ok(())
    }
}

/// A value as TOML writes it.
fn word<T: Serialize>(value: T) -> String {
    toml::Value::try_from(value).map_or_else(|_| "another".to_owned(), |value| value.to_string())
}

/// The shape of a stage's batches by its keys.
fn shape(stage: &StageConfig) -> [(&'static str, Option<usize>); 2] {
    [("sequence", stage.sequence), ("batch", stage.batch)]
}

impl StageConfig {
    /// Tokens of one optimizer step of a resolved stage.
    pub(crate) fn tokens_per_step(&self) -> u64 {
        self.sequence.unwrap_or(0) as u64 * self.batch.unwrap_or(0) as u64
    }

    /// Optimizer steps of a resolved stage: `tokens` is rounded up to whole steps.
    pub(crate) fn steps_resolved(&self) -> u64 {
        let of_tokens = |tokens: u64| tokens.div_ceil(self.tokens_per_step().max(1));
        self.steps.or(self.tokens.map(of_tokens)).unwrap_or(0)
    }
}
