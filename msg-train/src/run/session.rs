//! A run under way: the trainer between its folder and those who watch.

use super::{Request, RunFolder, data_folder, memory::explained, start};
use crate::{
    checkpoint::{self, Action, Loaded, Snapshot},
    config::{self, Resolved, differing_keys},
    data::{Batches, Prepared},
    error::{AtPath, Error, Result},
    eval::{Span, evaluate},
    families::family::Task,
    files::names::{CONFIG, EVENTS, METRICS, TIMING, TOKENIZER},
    interop::write_final,
    metrics::{
        End, Eval, Record, RunLog, RunPlan, StagePlan, Start, Step, StepTiming, sinks::console::Console,
    },
    schedule::{plan::Plan, table::cost},
    step::{state::State, trainer::Trainer},
};
use msg_core::{Backend, device::out_of_memory_as_error, error::Context};
use msg_models::{Cost, hf::Unrepresentable};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Its folder.
    pub folder: PathBuf,
    /// Steps made.
    pub step: u64,
    /// Whether all steps are made; otherwise it was asked to stop, and goes on with `--resume auto`.
    pub finished: bool,
    /// The last held-out loss.
    pub validation: Option<f64>,
    /// Why the finished model stands without a configuration for transformers, where it does.
    pub unrepresentable: Option<Unrepresentable>,
}

/// A run under way.
pub struct Session<D: Backend, M: Task<D>, B> {
    folder: RunFolder,
    trainer: Trainer<D, M, B>,
    plan: Plan,
    config: Resolved,
    config_text: String,
    data: Arc<Prepared>,
    log: RunLog,
    clock: Clock,
    validation: Option<f64>,
}

/// Times steps from record to record.
struct Clock {
    /// Seconds of training before `since`.
    seconds: f64,
    /// When the last step was done, or the run went on.
    since: Instant,
}

impl Clock {
    /// Takes a record down, and after that of a step its time.
    fn take(&mut self, log: &mut RunLog, plan: &Plan, record: &Record, waited: f64) -> Result<()> {
        log.record(record)?;
        let Record::Step(Step { step, .. }) = *record else { return Ok(()) };
        let step_seconds = self.since.elapsed().as_secs_f64();
        self.since = Instant::now();
        self.seconds += step_seconds;
        log.timing(&StepTiming {
            step,
            seconds: self.seconds,
            step_seconds,
            data_seconds: waited,
            tokens_per_second: plan.stage_at(step).tokens_per_step() as f64 / step_seconds,
        })
    }
}

/// Seconds since 1970, for TensorBoard's events.
fn wall_clock() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

impl<D: Backend, M: Task<D>, B: Batches<Batch = M::Host> + 'static> Session<D, M, B> {
    /// Opens a run: a new one, or one that goes on after its last checkpoint.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a run that exists and is not to be resumed, or whose configuration
    /// differs; what the checkpoint or the device refuse.
    pub fn open(device: D, request: &Request<'_>, batches: Arc<B>) -> Result<Self> {
        let config = request.config.clone();
        let folder = RunFolder::claim(config.run().folder(), request.resume)?;
        checkpoint::mend(&folder.checkpoints())?;
        let begun = folder.is_begun();
        let vocab = vocabulary(&config, &request.data)?;
        let (mut plan, cost) = (request.plan.clone(), cost(&config, vocab));
        let rule = config.optimizer().in_precision(config.train().precision);
        let latest = if begun { checkpoint::latest(&folder.checkpoints())? } else { None };
        let config_text = config.to_toml()?;
        let resumed = latest.is_some();
        let (mut model, optimizer, state) = match latest {
            Some(path) => {
                let loaded = checkpoint::load::<D, M>(&path, &device, rule);
                let Loaded { model, optimizer, header, config: saved } =
                    loaded.map_err(|error| explained::<D>(error, &config, &plan, &cost, 1))?;
                same_config(&path, &saved, &config)?;
                (model, optimizer, header.state)
            }
            None => {
                let begun = start::begin::<D, M>(&device, &config, &request.data, vocab, rule);
                begun.map_err(|error| explained::<D>(error, &config, &plan, &cost, 1))?
            }
        };
        model.set_compute(config.train().compute());
        if start::grows_first(&state) {
            plan = plan.with_first_growth(&config);
        }
        let run_plan = run_plan(&config, &plan, &cost);
        let console = request.console.then(|| Console::stderr(run_plan.clone(), state.step));
        let (log, seconds) = if resumed {
            RunLog::resume(folder.path(), state.step, Box::new(wall_clock), console)?
        } else {
            // What a killed run wrote before its first checkpoint begins anew.
            remove_logs(folder.path())?;
            let mut log = RunLog::start(folder.path(), Box::new(wall_clock), console)?;
            let (sizes, params) = (model.growing().sizes, model.num_params() as u64);
            log.record(&Record::Start(Start { step: 0, name: config.run().name.clone(), sizes, params }))?;
            (log, 0.0)
        };
        folder.write_config(&config_text)?;
        run_plan.write(folder.path())?;
        let data = request.data.clone();
        let mut trainer =
            Trainer::new(device, config.clone(), plan.clone(), cost, batches, (model, optimizer), state);
        trainer.fault = request.fault;
        let clock = Clock { seconds, since: Instant::now() };
        Ok(Session { folder, trainer, plan, config, config_text, data, log, clock, validation: None })
    }

    /// The trainer as it stands.
    pub fn trainer(&self) -> &Trainer<D, M, B> {
        &self.trainer
    }

    /// Makes the steps that are left, until the last one or until `stop` is set.
    ///
    /// # Errors
    /// What the trainer or the system refuse.
    pub fn run(mut self, stop: &AtomicBool) -> Result<Outcome> {
        let outcome = out_of_memory_as_error("training", || self.finish_or_stop(stop));
        let (trainer, next) = (&self.trainer, self.trainer.state().step + 1);
        outcome.map_err(|error| explained::<D>(error, &self.config, &self.plan, &trainer.cost, next))
    }

    fn finish_or_stop(&mut self, stop: &AtomicBool) -> Result<Outcome> {
        let mut finished = self.trainer.is_done();
        self.clock.since = Instant::now();
        while !finished {
            let (log, clock, plan) = (&mut self.log, &mut self.clock, &self.plan);
            let mut on = |record: Record, waited| clock.take(log, plan, &record, waited);
            self.trainer.advance(&mut on)?;
            let step = self.trainer.state().step;
            finished = self.trainer.is_done();
            let (eval_every, checkpoint_every) = (self.config.eval_every(), self.config.checkpoint_every());
            let boundary = step == self.plan.last_step_of_stage(step);
            let stopping = stop.load(Ordering::Relaxed);
            let (evaluating, saving) =
                (boundary || due(step, eval_every), boundary || stopping || due(step, checkpoint_every));
            if !(evaluating || saving || finished) {
                continue;
            }
            self.trainer.settle(&mut on)?;
            if evaluating {
                self.evaluate()?;
            }
            if finished {
                let State { tokens, flops, .. } = *self.trainer.state();
                self.log.record(&Record::End(End { step, tokens, flops }))?;
            }
            if saving {
                self.save()?;
            }
            // None of this is training.
            self.clock.since = Instant::now();
            if stopping && !finished {
                break;
            }
        }
        let unrepresentable = if finished { self.export()? } else { None };
        let step = self.trainer.state().step;
        let folder = self.folder.path().to_owned();
        Ok(Outcome { folder, step, finished, validation: self.validation, unrepresentable })
    }

    fn evaluate(&mut self) -> Result<()> {
        let State { step, stage, .. } = *self.trainer.state();
        let (train, planned) = (self.config.train(), self.plan.stage_at(step));
        let micro_batch = train.micro_batch.unwrap_or(planned.batch);
        let span = Span { sequences: train.eval_sequences, length: planned.sequence, micro_batch };
        // Where nothing is held out there is nothing to say.
        let held_out = evaluate(self.trainer.model(), &*self.trainer.source, step, span)?;
        // Memory that waits for tensors of an evaluation's shapes.
        self.trainer.device.try_empty_cache().during("evaluation")?;
        let Some(held_out) = held_out else { return Ok(()) };
        let (loss, perplexity) = (held_out.loss(), held_out.perplexity());
        self.validation = Some(loss);
        self.log.record(&Record::Eval(Eval { step, stage, loss, perplexity, accuracy: held_out.accuracy() }))
    }

    fn save(&mut self) -> Result<()> {
        self.log.sync()?;
        let all = self.folder.checkpoints();
        let tokenizer = data_folder(&self.config).join(TOKENIZER);
        let snapshot = Snapshot {
            model: self.trainer.model(),
            optimizer: self.trainer.optimizer(),
            state: self.trainer.state(),
            config: &self.config_text,
            tokenizer: Some(&tokenizer),
        };
        let path = checkpoint::save(&all, &snapshot)?;
        tracing::info!(path = %path.display(), "checkpoint saved");
        let steps = checkpoint::steps(&all)?;
        let actions =
            checkpoint::retention(&steps, self.config.train().keep_last, self.config.train().keep_every);
        for (step, _) in steps.iter().zip(actions).filter(|(_, action)| *action == Action::Remove) {
            checkpoint::remove(&all, *step)?;
        }
        Ok(())
    }

    /// The finished model as transformers reads it, or why it cannot.
    fn export(&self) -> Result<Option<Unrepresentable>> {
        let last = self.folder.last();
        let positions = self.config.model().positions;
        let reason = write_final(self.trainer.model(), positions, self.data.tokenizer(), &last)?;
        if let Some(reason) = reason {
            tracing::warn!(path = %last.display(), "the final model has no config.json: {reason}");
        }
        Ok(reason)
    }
}

/// Removes what a run that was killed before its first checkpoint wrote down.
fn remove_logs(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).at(folder)? {
        let path = entry.at(folder)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if [METRICS, TIMING].contains(&name) || name.starts_with(EVENTS) {
            fs::remove_file(&path).at(&path)?;
        }
    }
    Ok(())
}

fn due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}

/// Entries of the token table: the configuration's, or the tokenizer's.
fn vocabulary(config: &Resolved, data: &Prepared) -> Result<usize> {
    let needed = data.tokenizer().vocab();
    match config.model().vocab {
        Some(vocab) if vocab < needed => Err(Error::Config {
            file: config.run().name.clone(),
            key: "model.vocab".into(),
            expected: format!("at least the tokenizer's {needed}"),
            got: vocab.to_string(),
        }),
        Some(vocab) => Ok(vocab),
        None => Ok(needed),
    }
}

/// Refuses a configuration that contradicts the one that the checkpoint was saved under.
fn same_config(path: &Path, saved: &str, ours: &Resolved) -> Result<()> {
    let saved = config::parse_saved(saved, &path.join(CONFIG).display().to_string())?;
    // Folders are where a run lies, not what it is: it may be moved. How much of a step a device does at once
    // may have to change where memory ran out: the sums stay the same but for rounding.
    let free = ["run.dir", "data.shards", "train.micro_batch", "train.recompute"];
    let mut keys = differing_keys(&saved, ours);
    keys.retain(|key| !free.contains(&key.as_str()));
    if keys.is_empty() {
        return Ok(());
    }
    Err(Error::Checkpoint {
        path: path.to_owned(),
        message: format!("was saved under another configuration: {} differ", keys.join(", ")),
    })
}

fn run_plan(config: &Resolved, plan: &Plan, cost: &Cost) -> RunPlan {
    let stages = plan.stages().iter().map(|stage| StagePlan {
        number: stage.number,
        first_step: stage.first_step,
        steps: stage.steps,
        sizes: stage.sizes,
        sequence: stage.sequence,
        batch: stage.batch,
        params: cost.parameters(stage.sizes),
        flops_per_token: cost.training_flops(stage.sizes, stage.sequence, config.logits()),
        ramp: stage.boundary.map_or(0, |boundary| boundary.ramp.length),
    });
    RunPlan {
        name: config.run().name.clone(),
        family: config.model().family.name().to_owned(),
        stages: stages.collect(),
        total_steps: plan.total_steps(),
    }
}
