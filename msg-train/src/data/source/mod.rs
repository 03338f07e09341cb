//! Where text comes from. A new source is a file here, a row in [`KINDS`], and its key in `DataConfig` (config/data.rs).

mod cargo;
mod crates;
mod field;
mod files;
mod kind;
mod read;

pub use cargo::CargoFolders;
pub(super) use kind::{Piece, Source};

use crate::{
    config::DataConfig,
    error::{Error, Result},
};

/// Opens a source: finds what it reads, and refuses what is not there.
type Open = fn(&DataConfig, &CargoFolders) -> Result<Box<dyn Source>>;

/// The kinds of sources by the key of `[data]` that asks for one.
const KINDS: &[(&str, Open)] = &[("sources", files::open), ("crates", crates::open)];

/// The source that a configuration asks for.
///
/// # Errors
/// Where it asks for none or for several, or the source refuses.
pub(super) fn open(config: &DataConfig, cargo: &CargoFolders) -> Result<Box<dyn Source>> {
    let refused = |got: String| Error::Config {
        file: "configuration".into(),
        key: "data.sources".into(),
        expected: DataConfig::one_source(),
        got,
    };
    let key = config.source().map_err(refused)?;
    let kind = KINDS.iter().find(|(name, _)| *name == key);
    let (_, open) = kind.ok_or_else(|| refused(format!("`data.{key}`, which nothing reads")))?;
    open(config, cargo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_says_where_text_comes_from_is_read() {
        let read: Vec<&str> = KINDS.iter().map(|(key, _)| *key).collect();
        let keys: Vec<&str> = DataConfig::SOURCES.iter().map(|(key, _)| *key).collect();
        assert_eq!(read, keys);
    }
}
