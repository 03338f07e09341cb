//! Event files that TensorBoard reads: the numbers of a run that have a tag.
//!
//! The format is small and frozen: TFRecord frames (tensorflow/core/lib/io/record_writer.cc) around the
//! protobuf message `Event` (tensorflow/core/util/event.proto), of which scalars need seven fields. The
//! crates that write it pull in a protobuf generator and read the clock and host name themselves.
//!
//! A resumed run writes a new file that begins with TensorBoard's mark of a restart: a TensorBoard that is open
//! drops what it showed beyond the checkpoint.

mod frame;
mod message;

use crate::metrics::{
    columns::{Column, EVAL_COLUMNS, STEP_COLUMNS, StepTiming, TIMING_COLUMNS},
    record::{Receipt, Record},
    sink::Sink,
};
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

/// The time in seconds since 1970.
pub type WallClock = Box<dyn Fn() -> f64 + Send>;

/// Appends scalars to an event file.
pub struct TensorBoardWriter {
    path: PathBuf,
    file: File,
    clock: WallClock,
}

impl TensorBoardWriter {
    /// Begins a run's first file in `folder`.
    pub fn start(folder: &Path, clock: WallClock) -> Result<Self> {
        Self::open(folder, clock, None)
    }

    /// Cuts off everything beyond `step` and begins a new file.
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

    /// Writes the numbers that have a tag.
    fn scalars<R>(
        &mut self,
        step: u64,
        columns: &[Column<R>],
        record: &R,
        more: &[(&str, f32)],
    ) -> Result<()> {
        let tagged = |column: &Column<R>| Some((column.tag?, (column.value)(record)? as f32));
        let mut scalars: Vec<(&str, f32)> = columns.iter().filter_map(tagged).collect();
        scalars.extend(more);
        let now = (self.clock)();
        self.event(&Event::scalars(now, step, &scalars))
    }

    fn event(&mut self, event: &Event) -> Result<()> {
        self.file.write_all(&frame::framed(&event.encode())).at(&self.path)
    }
}

impl Sink for TensorBoardWriter {
    fn record(&mut self, record: &Record) -> Result<()> {
        let receipt = |receipt: &Receipt| [("receipt/max_dlogit", receipt.max_dlogit as f32)];
        match record {
            Record::Step(step) => {
                self.scalars(step.step, STEP_COLUMNS, step, &[("schedule/stage", step.stage as f32)])
            }
            Record::Eval(eval) => self.scalars(eval.step, EVAL_COLUMNS, eval, &[]),
            Record::Growth(growth) => self.scalars(growth.step, &[], growth, &receipt(&growth.receipt)),
            Record::RampEnd(end) => self.scalars(end.step, &[], end, &receipt(&end.receipt)),
            Record::Start(_) | Record::End(_) => Ok(()),
        }
    }

    fn timing(&mut self, timing: &StepTiming) -> Result<()> {
        self.scalars(timing.step, TIMING_COLUMNS, timing, &[])
    }

    fn sync(&mut self) -> Result<()> {
        self.file.sync_data().at(&self.path)
    }
}

/// Cuts off, in every event file of a folder, the events whose step is beyond `step` and a broken last
/// event. A file that holds nothing else afterwards is removed. Each file's cut is one change of its
/// length, and a second cut changes nothing, so a kill in between does no harm.
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
