//! Which age group each entry of a tensor belongs to: the latest among its units'.

/// The age groups of a tensor's units.
#[derive(Clone, Copy, Debug)]
pub struct EntryGroups<'a> {
    /// The tensor's sizes, outermost first.
    pub sizes: &'a [usize],
    /// Per axis the age group of each unit; an empty list means age group 0 throughout.
    pub units: &'a [Vec<u32>],
}

impl EntryGroups<'_> {
    /// Asserts what the Cpu's kernels rely on: one list per axis, of its size, naming one of `groups` age groups.
    pub(crate) fn check(&self, op: &'static str, entries: usize, groups: usize) {
        assert_eq!(self.sizes.iter().product::<usize>(), entries, "{op}: entries of the tensor");
        assert_eq!(self.sizes.len(), self.units.len(), "{op}: axes with age groups");
        for (&size, units) in self.sizes.iter().zip(self.units) {
            assert!(units.is_empty() || units.len() == size, "{op}: age groups of an axis");
            assert!(units.iter().all(|&group| (group as usize) < groups), "{op}: age group");
        }
        assert!(groups > 0, "{op}: at least one age group");
    }

    /// Entries of a row of the last axis; 1 where there is no axis.
    pub(crate) fn width(&self) -> usize {
        self.sizes.last().copied().unwrap_or(1).max(1)
    }

    /// The age group that the leading axes give a row of the last axis.
    pub(crate) fn row_group(&self, mut row: usize) -> u32 {
        let mut group = 0;
        for (size, units) in self.sizes.iter().zip(self.units).rev().skip(1) {
            group = group.max(units.get(row % size).copied().unwrap_or(0));
            row /= size;
        }
        group
    }

    /// Runs of units of the last axis with the same age group: where each ends, and the age group. A single run has
    /// no end.
    pub(crate) fn runs(&self, groups: usize) -> Vec<(usize, u32)> {
        let units = self.units.last().map_or(&[][..], Vec::as_slice);
        if groups == 1 || units.is_empty() {
            return vec![(usize::MAX, 0)];
        }
        let mut end = 0;
        let run = |units: &[u32]| {
            end += units.len();
            (end, units[0])
        };
        units.chunk_by(|a, b| a == b).map(run).collect()
    }
}
