//! Files and folders of text: which files are read, and in which order.

use super::{
    cargo::CargoFolders,
    kind::{Pieces, Source},
    read::{FileDocuments, ReadOptions, compression, ending},
};
use crate::{
    config::DataConfig,
    error::{AtPath, Error, Result},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// How much larger the text of a compressed file is taken to be.
const PACKED: u64 = 4;

/// Files in the order in which they are read. There is at least one.
pub(super) struct Files {
    files: Vec<PathBuf>,
    options: ReadOptions,
    estimate: u64,
}

impl Files {
    /// These files, read as a configuration says. `ending` is what was looked for in `place`.
    ///
    /// # Errors
    /// Where there is none, or one cannot be looked at.
    pub(super) fn new(
        files: Vec<PathBuf>,
        config: &DataConfig,
        place: &Path,
        endings: &[&str],
    ) -> Result<Self> {
        if files.is_empty() {
            let message = format!("expected files ending in {}, got none", endings.join(", "));
            return Err(Error::Data { path: place.to_owned(), message });
        }
        let mut estimate = 0;
        for file in &files {
            let packed = compression(file).is_some();
            estimate += fs::metadata(file).at(file)?.len() * if packed { PACKED } else { 1 };
        }
        let options = ReadOptions { field: config.jsonl_field.clone(), invalid: config.invalid_utf8 };
        Ok(Files { files, options, estimate })
    }
}

impl Source for Files {
    fn documents(&self) -> Result<Box<dyn Pieces>> {
        Ok(Box::new(FileDocuments::new(self.files.clone(), self.options.clone())))
    }

    fn estimate(&self) -> u64 {
        self.estimate
    }

    fn place(&self) -> &Path {
        self.files.first().map_or(Path::new(""), PathBuf::as_path)
    }
}

/// The files and folders of `data.sources`, in the order written; folders are walked in the byte order of their
/// entries' names.
///
/// A file that is named itself is read whatever its ending. In folders, hidden entries and links to
/// folders are skipped.
pub(super) fn open(config: &DataConfig, _: &CargoFolders) -> Result<Box<dyn Source>> {
    let wanted: Vec<&str> = config.extensions.iter().map(|ending| ending.trim_start_matches('.')).collect();
    let mut files = Vec::new();
    for source in &config.sources {
        if fs::metadata(source).at(source)?.is_dir() {
            walk(source, &wanted, &mut files)?;
        } else {
            files.push(source.clone());
        }
    }
    let first = config.sources.first().map_or(Path::new(""), PathBuf::as_path);
    Ok(Box::new(Files::new(files, config, first, &wanted)?))
}

/// Adds the files of a folder whose ending is wanted.
pub(super) fn walk(folder: &Path, wanted: &[&str], files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).at(folder)?;
    let mut entries = entries.collect::<std::io::Result<Vec<_>>>().at(folder)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let kind = entry.file_type().at(&path)?;
        if kind.is_dir() {
            walk(&path, wanted, files)?;
        } else if ending(&path).is_some_and(|ending| wanted.contains(&ending.as_str()))
            && (kind.is_file() || fs::metadata(&path).at(&path)?.is_file())
        {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testing::{config, write};

    #[test]
    fn folders_are_walked_in_sorted_order_and_filtered() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.txt", "a/z.md", "a/b.rs", "c.bin", ".hidden/x.txt", "d.txt.gz", "e.jsonl.zst"] {
            write(&folder.path().join(name), b"x");
        }
        // The order of bytes, name by name: upper case first, and a folder by its name alone, whatever
        // stands between the names of a path on this system.
        for name in ["Z.txt", "a.txt", "a-c.txt", "a.b/x.txt"] {
            write(&folder.path().join(name), b"x");
        }
        let mut files = Vec::new();
        let endings = ["txt", "md", "rs", "jsonl"];
        walk(folder.path(), &endings, &mut files).unwrap();
        let names: Vec<_> = files.iter().map(|file| file.strip_prefix(folder.path()).unwrap()).collect();
        let expected = [
            "Z.txt",
            "a/b.rs",
            "a/z.md",
            "a-c.txt",
            "a.b/x.txt",
            "a.txt",
            "b.txt",
            "d.txt.gz",
            "e.jsonl.zst",
        ];
        assert_eq!(names, expected.map(Path::new));
    }

    #[test]
    fn missing_and_empty_sources_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |config: &DataConfig| {
            crate::data::source::open(config, &CargoFolders::default()).err().unwrap().to_string()
        };
        let path = folder.path().display();
        assert_eq!(
            refused(&config(folder.path())),
            format!("{path}: expected files ending in txt, md, rs, jsonl, got none")
        );
        assert_eq!(
            refused(&config(&folder.path().join("no.txt"))),
            format!("{path}/no.txt: No such file or directory (os error 2)")
        );
        let mut none = config(folder.path());
        none.sources.clear();
        assert_eq!(
            refused(&none),
            "configuration: data.sources: expected exactly one of `data.sources`, `data.crates`, not empty, got none of them"
        );
    }
}
