//! Folders that appear whole or not at all, and never in place of another.

use super::atomic::{folder_of, sync_folder};
use crate::error::{AtPath, Error, Result};
use std::{fs, path::Path};

/// Refuses a path that exists, unless it is an empty folder.
///
/// # Errors
/// [`Error::Argument`].
pub(crate) fn check_free(out: &Path) -> Result<()> {
    let taken = match fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => out.exists(),
    };
    if !taken {
        return Ok(());
    }
    let expected = "a folder that is not there yet, or is empty".into();
    Err(Error::Argument { name: "out", expected, got: format!("{}, which is there", out.display()) })
}

/// Makes the folder `out` by filling one beside it, which then gets its name.
///
/// # Errors
/// As [`check_free`], and what `fill` refuses. Then there is no such folder.
pub(crate) fn fresh_folder(out: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    check_free(out)?;
    let beside = folder_of(out);
    fs::create_dir_all(beside).at(beside)?;
    let temporary = tempfile::Builder::new().prefix(".part-").tempdir_in(beside).at(beside)?;
    fill(temporary.path())?;
    readable(temporary.path())?;
    // A rename replaces an empty folder.
    fs::rename(temporary.path(), out).at(out)?;
    let _ = temporary.keep();
    sync_folder(beside)
}

/// Gives a temporary folder, which only its owner may read, the rights of an ordinary one.
#[cfg(unix)]
fn readable(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).at(folder)
}

/// Other systems give it these rights.
#[cfg(not(unix))]
fn readable(_: &Path) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_appears_whole_or_not_at_all_and_never_in_place_of_another() {
        let temporary = tempfile::tempdir().unwrap();
        let out = temporary.path().join("a/b");
        let fill = |folder: &Path| fs::write(folder.join("x"), "1").at(folder);
        let failed = fresh_folder(&out, |folder| {
            fill(folder)?;
            Err(Error::Receipt("no".into()))
        });
        assert!(failed.is_err() && !out.exists());
        assert_eq!(fs::read_dir(out.parent().unwrap()).unwrap().count(), 0);
        fs::create_dir(&out).unwrap();
        fresh_folder(&out, fill).unwrap();
        assert_eq!(fs::read_to_string(out.join("x")).unwrap(), "1");
        let text = fresh_folder(&out, fill).unwrap_err().to_string();
        assert!(
            text.starts_with("out: expected a folder that is not there yet, or is empty, got "),
            "{text}"
        );
    }
}
