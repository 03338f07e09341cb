//! Event files that TensorBoard reads: a run's scalars, written by ourselves.
//!
//! The format is small and frozen: TFRecord frames (tensorflow/core/lib/io/record_writer.cc) around the
//! protobuf message `Event` (tensorflow/core/util/event.proto), of which scalars need seven fields. The
//! crates that write it pull in a protobuf generator and read the clock and host name themselves.
//!
//! A resumed run goes on in a file of its own that begins with TensorBoard's own mark of a restart, so
//! that a TensorBoard which is open meanwhile drops what it showed beyond the checkpoint.

mod frame;
mod message;

use crate::metrics::{Record, StepTiming};
use crate::{
    error::{AtPath, Result},
    files::names::EVENTS,
};
use frame::Frames;
use message::Event;
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

/// Seconds since 1970, from whoever has a clock.
pub type WallClock = Box<dyn Fn() -> f64 + Send>;

/// Appends scalars to an event file.
pub struct TensorBoardWriter {
    path: PathBuf,
    file: File,
    clock: WallClock,
}

impl TensorBoardWriter {
    /// Begins a run's first file in `folder`.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn start(folder: &Path, clock: WallClock) -> Result<Self> {
        Self::open(folder, clock, None)
    }

    /// Cuts off everything beyond `step` and goes on in a new file.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn resume(folder: &Path, step: u64, clock: WallClock) -> Result<Self> {
        truncate_after(folder, step)?;
        Self::open(folder, clock, Some(step))
    }

    fn open(folder: &Path, clock: WallClock, resumed: Option<u64>) -> Result<Self> {
        let now = clock();
        // TensorBoard reads a folder's files in the order of their names, so names must rise.
        let last = event_files(folder)?.iter().filter_map(|path| number(path)).max();
        let number = last.map_or(now.max(0.0) as u64, |last| (now.max(0.0) as u64).max(last + 1));
        let path = folder.join(format!("{EVENTS}{number:010}.msg"));
        let file = OpenOptions::new().create_new(true).append(true).open(&path).at(&path)?;
        let mut writer = TensorBoardWriter { path, file, clock };
        writer.event(&Event::version(now))?;
        if let Some(step) = resumed {
            writer.event(&Event::restart(now, step + 1))?;
        }
        Ok(writer)
    }

    /// Writes the scalars of a record.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn record(&mut self, record: &Record) -> Result<()> {
        match record {
            Record::Step(step) => {
                let scalars = [
                    ("loss/train", step.loss),
                    ("schedule/lr", step.lr as f32),
                    ("grad_norm", step.grad_norm),
                    ("schedule/mask", step.mask),
                    ("schedule/stage", step.stage as f32),
                ];
                self.scalars(step.step, &scalars)
            }
            Record::Eval(eval) => {
                let mut scalars =
                    vec![("loss/val", eval.loss as f32), ("val/perplexity", eval.perplexity as f32)];
                if let Some(heads) = eval.accuracy {
                    scalars.push(("val/mlm_accuracy", heads.mlm as f32));
                    scalars.push(("val/nsp_accuracy", heads.nsp as f32));
                }
                self.scalars(eval.step, &scalars)
            }
            Record::Growth(growth) => {
                self.scalars(growth.step, &[("receipt/max_dlogit", growth.receipt.max_dlogit as f32)])
            }
            Record::RampEnd(end) => {
                self.scalars(end.step, &[("receipt/max_dlogit", end.receipt.max_dlogit as f32)])
            }
            Record::Start(_) | Record::End(_) => Ok(()),
        }
    }

    /// Writes a step's speed.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn timing(&mut self, timing: &StepTiming) -> Result<()> {
        self.scalars(timing.step, &[("tokens_per_second", timing.tokens_per_second as f32)])
    }

    /// Waits until all events are on the disk.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().at(&self.path)
    }

    fn scalars(&mut self, step: u64, scalars: &[(&str, f32)]) -> Result<()> {
        let now = (self.clock)();
        self.event(&Event::scalars(now, step, scalars))
    }

    fn event(&mut self, event: &Event) -> Result<()> {
        self.file.write_all(&frame::framed(&event.encode())).at(&self.path)
    }
}

/// Cuts off, in every event file of a folder, the events whose step is beyond `step` and a broken last
/// event. A file that holds nothing else afterwards is removed. Each file's cut is one change of its
/// length, and doing it twice is doing it once, so a kill in between does no harm.
///
/// # Errors
/// Where the system refuses.
pub fn truncate_after(folder: &Path, step: u64) -> Result<()> {
    for path in event_files(folder)? {
        let bytes = fs::read(&path).at(&path)?;
        let mut keep = 0;
        let mut scalars = false;
        let mut frames = Frames::new(&bytes);
        for payload in &mut frames {
            let Some(event) = Event::decode(payload) else { break };
            if event.step > step {
                break;
            }
            keep += payload.len() + frame::OVERHEAD;
            scalars |= !event.scalars.is_empty();
        }
        if !scalars {
            fs::remove_file(&path).at(&path)?;
        } else if keep < bytes.len() {
            let file = OpenOptions::new().write(true).open(&path).at(&path)?;
            file.set_len(keep as u64).at(&path)?;
            file.sync_all().at(&path)?;
        }
    }
    Ok(())
}

/// Our event files of a folder, in the order of their names.
fn event_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).at(folder)? {
        let path = entry.at(folder)?.path();
        if number(&path).is_some() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The number in an event file's name; none for files that are not ours.
fn number(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(EVENTS)?.strip_suffix(".msg")?.parse().ok()
}

#[cfg(test)]
mod tests;
