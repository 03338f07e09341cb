//! Sources of the crates that Cargo.lock names: text on every machine that has built the project.

use super::{
    cargo::CargoFolders,
    files::{Files, walk},
    kind::Source,
};
use crate::{config::DataConfig, error::Result};

/// The files of a crate that are read.
const ENDINGS: [&str; 2] = ["rs", "md"];

/// The crates of `data.crates`, in the order written.
pub(super) fn open(config: &DataConfig, cargo: &CargoFolders) -> Result<Box<dyn Source>> {
    let mut files = Vec::new();
    for name in &config.crates {
        walk(&cargo.find(name)?, &ENDINGS, &mut files)?;
    }
    Ok(Box::new(Files::new(files, config, &cargo.lock, &ENDINGS)?))
}
