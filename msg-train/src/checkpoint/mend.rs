//! What a killed run leaves among its checkpoints, put right at the next start.

use super::{MARKER, REMOVING, REPLACED, SAVING, folder_name};
use crate::error::{AtPath, Result};
use std::{fs, path::Path};

/// Puts the folder of checkpoints right after a run that died in the middle of [`save`](super::save) or
/// [`remove`](super::remove): half-written and half-removed ones go; one that was to give way, and whose
/// successor did not get its name, has its own name back. A whole checkpoint is never removed for a broken
/// one. Nobody else may use the folder meanwhile.
///
/// # Errors
/// Where the system refuses.
pub fn mend(all: &Path) -> Result<()> {
    if !all.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(all).at(all)? {
        let path = entry.at(all)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let replaced = name.strip_prefix(REPLACED).and_then(|step| step.parse().ok()).map(folder_name);
        if let Some(target) = replaced.map(|name| all.join(name))
            && path.join(MARKER).is_file()
            && !target.exists()
        {
            tracing::info!(path = %target.display(), "checkpoint recovered");
            fs::rename(&path, &target).at(&path)?;
        } else if [SAVING, REMOVING, REPLACED].iter().any(|prefix| name.starts_with(prefix)) {
            fs::remove_dir_all(&path).at(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{remove, steps};

    /// A folder with these files, each named in it.
    fn folder(all: &Path, name: &str, files: &[&str]) {
        fs::create_dir_all(all.join(name)).unwrap();
        for file in files {
            fs::write(all.join(name).join(file), name).unwrap();
        }
    }

    fn names(all: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(all)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn leftovers_go_and_a_checkpoint_that_gave_way_for_nothing_comes_back() {
        let temporary = tempfile::tempdir().unwrap();
        let all = temporary.path();
        mend(&all.join("none")).unwrap();
        folder(all, "step-00000003", &[MARKER]);
        // Killed while writing, also after the marker; while removing; before and after the second rename.
        folder(all, ".saving-a1", &["model.safetensors"]);
        folder(all, ".saving-b2", &[MARKER]);
        folder(all, ".removing-2", &["state.json"]);
        folder(all, ".replaced-4", &[MARKER]);
        folder(all, ".replaced-3", &[MARKER]);
        // Cut short while it was itself removed.
        folder(all, ".replaced-5", &["state.json"]);
        // None of ours.
        folder(all, "notes", &["a.txt"]);
        mend(all).unwrap();
        assert_eq!(names(all), ["notes", "step-00000003", "step-00000004"]);
        let marker = |step: &str| fs::read_to_string(all.join(step).join(MARKER)).unwrap();
        assert_eq!(
            (marker("step-00000003").as_str(), marker("step-00000004").as_str()),
            ("step-00000003", ".replaced-4")
        );
        assert_eq!(steps(all).unwrap(), [3, 4]);
        remove(all, 3).unwrap();
        assert_eq!(names(all), ["notes", "step-00000004"]);
    }
}
