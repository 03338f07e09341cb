//! The log of a run: hands everything to its listeners, and resumes their files.

use super::{
    Damage, METRICS, Record, StepTiming, TIMING,
    sink::Sink,
    sinks::{
        jsonl::{self, JsonlFiles},
        tensorboard::{TensorBoardWriter, WallClock},
    },
};
use crate::error::Result;
use std::path::Path;

/// Hands what a run reports to its files, and to listeners besides.
pub struct RunLog {
    sinks: Vec<Box<dyn Sink>>,
}

impl RunLog {
    /// Begins the files of a new run in `folder`, which must exist.
    pub fn start(folder: &Path, clock: WallClock, listeners: Vec<Box<dyn Sink>>) -> Result<Self> {
        let files = JsonlFiles::append(folder)?;
        Ok(Self::new(files, TensorBoardWriter::start(folder, clock)?, listeners))
    }

    /// Continues the files after the checkpoint of `step`: what was written beyond it is cut off. Also returns the
    /// seconds of training up to there, from which the run counts on; 0 where none are on file.
    ///
    /// # Errors
    /// Where a file is damaged, or lines up to `step` are missing. A folder from which
    /// `metrics.jsonl` was removed altogether begins a new one.
    pub fn resume(
        folder: &Path,
        step: u64,
        clock: WallClock,
        listeners: Vec<Box<dyn Sink>>,
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
        let files = JsonlFiles::append(folder)?;
        let log = Self::new(files, TensorBoardWriter::resume(folder, step, clock)?, listeners);
        Ok((log, seconds))
    }

    fn new(files: JsonlFiles, events: TensorBoardWriter, listeners: Vec<Box<dyn Sink>>) -> Self {
        let mut sinks: Vec<Box<dyn Sink>> = vec![Box::new(files), Box::new(events)];
        sinks.extend(listeners);
        RunLog { sinks }
    }

    /// Takes a record.
    pub fn record(&mut self, record: &Record) -> Result<()> {
        self.sinks.iter_mut().try_for_each(|sink| sink.record(record))
    }

    /// Takes a step's clock readings, after its record.
    pub fn timing(&mut self, timing: &StepTiming) -> Result<()> {
        self.sinks.iter_mut().try_for_each(|sink| sink.timing(timing))
    }

    /// Waits until everything is on the disk. To be called before a checkpoint's marker is written.
    pub fn sync(&mut self) -> Result<()> {
        self.sinks.iter_mut().try_for_each(|sink| sink.sync())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Step;
    use std::fs;

    fn run(log: &mut RunLog, steps: std::ops::RangeInclusive<u64>, mut seconds: f64) {
        for step in steps {
            let record =
                Step { step, stage: 1, loss: 3.0, tokens: step * 8, flops: step as f64, ..Step::default() };
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
        run(&mut RunLog::start(whole.path(), clock(), Vec::new()).unwrap(), 1..=6, 0.0);
        run(&mut RunLog::start(broken.path(), clock(), Vec::new()).unwrap(), 1..=5, 0.0);
        let (mut log, seconds) = RunLog::resume(broken.path(), 3, clock(), Vec::new()).unwrap();
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
        run(&mut RunLog::start(folder.path(), clock(), Vec::new()).unwrap(), 1..=2, 0.0);
        let error = RunLog::resume(folder.path(), 3, clock(), Vec::new()).err().unwrap().to_string();
        assert!(error.contains("of step 2, but the checkpoint of step 3"), "{error}");
        fs::remove_file(folder.path().join(METRICS)).unwrap();
        assert!(RunLog::resume(folder.path(), 3, clock(), Vec::new()).is_ok());
    }
}
