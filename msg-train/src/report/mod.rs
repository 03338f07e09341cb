//! One page that shows runs: curves, schedule, receipts and a summary, for one run or several.
//!
//! The page is one HTML file without scripts and without anything from outside, so that it can be kept
//! and sent. The plots are SVG written here: labels that avoid each other, gaps where a loss is not finite and two
//! drawings of each plot (wide, and narrow for phones) need full control.
//!
//! `run` reads folders, `series` makes curves, `axis` and `plot` draw, `figures` and `tables` choose what is shown from
//! the [columns](crate::metrics::columns) of the metrics, `page` puts it together. `summary` is the same in a few lines
//! of plain text.

mod axis;
mod figures;
mod html;
mod page;
mod plot;
mod run;
mod series;
mod summary;
mod tables;

pub use summary::{receipt_lines, summary};

use crate::{
    error::{AtPath, Error, Result},
    files::atomic::{folder_of, replace_file},
};
use run::Run;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Writes a page about `runs` (their folders) to the file `out`, and creates the file's folder if needed.
/// A folder needs `metrics.jsonl`; `timing.jsonl`, `plan.json` and `config.toml` add what they hold.
///
/// # Errors
/// Where there is no run, a folder has no metrics, a file is damaged, or the page cannot be written.
pub fn report(runs: &[PathBuf], out: &Path) -> Result<()> {
    if runs.is_empty() {
        let message = "a report needs at least one run's folder, got none".to_owned();
        return Err(Error::Data { path: out.to_path_buf(), message });
    }
    let mut loaded = runs.iter().map(|folder| Run::load(folder)).collect::<Result<Vec<Run>>>()?;
    tell_apart(&mut loaded);
    let text = page::page(&loaded);
    let folder = folder_of(out);
    fs::create_dir_all(folder).at(folder)?;
    replace_file(out, text.as_bytes())
}

/// Numbers runs of the same name.
fn tell_apart(runs: &mut [Run]) {
    for at in 1..runs.len() {
        let before = runs[..at].iter().filter(|run| run.given_name == runs[at].given_name).count();
        if before > 0 {
            runs[at].name = format!("{} ({})", runs[at].given_name, before + 1);
        }
    }
}

#[cfg(test)]
mod tests;
