//! A run in progress: the loop that steps, evaluates and saves.

use super::{RunFolder, clock::Clock, memory::explained};
use crate::{
    checkpoint::{self, Action, Snapshot},
    config::Resolved,
    data::{Batches, Prepared, open::data_folder},
    error::Result,
    families::{
        family::{Family, HostOf},
        held_out::{Span, evaluate},
    },
    files::names::TOKENIZER,
    interop::write_hf_folder,
    metrics::{End, Eval, Record, RunLog},
    schedule::plan::Plan,
    step::{events::Event, state::State, trainer::Trainer},
};
use msg_core::{Backend, device::out_of_memory_as_error, error::Context, growth::Operator};
use msg_models::{Cost, hf::Unrepresentable};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Its folder.
    pub folder: PathBuf,
    /// Steps made.
    pub step: u64,
    /// Whether all steps are made; otherwise it was asked to stop and can be resumed.
    pub finished: bool,
    /// The last held-out loss.
    pub validation: Option<f64>,
    /// Why the finished model stands without a configuration for transformers, where it does.
    pub unrepresentable: Option<Unrepresentable>,
}

/// A run under way.
pub struct Session<D: Backend, M: Family<D>, B> {
    pub(super) folder: RunFolder,
    pub(super) trainer: Trainer<D, M, B>,
    pub(super) plan: Plan,
    pub(super) cost: Cost,
    pub(super) config: Resolved,
    pub(super) config_text: String,
    pub(super) data: Arc<Prepared>,
    pub(super) log: RunLog,
    pub(super) clock: Clock,
    /// The last held-out loss.
    pub(super) validation: Option<f64>,
}

impl<D: Backend, M: Family<D>, B: Batches<Batch = HostOf<D, M>>> Session<D, M, B> {
    /// The trainer.
    pub fn trainer(&self) -> &Trainer<D, M, B> {
        &self.trainer
    }

    /// Grows the model by this operator, instead of those that the configuration names.
    #[must_use]
    pub fn with_operator(mut self, operator: impl Operator<D> + Send + Sync + 'static) -> Self {
        self.trainer.run.operator = Some(Box::new(operator));
        self
    }

    /// Makes the steps that are left, until the last one or until `stop` is set.
    ///
    /// # Errors
    /// What the trainer or the system refuse.
    pub fn run(mut self, stop: &AtomicBool) -> Result<Outcome> {
        let outcome = out_of_memory_as_error("training", || self.finish_or_stop(stop));
        let next = self.trainer.state().step + 1;
        outcome.map_err(|error| explained::<D>(error, &self.config, &self.plan, &self.cost, next))
    }

    fn finish_or_stop(&mut self, stop: &AtomicBool) -> Result<Outcome> {
        let mut finished = self.trainer.is_done();
        self.clock.skip();
        while !finished {
            let (log, clock, plan) = (&mut self.log, &mut self.clock, &self.plan);
            let mut on = |event: Event| clock.log(log, plan, &event);
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
            self.clock.skip();
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
        self.trainer.run.device.try_empty_cache().during("evaluation")?;
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
        let reason = write_hf_folder(self.trainer.model(), positions, Some(self.data.tokenizer()), &last)?;
        if let Some(reason) = reason {
            tracing::warn!(path = %last.display(), "the final model has no config.json: {reason}");
        }
        Ok(reason)
    }
}

fn due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}
