//! Which checkpoints stay: a pure function of their steps.

use crate::error::{AtPath, Result};
use std::{fs, path::Path};

/// What becomes of one checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It stays.
    Keep,
    /// It is removed.
    Remove,
}

/// What becomes of each of `steps` (ascending): the last `last` stay, and those that are a multiple of
/// `every` (0 for none).
pub fn retention(steps: &[u64], last: usize, every: u64) -> Vec<Action> {
    let first_kept = steps.len().saturating_sub(last.max(1));
    let action = |(at, step): (usize, &u64)| {
        let multiple = every > 0 && step.is_multiple_of(every);
        if at >= first_kept || multiple { Action::Keep } else { Action::Remove }
    };
    steps.iter().enumerate().map(action).collect()
}

/// Removes a checkpoint: it loses its name first, so that what is left of it after a kill is none.
///
/// # Errors
/// Where the system refuses.
pub fn remove(all: &Path, step: u64) -> Result<()> {
    let path = all.join(super::folder_name(step));
    let removing = all.join(format!("{}{step}", super::REMOVING));
    if removing.exists() {
        fs::remove_dir_all(&removing).at(&removing)?;
    }
    fs::rename(&path, &removing).at(&path)?;
    fs::remove_dir_all(&removing).at(&removing)
}

#[cfg(test)]
mod tests {
    use super::{Action::*, *};

    #[test]
    fn the_last_ones_and_the_multiples_stay_and_never_none() {
        assert_eq!(retention(&[1, 2, 3, 4], 2, 0), [Remove, Remove, Keep, Keep]);
        assert_eq!(retention(&[10, 15, 20, 25], 1, 10), [Keep, Remove, Keep, Keep]);
        assert_eq!(retention(&[1, 2], 0, 0), [Remove, Keep]);
        assert_eq!(retention(&[], 3, 5), []);
    }
}
