//! Files of one JSON object a line, which only grow during a run.
//!
//! A line is whole once its newline is there. A killed writer can leave one broken line, the last.

use crate::{
    error::{AtPath, Result},
    files::names::{METRICS, TIMING},
    metrics::{Damage, columns::StepTiming, record::Record, sink::Sink},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, ErrorKind, Write},
    path::{Path, PathBuf},
};

/// Appends lines to a file.
#[derive(Debug)]
pub struct JsonlWriter {
    path: PathBuf,
    file: File,
    line: Vec<u8>,
}

impl JsonlWriter {
    /// Opens a file for appending and creates it if it does not exist. [`truncate_after`] must have removed a broken
    /// last line.
    pub fn append(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let file = OpenOptions::new().create(true).append(true).open(&path).at(&path)?;
        Ok(JsonlWriter { path, file, line: Vec::new() })
    }

    /// Writes one line. The system has all of it when this returns: a kill loses nothing.
    pub fn write<T: Serialize>(&mut self, record: &T) -> Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, record).map_err(std::io::Error::from).at(&self.path)?;
        self.line.push(b'\n');
        // One call: a kill between two could separate the line from its newline.
        self.file.write_all(&self.line).at(&self.path)
    }

    /// Waits until all lines are on the disk.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().at(&self.path)
    }
}

/// The files of a run's records and clock readings.
#[derive(Debug)]
pub struct JsonlFiles {
    metrics: JsonlWriter,
    timing: JsonlWriter,
}

impl JsonlFiles {
    /// Opens the files of the run in `folder` for appending.
    pub fn append(folder: &Path) -> Result<Self> {
        let [metrics, timing] = [METRICS, TIMING].map(|name| JsonlWriter::append(folder.join(name)));
        Ok(JsonlFiles { metrics: metrics?, timing: timing? })
    }
}

impl Sink for JsonlFiles {
    fn record(&mut self, record: &Record) -> Result<()> {
        self.metrics.write(record)
    }

    fn timing(&mut self, timing: &StepTiming) -> Result<()> {
        self.timing.write(timing)
    }

    fn sync(&mut self) -> Result<()> {
        self.metrics.sync()?;
        self.timing.sync()
    }
}

/// What [`truncate_after`] kept and cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Lines that stay.
    pub kept_lines: u64,
    /// Step of the last of them; none where none stays.
    pub last_step: Option<u64>,
    /// Bytes cut off, a broken last line included.
    pub cut_bytes: u64,
}

/// The part of a line that [`truncate_after`] reads.
#[derive(Deserialize)]
struct Dated {
    step: u64,
}

/// Cuts off all lines whose step is beyond `step`, and a broken last line. The cut is one change of the file's
/// length, so a kill leaves either the old file or the new one. A missing file stays missing.
///
/// # Errors
/// Where a line before the cut is no record, or steps fall.
pub fn truncate_after(path: &Path, step: u64) -> Result<Cut> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Cut::default()),
        other => other.at(path)?,
    };
    let mut cut = Cut::default();
    let mut keep = 0;
    let mut lines = Lines::new(&file, path);
    while let Some(line) = lines.next_whole()? {
        let Some(Dated { step: of_line }) = lines.parse(&line)? else { break };
        if let Some(before) = cut.last_step.filter(|before| *before > of_line) {
            return Err(Damage::Order { line: lines.number, step: of_line, before }.of(path));
        }
        if of_line > step {
            break;
        }
        keep += line.len() as u64;
        cut.kept_lines += 1;
        cut.last_step = Some(of_line);
    }
    drop(lines);
    let length = file.metadata().at(path)?.len();
    cut.cut_bytes = length - keep;
    if cut.cut_bytes > 0 {
        file.set_len(keep).at(path)?;
        file.sync_all().at(path)?;
    }
    Ok(cut)
}

/// All records of a file. A broken last line is skipped: the run was killed, or is writing it now.
///
/// # Errors
/// Where a line before the last is no record.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let file = File::open(path).at(path)?;
    let mut lines = Lines::new(&file, path);
    let mut records = Vec::new();
    while let Some(line) = lines.next_whole()? {
        let Some(record) = lines.parse(&line)? else { break };
        records.push(record);
    }
    Ok(records)
}

/// Whole lines of a file.
struct Lines<'a> {
    reader: BufReader<&'a File>,
    path: &'a Path,
    number: u64,
}

impl<'a> Lines<'a> {
    fn new(file: &'a File, path: &'a Path) -> Self {
        Lines { reader: BufReader::new(file), path, number: 0 }
    }

    /// The next line with its newline; none at the end or where the newline is missing.
    fn next_whole(&mut self) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line).at(self.path)?;
        self.number += 1;
        Ok(line.ends_with(b"\n").then_some(line))
    }

    /// The record of a line; none for a broken last line. After a power cut a file may end in zeros that hold a
    /// newline.
    fn parse<T: DeserializeOwned>(&mut self, line: &[u8]) -> Result<Option<T>> {
        match serde_json::from_slice(line) {
            Ok(record) => Ok(Some(record)),
            Err(_) if self.reader.fill_buf().at(self.path)?.is_empty() => Ok(None),
            Err(error) => {
                let got = String::from_utf8_lossy(line).trim_end().chars().take(60).collect();
                Err(Damage::Line { line: self.number, expected: error.to_string(), got }.of(self.path))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{End, Record};
    use std::fs;

    fn record(step: u64) -> Record {
        Record::End(End { step, tokens: step * 10, flops: 0.5 })
    }

    /// A file with these steps, and where each line ends.
    fn file(folder: &Path, steps: &[u64]) -> (PathBuf, Vec<usize>) {
        let path = folder.join("metrics.jsonl");
        let _ = fs::remove_file(&path);
        let mut writer = JsonlWriter::append(&path).unwrap();
        let ends = steps.iter().map(|step| {
            writer.write(&record(*step)).unwrap();
            fs::metadata(&path).unwrap().len() as usize
        });
        let ends = ends.collect();
        (path, ends)
    }

    #[test]
    fn a_file_cut_at_any_byte_by_a_kill_keeps_exactly_its_whole_lines_up_to_the_step() {
        let folder = tempfile::tempdir().unwrap();
        let steps = [0, 1, 1, 3];
        let (path, ends) = file(folder.path(), &steps);
        let whole = fs::read(&path).unwrap();
        for length in 0..=whole.len() {
            // The step goes round with the length, since every cut waits for the disk.
            let step = length as u64 % 5;
            fs::write(&path, &whole[..length]).unwrap();
            let cut = truncate_after(&path, step).unwrap();
            let kept = (0..steps.len()).take_while(|&i| ends[i] <= length && steps[i] <= step).count();
            let keep = kept.checked_sub(1).map_or(0, |last| ends[last]);
            assert_eq!(fs::read(&path).unwrap(), &whole[..keep], "length {length}, step {step}");
            assert_eq!(cut.kept_lines, kept as u64);
            assert_eq!(cut.cut_bytes, (length - keep) as u64);
            assert_eq!(cut.last_step, kept.checked_sub(1).map(|last| steps[last]));
            fs::write(&path, &whole[..length]).unwrap();
            let kept = ends.iter().filter(|end| **end <= length).count();
            let expected: Vec<Record> = steps[..kept].iter().map(|step| record(*step)).collect();
            assert_eq!(read::<Record>(&path).unwrap(), expected, "length {length}");
        }
    }

    #[test]
    fn a_resumed_writer_makes_the_same_bytes_as_an_unbroken_one() {
        let folder = tempfile::tempdir().unwrap();
        let (path, ends) = file(folder.path(), &[1, 2, 3, 4]);
        let whole = fs::read(&path).unwrap();
        for length in ends[1]..=whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            truncate_after(&path, 2).unwrap();
            let mut writer = JsonlWriter::append(&path).unwrap();
            writer.write(&record(3)).unwrap();
            writer.write(&record(4)).unwrap();
            writer.sync().unwrap();
            assert_eq!(fs::read(&path).unwrap(), whole, "length {length}");
        }
    }

    #[test]
    fn a_missing_file_stays_missing_when_cut_and_is_an_error_when_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none.jsonl");
        assert_eq!(truncate_after(&path, 3).unwrap(), Cut::default());
        assert!(!path.exists());
        assert!(matches!(read::<Record>(&path), Err(crate::Error::Io { .. })));
    }

    #[test]
    fn a_broken_line_in_the_middle_is_refused_by_its_number_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (path, ends) = file(folder.path(), &[1, 2, 3]);
        let mut bytes = fs::read(&path).unwrap();
        bytes[ends[0] + 3] = 0;
        fs::write(&path, &bytes).unwrap();
        for error in [truncate_after(&path, 3).unwrap_err(), read::<Record>(&path).unwrap_err()] {
            assert!(error.to_string().contains("line 2: expected"), "{error}");
        }
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn a_last_line_of_zeros_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let (path, ends) = file(folder.path(), &[1, 2, 3]);
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[ends[1]..last].fill(0);
        fs::write(&path, &bytes).unwrap();
        assert_eq!(truncate_after(&path, 3).unwrap().last_step, Some(2));
        assert_eq!(fs::read(&path).unwrap(), &bytes[..ends[1]]);
    }

    #[test]
    fn steps_that_fall_are_refused_with_both_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = file(folder.path(), &[1, 5, 4]);
        let error = truncate_after(&path, 9).unwrap_err().to_string();
        assert!(error.contains("line 3: step 4 after step 5"), "{error}");
    }
}
