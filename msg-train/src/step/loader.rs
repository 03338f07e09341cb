//! The host batches of whole optimizer steps, made ahead of the trainer.

use crate::{
    data::{Batches, Loaded, Loader},
    error::Result,
    schedule::plan::Plan,
    step::state::State,
};
use std::{sync::Arc, time::Duration};

/// Steps that the loader is ahead: one to take, one under way.
const AHEAD: usize = 2;

/// The micro-batches of one step after another.
#[derive(Debug)]
pub(crate) struct Feed<H> {
    loader: Loader<Vec<H>>,
}

/// What one step works on.
#[derive(Debug)]
pub(crate) struct StepData<H> {
    /// Its micro-batches, in order.
    pub hosts: Vec<H>,
    /// The place in the data after it.
    pub cursor: u64,
    /// How long it was waited for.
    pub waited: Duration,
}

impl<H: Send + 'static> Feed<H> {
    /// Starts with the step after `state`; the plan says what each step holds. Micro-batches have `micro`
    /// sequences, or all of the step's.
    pub fn start<S: Batches<Batch = H>>(
        source: Arc<S>,
        plan: Plan,
        micro: Option<usize>,
        state: &State,
    ) -> Result<Self> {
        let mut step = state.step;
        let make = move |mut cursor| {
            step += 1;
            if step > plan.total_steps() {
                return Ok(None);
            }
            let stage = plan.stage_at(step);
            let micro = micro.unwrap_or(stage.batch);
            let mut hosts = Vec::with_capacity(stage.batch / micro);
            for _ in 0..stage.batch / micro {
                hosts.push(source.batch(cursor, micro, stage.sequence)?);
                cursor = source.advance(cursor, micro, stage.sequence);
            }
            Ok(Some((hosts, cursor)))
        };
        Ok(Feed { loader: Loader::start(state.cursor, AHEAD, make)? })
    }

    /// What the next step works on; `None` after the plan's last one.
    ///
    /// # Errors
    /// Those of making it, when its turn comes.
    pub fn next_step(&mut self) -> Result<Option<StepData<H>>> {
        let before = self.loader.waited();
        let loaded = self.loader.next_batch()?;
        let waited = self.loader.waited() - before;
        Ok(loaded.map(|Loaded { batch: hosts, next: cursor, .. }| StepData { hosts, cursor, waited }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::testing::small, error::Error};

    /// Batches that are their own place; those from `end` on cannot be made.
    struct Numbers {
        end: u64,
    }

    impl Batches for Numbers {
        type Batch = (u64, usize, usize);

        fn batch(&self, cursor: u64, sequences: usize, length: usize) -> Result<Self::Batch> {
            match cursor {
                cursor if cursor < self.end => Ok((cursor, sequences, length)),
                _ => Err(Error::Receipt(format!("no batch at {cursor}"))),
            }
        }

        fn advance(&self, cursor: u64, sequences: usize, length: usize) -> u64 {
            cursor + (sequences * length) as u64
        }

        fn held_out(&self, _: usize, _: usize, _: usize) -> Result<Option<Self::Batch>> {
            Ok(None)
        }

        fn held_out_sequences(&self, _: usize) -> Result<usize> {
            Ok(0)
        }
    }

    /// Two steps of 4 sequences of 10 tokens, two of 2 of 20.
    fn plan() -> Plan {
        let more = "[[stage]]\nsteps = 2\nsequence = 20\nbatch = 2";
        Plan::new(&small(more, &["stage.1.steps=2", "stage.1.sequence=10"]))
    }

    #[test]
    fn every_step_has_the_micro_batches_that_the_plan_says_from_any_step_on() {
        let whole: [(&[_], u64); 4] = [
            (&[(0, 2, 10), (20, 2, 10)], 40),
            (&[(40, 2, 10), (60, 2, 10)], 80),
            (&[(80, 2, 20)], 120),
            (&[(120, 2, 20)], 160),
        ];
        for first in 0..=whole.len() {
            let state = State { step: first as u64, cursor: 40 * first as u64, ..State::default() };
            let mut feed = Feed::start(Arc::new(Numbers { end: 160 }), plan(), Some(2), &state).unwrap();
            for (hosts, cursor) in &whole[first..] {
                let data = feed.next_step().unwrap().unwrap();
                assert_eq!((&data.hosts[..], data.cursor), (*hosts, *cursor));
            }
            assert!(feed.next_step().unwrap().is_none());
        }
        let mut feed = Feed::start(Arc::new(Numbers { end: 160 }), plan(), None, &State::default()).unwrap();
        assert_eq!(feed.next_step().unwrap().unwrap().hosts, [(0, 4, 10)]);
    }

    #[test]
    fn an_error_comes_in_the_step_that_it_belongs_to() {
        let mut feed =
            Feed::start(Arc::new(Numbers { end: 60 }), plan(), Some(2), &State::default()).unwrap();
        assert_eq!(feed.next_step().unwrap().unwrap().cursor, 40);
        assert_eq!(feed.next_step().unwrap_err().to_string(), "no batch at 60");
    }

    #[test]
    fn no_thread_outlives_its_feed() {
        let source = Arc::new(Numbers { end: 160 });
        for taken in 0..4 {
            let mut feed = Feed::start(source.clone(), plan(), Some(1), &State::default()).unwrap();
            for _ in 0..taken {
                feed.next_step().unwrap();
            }
            drop(feed);
            // The thread held the other reference.
            assert_eq!(Arc::strong_count(&source), 1);
        }
    }
}
