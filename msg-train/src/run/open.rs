//! The start of a session: a new run, or one that continues after its last checkpoint.

use super::{Request, RunFolder, clock::Clock, memory::explained, session::Session, start};
use crate::{
    checkpoint::{self, Loaded},
    config::{self, Resolved, differing_keys},
    data::{Batches, Prepared},
    error::{AtPath, Error, Result},
    families::family::{Family, HostOf},
    files::names::{CONFIG, EVENTS, METRICS, TIMING},
    metrics::{Record, RunLog, RunPlan, Sink, StagePlan, Start, sinks::console::Console},
    schedule::plan::Plan,
    step::{running::StepOptions, trainer::Trainer},
};
use msg_core::{Backend, optim::Rule};
use msg_models::Cost;
use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

impl<D: Backend, M: Family<D>, B: Batches<Batch = HostOf<D, M>>> Session<D, M, B> {
    /// Opens a run: a new one, or one that continues after its last checkpoint.
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
        let (mut plan, cost) = (request.plan.clone(), M::cost(&M::config_of(&config, vocab)));
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
        let listeners = console.map(|console| Box::new(console) as Box<dyn Sink>).into_iter().collect();
        let (log, seconds) = if resumed {
            RunLog::resume(folder.path(), state.step, Box::new(wall_clock), listeners)?
        } else {
            // What a run wrote that was killed before its first checkpoint is written again.
            remove_logs(folder.path())?;
            let mut log = RunLog::start(folder.path(), Box::new(wall_clock), listeners)?;
            let (sizes, params) = (model.growing().sizes, model.num_params() as u64);
            log.record(&Record::Start(Start { step: 0, name: config.run().name.clone(), sizes, params }))?;
            (log, 0.0)
        };
        folder.write_config(&config_text)?;
        run_plan.write(folder.path())?;
        let (training_cost, logits) = (cost, config.logits());
        let trainer = Trainer::builder(plan.clone(), model, optimizer, batches)
            .options(StepOptions::of(&config))
            .state(state)
            .flops(move |sizes, sequence| training_cost.training_flops(sizes, sequence, logits))
            .fault(request.fault)
            .build()?;
        let clock = Clock::start(seconds);
        let data = request.data.clone();
        Ok(Session { folder, trainer, plan, cost, config, config_text, data, log, clock, validation: None })
    }
}

/// Seconds since 1970, for TensorBoard's events.
fn wall_clock() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
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
    let families = &[ours.model().family];
    let saved = config::parse_saved(saved, &path.join(CONFIG).display().to_string(), families)?;
    // A run may be moved to another folder. How much of a step a device computes at once may have to change when memory
    // runs out; sums stay the same up to rounding. When a run evaluates and saves does not change what it learns, and
    // the defaults of both have changed.
    let free = [
        "run.dir",
        "data.shards",
        "train.micro_batch",
        "train.recompute",
        "train.eval_every",
        "train.checkpoint_every",
    ];
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
        family: config.model().family.name.to_owned(),
        stages: stages.collect(),
        total_steps: plan.total_steps(),
    }
}
