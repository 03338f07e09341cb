//! Which files are read, and in which order.

use super::CargoFolders;
use crate::{
    config::DataConfig,
    error::{AtPath, Error, Result},
};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

/// Every file of a configuration: `sources` in the order written, then `crates`; folders are walked in
/// the byte order of their entries' names.
///
/// A file that is named itself is read whatever its ending. In folders, hidden entries and links to
/// folders are passed over.
///
/// # Errors
/// Where a source is missing or unreadable, a crate cannot be found, or nothing is left to read.
pub fn files(config: &DataConfig, cargo: &CargoFolders) -> Result<Vec<PathBuf>> {
    let wanted: Vec<&str> = config.extensions.iter().map(|ending| ending.trim_start_matches('.')).collect();
    let mut files = Vec::new();
    for source in &config.sources {
        if fs::metadata(source).at(source)?.is_dir() {
            walk(source, &wanted, &mut files)?;
        } else {
            files.push(source.clone());
        }
    }
    for name in &config.crates {
        walk(&cargo.find(name)?, &["rs", "md"], &mut files)?;
    }
    match (files.is_empty(), config.sources.first()) {
        (false, _) => Ok(files),
        (true, Some(source)) => Err(Error::Data {
            path: source.clone(),
            message: format!("expected files ending in {}, got none", wanted.join(", ")),
        }),
        (true, None) => Err(Error::Config {
            file: "configuration".into(),
            key: "data.sources".into(),
            expected: "a file or folder (or crates in data.crates)".into(),
            got: "none".into(),
        }),
    }
}

/// Adds the files of a folder whose ending is wanted.
fn walk(folder: &Path, wanted: &[&str], files: &mut Vec<PathBuf>) -> Result<()> {
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

/// The ending that tells what a file holds: the one before `.gz` or `.zst` where it is compressed.
pub(super) fn ending(path: &Path) -> Option<String> {
    let last = path.extension().and_then(OsStr::to_str)?;
    match last {
        "gz" | "zst" => Path::new(path.file_stem()?).extension()?.to_str().map(str::to_owned),
        _ => Some(last.to_owned()),
    }
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
        let files = files(&config(folder.path()), &CargoFolders::default()).unwrap();
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
        let empty = files(&config(folder.path()), &CargoFolders::default()).unwrap_err();
        let path = folder.path().display();
        assert_eq!(
            empty.to_string(),
            format!("{path}: expected files ending in txt, md, rs, jsonl, got none")
        );
        let missing =
            files(&config(&folder.path().join("no.txt")), &CargoFolders::default()).unwrap_err().to_string();
        assert_eq!(missing, format!("{path}/no.txt: No such file or directory (os error 2)"));
        let mut none = config(folder.path());
        none.sources.clear();
        let none = files(&none, &CargoFolders::default()).unwrap_err().to_string();
        assert_eq!(
            none,
            "configuration: data.sources: expected a file or folder (or crates in data.crates), got none"
        );
    }
}
