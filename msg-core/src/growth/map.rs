//! Axis maps: where each unit of a grown axis comes from.

use crate::error::{Error, Result};
use std::sync::Arc;

/// Marks a new unit that copies none: its entries come from the fill rule.
pub const FRESH: u32 = u32::MAX;

/// Old units keep their places; new ones follow at the end, each fresh or a copy of an old unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AxisMap {
    axis: &'static str,
    old: usize,
    /// For every unit of the grown axis the old unit that it comes from, or [`FRESH`].
    source: Arc<[u32]>,
}

impl AxisMap {
    /// The map that changes nothing.
    pub fn identity(axis: &'static str, size: usize) -> Self {
        AxisMap { axis, old: size, source: (0..size as u32).collect() }
    }

    /// `old` units, then fresh ones up to `new`.
    ///
    /// # Errors
    /// [`Error::Zero`] and [`Error::Shrink`].
    pub fn append(axis: &'static str, old: usize, new: usize) -> Result<Self> {
        Self::with_sources(axis, old, new, |_| None)
    }

    /// `old` units, then copies of them in turn: new unit `j` comes from `j mod old`.
    ///
    /// # Errors
    /// [`Error::Zero`] and [`Error::Shrink`].
    pub fn copies(axis: &'static str, old: usize, new: usize) -> Result<Self> {
        Self::with_sources(axis, old, new, |unit| Some(unit % old))
    }

    /// `old` units, then new ones, each from the old unit that `source` names, or fresh.
    ///
    /// # Errors
    /// [`Error::Zero`], [`Error::Shrink`], and [`Error::Source`] for a source beyond the old units.
    pub fn with_sources(
        axis: &'static str,
        old: usize,
        new: usize,
        mut source: impl FnMut(usize) -> Option<usize>,
    ) -> Result<Self> {
        if old == 0 || new == 0 {
            return Err(Error::Zero { what: axis });
        }
        if new < old {
            return Err(Error::Shrink { axis, old, new });
        }
        if u32::try_from(new).is_err() {
            return Err(Error::Value { what: axis, expected: "fewer than 2^32 units", got: new as f64 });
        }
        let tail = (old..new).map(|unit| match source(unit) {
            None => Ok(FRESH),
            Some(from) if from < old => Ok(from as u32),
            Some(source_unit) => Err(Error::Source { axis, unit, source_unit, old }),
        });
        let source = (0..old as u32).map(Ok).chain(tail).collect::<Result<_>>()?;
        Ok(AxisMap { axis, old, source })
    }

    /// The map of an axis that holds `width` units for each unit of this one (AttnDim for Heads).
    ///
    /// # Errors
    /// [`Error::Zero`] for a width of 0.
    pub fn widened(&self, axis: &'static str, width: usize) -> Result<Self> {
        if width == 0 {
            return Err(Error::Zero { what: axis });
        }
        Self::with_sources(axis, self.old * width, self.new_size() * width, |unit| {
            self.source_of(unit / width).map(|from| from * width + unit % width)
        })
    }

    /// The same sizes with every new unit fresh: for what belongs to a unit and not to its values, such
    /// as an optimizer's moments, which a copy does not take over from its source.
    #[must_use]
    pub fn without_copies(&self) -> Self {
        let fresh = std::iter::repeat_n(FRESH, self.new_size() - self.old);
        AxisMap { source: (0..self.old as u32).chain(fresh).collect(), ..*self }
    }

    /// The axis' name.
    pub fn axis(&self) -> &'static str {
        self.axis
    }

    /// Units before.
    pub fn old_size(&self) -> usize {
        self.old
    }

    /// Units after.
    pub fn new_size(&self) -> usize {
        self.source.len()
    }

    /// Whether anything changes.
    pub fn grows(&self) -> bool {
        self.old < self.source.len()
    }

    /// Whether `unit` was there before the growth.
    pub fn is_old(&self, unit: usize) -> bool {
        unit < self.old
    }

    /// The old unit that `unit` comes from; `None` for a fresh one.
    pub fn source_of(&self, unit: usize) -> Option<usize> {
        self.source.get(unit).filter(|&&from| from != FRESH).map(|&from| from as usize)
    }

    /// The sources as the kernels read them.
    pub fn sources(&self) -> &[u32] {
        &self.source
    }

    /// Carries one value per unit over a growth: old units keep theirs, new ones get `born`.
    pub fn carry<T: Clone>(&self, old: &[T], born: T) -> Vec<T> {
        let kept = old.iter().take(self.old).cloned();
        kept.chain(std::iter::repeat_n(born, self.new_size() - self.old)).collect()
    }
}
