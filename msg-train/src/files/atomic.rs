//! Files that exist whole or not at all: written under a temporary name, synced, renamed.

use crate::error::{AtPath, Result};
use std::{
    ffi::OsString,
    fs::{self, File},
    io::{BufWriter, IntoInnerError, Write},
    path::{Path, PathBuf},
};

/// Ending of a file that is being written.
pub(crate) const UNFINISHED: &str = ".tmp";
/// Bytes gathered before they are written.
const BUFFER: usize = 1 << 20;

/// A file under its temporary name.
#[derive(Debug)]
pub(crate) struct Unfinished {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
}

impl Unfinished {
    /// Begins the file `path`. Until [`Unfinished::finish`], an older one of that name stays.
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        let mut temporary = OsString::from(&path);
        temporary.push(UNFINISHED);
        let temporary = PathBuf::from(temporary);
        let file = BufWriter::with_capacity(BUFFER, File::create(&temporary).at(&temporary)?);
        Ok(Unfinished { path, temporary, file })
    }

    /// Appends bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).at(&self.path)
    }

    /// Gives the file its name once its bytes are on the disk. [`sync_folder`] makes the name last.
    pub(crate) fn finish(self) -> Result<()> {
        let file = self.file.into_inner().map_err(IntoInnerError::into_error).at(&self.path)?;
        file.sync_all().at(&self.path)?;
        fs::rename(&self.temporary, &self.path).at(&self.path)
    }
}

/// Writes a whole file: after a power cut there is the old one or the new one.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = Unfinished::create(path.to_owned())?;
    file.write(bytes)?;
    file.finish()?;
    sync_folder(folder_of(path))
}

/// Writes a file under its own name and waits until its bytes are on the disk: enough in a folder that gets its
/// name later.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).at(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).at(path)
}

/// Makes the names in a folder survive a power cut.
#[cfg(unix)]
pub(crate) fn sync_folder(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).at(path)
}

/// Elsewhere folders cannot be opened; a rename is as durable as the system makes it.
#[cfg(not(unix))]
pub(crate) fn sync_folder(_: &Path) -> Result<()> {
    Ok(())
}

/// The folder that a file or folder lies in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_name_once_it_is_whole_and_the_old_one_until_then() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        replace_file(&path, b"old").unwrap();
        let mut file = Unfinished::create(path.clone()).unwrap();
        file.write(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = replace_file(&folder.path().join("none/a"), b"").unwrap_err().to_string();
        assert!(error.contains("none/a.tmp: "), "{error}");
    }

    #[test]
    fn a_bare_name_lies_in_the_working_directory() {
        assert_eq!(folder_of(Path::new("a")), Path::new("."));
        assert_eq!(folder_of(Path::new("a/b")), Path::new("a"));
    }
}
