//! Everything that listens to a run, behind one door.

use super::{
    Damage, METRICS, Record, StepTiming, TIMING,
    sinks::{
        console::Console,
        jsonl::{self, JsonlWriter},
        tensorboard::{TensorBoardWriter, WallClock},
    },
};
use crate::error::Result;
use std::path::Path;

/// Hands records to the run's files and to the person in front of it.
pub struct RunLog {
    metrics: JsonlWriter,
    timing: JsonlWriter,
    tensorboard: TensorBoardWriter,
    console: Option<Console>,
}

impl RunLog {
    /// Begins the files of a new run in `folder`, which must exist.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn start(folder: &Path, clock: WallClock, console: Option<Console>) -> Result<Self> {
        Ok(RunLog {
            metrics: JsonlWriter::append(folder.join(METRICS))?,
            timing: JsonlWriter::append(folder.join(TIMING))?,
            tensorboard: TensorBoardWriter::start(folder, clock)?,
            console,
        })
    }

    /// Goes on after the checkpoint of `step`: what was written beyond it is cut off. Also gives the
    /// seconds of training up to there, from which the run counts on; 0 where none are on file.
    ///
    /// # Errors
    /// Where the system refuses, a file is damaged, or lines up to `step` are missing. A folder from which
    /// `metrics.jsonl` was removed altogether begins a new one.
    pub fn resume(
        folder: &Path,
        step: u64,
        clock: WallClock,
        console: Option<Console>,
    ) -> Result<(Self, f64)> {
        let (metrics, timing) = (folder.join(METRICS), folder.join(TIMING));
        let existed = metrics.exists();
        let cut = jsonl::truncate_after(&metrics, step)?;
        let last = cut.last_step.unwrap_or(0);
        if existed && last < step {
            return Err(Damage::Short { last, step }.of(metrics));
        }
        jsonl::truncate_after(&timing, step)?;
        let seconds = match timing.exists() {
            true => jsonl::read::<StepTiming>(&timing)?.last().map_or(0.0, |last| last.seconds),
            false => 0.0,
        };
        let log = RunLog {
            metrics: JsonlWriter::append(metrics)?,
            timing: JsonlWriter::append(timing)?,
            tensorboard: TensorBoardWriter::resume(folder, step, clock)?,
            console,
        };
        Ok((log, seconds))
    }

    /// Takes down a record.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn record(&mut self, record: &Record) -> Result<()> {
        self.metrics.write(record)?;
        self.tensorboard.record(record)?;
        if let Some(console) = &mut self.console {
            console.record(record);
        }
        Ok(())
    }

    /// Takes down a step's clock readings, after its record.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn timing(&mut self, timing: &StepTiming) -> Result<()> {
        self.timing.write(timing)?;
        self.tensorboard.timing(timing)?;
        if let Some(console) = &mut self.console {
            console.timing(timing);
        }
        Ok(())
    }

    /// Says something to the person, without a trace in the files.
    pub fn say(&mut self, text: &str) {
        if let Some(console) = &mut self.console {
            console.say(text);
        }
    }

    /// Waits until everything is on the disk: to be called before a checkpoint's marker is written.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn sync(&self) -> Result<()> {
        self.metrics.sync()?;
        self.timing.sync()?;
        self.tensorboard.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Step;
    use std::fs;

    fn run(log: &mut RunLog, steps: std::ops::RangeInclusive<u64>, mut seconds: f64) {
        for step in steps {
            let record = Step {
                step,
                stage: 1,
                loss: 3.0,
                lr: 0.1,
                grad_norm: 1.0,
                mask: 1.0,
                tokens: step * 8,
                flops: step as f64,
                skipped: false,
            };
            log.record(&Record::Step(record)).unwrap();
            seconds += 0.5;
            let timing =
                StepTiming { step, seconds, step_seconds: 0.5, data_seconds: 0.0, tokens_per_second: 16.0 };
            log.timing(&timing).unwrap();
        }
        log.sync().unwrap();
    }

    fn clock() -> WallClock {
        Box::new(|| 1.0)
    }

    #[test]
    fn a_killed_and_resumed_run_writes_the_same_bytes_as_an_unbroken_one() {
        let (whole, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        run(&mut RunLog::start(whole.path(), clock(), None).unwrap(), 1..=6, 0.0);
        run(&mut RunLog::start(broken.path(), clock(), None).unwrap(), 1..=5, 0.0);
        let (mut log, seconds) = RunLog::resume(broken.path(), 3, clock(), None).unwrap();
        assert_eq!(seconds, 1.5);
        run(&mut log, 4..=6, seconds);
        for file in [METRICS, TIMING] {
            let read = |folder: &Path| fs::read(folder.join(file)).unwrap();
            assert_eq!(read(broken.path()), read(whole.path()), "{file}");
        }
    }

    #[test]
    fn a_resume_with_missing_lines_is_refused_with_both_steps_unless_the_file_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        run(&mut RunLog::start(folder.path(), clock(), None).unwrap(), 1..=2, 0.0);
        let error = RunLog::resume(folder.path(), 3, clock(), None).err().unwrap().to_string();
        assert!(error.contains("of step 2, but the checkpoint of step 3"), "{error}");
        fs::remove_file(folder.path().join(METRICS)).unwrap();
        assert!(RunLog::resume(folder.path(), 3, clock(), None).is_ok());
    }
}
