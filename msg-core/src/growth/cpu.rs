//! Growth of one weight tensor on the CPU: old entries move to their mapped places, new entries
//! are pure functions of the key and their coordinates, as in [`crate::random`].
//!
//! Tensors are plain row-major slices of rank 4; leading axes of size 1 pad smaller ranks, which
//! also right-aligns the coordinates that the random numbers are drawn at.

use super::{
    kernel::{Fill, GrowKernel, NewEntries},
    map::{AxisMap, FRESH},
};
use crate::{
    device::slice::values,
    error::{Context, Result},
    params::Param,
    random::{GROUP, Key, fill_normal},
};
use dfdx::{
    shapes::Shape,
    tensor::{Cpu, TensorFromVec},
};
use rayon::prelude::*;

/// Output entries that one task writes at a time; 256 KiB stay in the second level cache, and the
/// overhead of a task is small against the time to write that much.
const CHUNK: usize = 1 << 16;

/// Values per partial result of [`std_of`]. Part of its definition: another size rounds otherwise.
const STD_CHUNK: usize = 1 << 14;
/// Interleaved accumulators of a partial result of [`std_of`], also part of its definition.
const STD_LANES: usize = 16;

/// Mean length of runs below which single entries are copied instead of runs.
const SHORT_RUN: usize = 8;

impl GrowKernel for Cpu {
    fn fresh<S: Shape>(&self, shape: &S, new: NewEntries) -> Result<Param<S, Self>> {
        let sources: Vec<Vec<u32>> = shape.concrete().into_iter().map(|size| vec![FRESH; size]).collect();
        let axes: Vec<_> = sources.iter().map(|source| AxisSource { old: 0, source }).collect();
        let values = grow(&padded(&axes), &[], new.fill, new.key);
        self.try_tensor_from_vec(values, *shape).during("init")
    }

    fn grow<S: Shape, To: Shape>(
        &self,
        old: &Param<S, Self>,
        shape: To,
        maps: &[AxisMap],
        new: NewEntries,
    ) -> Result<Param<To, Self>> {
        let axes: Vec<_> =
            maps.iter().map(|map| AxisSource { old: map.old_size(), source: map.sources() }).collect();
        let values = grow(&padded(&axes), values(old), new.fill, new.key);
        self.try_tensor_from_vec(values, shape).during("growth")
    }

    fn std_of<S: Shape>(tensor: &Param<S, Self>) -> Result<f32> {
        Ok(std_of(values(tensor)))
    }
}

/// Pads maps to four axes with leading axes of one unit.
fn padded<'a>(maps: &'a [AxisSource<'a>]) -> [AxisSource<'a>; 4] {
    std::array::from_fn(|at| match (at + maps.len()).checked_sub(4) {
        Some(axis) => maps[axis],
        None => AxisSource { old: 1, source: &[0] },
    })
}

/// Where the units along one axis come from.
#[derive(Clone, Copy, Debug)]
struct AxisSource<'a> {
    /// Size of the axis in the old tensor; 0 if there is no old tensor.
    old: usize,
    /// One element per unit of the new axis: the index of the old unit that it comes from, or
    /// [`FRESH`]. An old unit may be the source of any number of new ones.
    source: &'a [u32],
}

/// Grows a tensor.
///
/// `old` is row-major with the sizes `axes[..].old`; the result is row-major with the sizes
/// `axes[..].source.len()`. An entry whose coordinates have a source on every axis is a copy of
/// the old entry there. Every other entry follows `fill` at its coordinates in the new tensor,
/// with random numbers from the stream of `key`.
///
/// Runs on the current rayon pool; the result does not depend on the number of threads.
///
/// # Panics
/// If `old` does not have the stated size, or if a source is neither [`FRESH`] nor an old index.
#[must_use]
fn grow(axes: &[AxisSource<'_>; 4], old: &[f32], fill: Fill, key: Key) -> Vec<f32> {
    check(axes, old);
    let plan = Plan::new(axes, old, fill, key);
    let total = new_len(axes);
    // Zeroed pages come from the system untouched, so a constant of zero costs no writes.
    let mut new = vec![0.0; total];
    let chunk = plan.chunk_len();
    if total <= chunk {
        plan.write(0, &mut new);
    } else {
        new.par_chunks_mut(chunk).enumerate().for_each(|(i, part)| plan.write(i * chunk, part));
    }
    new
}

/// Asserts that the sources lie in the old tensor and that `old` has its size.
fn check(axes: &[AxisSource<'_>; 4], old: &[f32]) {
    let old_len = axes.iter().map(|axis| axis.old).product::<usize>();
    assert_eq!(old.len(), old_len, "size of the old tensor");
    for (i, axis) in axes.iter().enumerate() {
        let inside = |&s: &u32| s == FRESH || (s as usize) < axis.old;
        assert!(axis.source.iter().all(inside), "source on axis {i}");
    }
}

/// Number of entries of the new tensor.
fn new_len(axes: &[AxisSource<'_>; 4]) -> usize {
    axes.iter().map(|axis| axis.source.len()).product()
}

/// Consecutive units of the last axis of the new tensor: all fresh, or with consecutive sources.
#[derive(Clone, Copy)]
struct Run {
    /// First unit.
    at: usize,
    /// Number of units.
    len: usize,
    /// Source of the first unit; of no meaning in a fresh run.
    source: usize,
}

impl Run {
    /// The part of the run among units `from..to`, if any.
    fn clip(self, from: usize, to: usize) -> Option<Self> {
        let at = self.at.max(from);
        let end = (self.at + self.len).min(to);
        (at < end).then(|| Self { at, len: end - at, source: self.source + (at - self.at) })
    }
}

/// Splits the units of an axis into fresh runs and runs with sources.
fn split_runs(source: &[u32]) -> (Vec<Run>, Vec<Run>) {
    let (mut fresh, mut kept) = (Vec::new(), Vec::new());
    let continues = |a: &u32, b: &u32| {
        if *a == FRESH || *b == FRESH { a == b } else { *b == *a + 1 }
    };
    let mut at = 0;
    for units in source.chunk_by(continues) {
        let run = Run { at, len: units.len(), source: units[0] as usize };
        if units[0] == FRESH {
            fresh.push(run);
        } else {
            kept.push(run);
        }
        at += units.len();
    }
    (fresh, kept)
}

/// The runs that have units in `from..to`, clipped to that range.
fn runs_between(runs: &[Run], from: usize, to: usize) -> impl Iterator<Item = Run> + '_ {
    let start = runs.partition_point(|run| run.at + run.len <= from);
    runs[start..].iter().map_while(move |run| run.clip(from, to))
}

/// A growth with what is worth working out once per tensor.
struct Plan<'a> {
    axes: &'a [AxisSource<'a>; 4],
    old: &'a [f32],
    fill: Fill,
    key: Key,
    /// Fresh runs of the last axis.
    fresh: Vec<Run>,
    /// Runs of the last axis that have sources.
    kept: Vec<Run>,
    /// Fill whole rows, then copy over them: cheaper where fresh runs are many and short, because
    /// random numbers are made in groups.
    fill_rows: bool,
    /// Copy single entries of a row instead of runs: cheaper where the runs are short.
    gather: bool,
    /// Entries under the trailing axes that stay as they are: all of them or none have sources,
    /// and these are consecutive. 0 if the last axis changes.
    span: usize,
}

impl<'a> Plan<'a> {
    fn new(axes: &'a [AxisSource<'a>; 4], old: &'a [f32], fill: Fill, key: Key) -> Self {
        let source = axes[3].source;
        let (fresh, kept) = split_runs(source);
        let groups: usize = fresh.iter().map(|run| run.len.div_ceil(GROUP)).sum();
        let units: usize = kept.iter().map(|run| run.len).sum();
        Self {
            axes,
            old,
            fill,
            key,
            fill_rows: groups > source.len().div_ceil(GROUP),
            gather: units < kept.len() * SHORT_RUN,
            fresh,
            kept,
            span: unchanged_span(axes),
        }
    }

    /// Entries per task: whole rows where they are short, so that most rows are in one piece.
    fn chunk_len(&self) -> usize {
        let row = self.axes[3].source.len().max(1);
        if row < CHUNK { CHUNK / row * row } else { CHUNK }
    }

    /// Writes the entries from flat index `start` on; `out` is still zero.
    fn write(&self, start: usize, mut out: &mut [f32]) {
        let width = self.axes[3].source.len();
        let mut at = start;
        while !out.is_empty() {
            let (row, first) = (at / width, at % width);
            let (coords, source) = self.locate(row);
            let reach = match source {
                Some(_) if self.span > 0 => self.span - at % self.span,
                _ => width - first,
            };
            let len = reach.min(out.len());
            let (part, rest) = out.split_at_mut(len);
            match source {
                None => self.write_fresh(coords, first, part),
                Some(source) if self.span > 0 => {
                    part.copy_from_slice(&self.old[source + first..][..len]);
                }
                Some(source) => {
                    self.fill_gaps(coords, first, part);
                    self.copy(source, first, part);
                }
            }
            at += len;
            out = rest;
        }
    }

    /// Leading coordinates of a row and the index where the old row begins that it comes from.
    fn locate(&self, row: usize) -> ([u32; 3], Option<usize>) {
        let [a0, a1, a2, a3] = self.axes;
        let (row, c2) = (row / a2.source.len(), row % a2.source.len());
        let (c0, c1) = (row / a1.source.len(), row % a1.source.len());
        let (s0, s1, s2) = (a0.source[c0], a1.source[c1], a2.source[c2]);
        let source = (s0 != FRESH && s1 != FRESH && s2 != FRESH)
            .then(|| ((s0 as usize * a1.old + s1 as usize) * a2.old + s2 as usize) * a3.old);
        ([c0 as u32, c1 as u32, c2 as u32], source)
    }

    /// Applies the fill rule to all of `out`.
    fn write_fresh(&self, coords: [u32; 3], first: usize, out: &mut [f32]) {
        match self.fill {
            // Zero is there already; minus zero is not.
            Fill::Constant(value) if value.to_bits() == 0 => {}
            Fill::Constant(value) => out.fill(value),
            Fill::Normal { std } => fill_normal(self.key, coords, first as u32, std, out),
        }
    }

    /// Applies the fill rule to the fresh units, and maybe to others as well.
    fn fill_gaps(&self, coords: [u32; 3], first: usize, out: &mut [f32]) {
        if self.fill_rows {
            return self.write_fresh(coords, first, out);
        }
        for run in runs_between(&self.fresh, first, first + out.len()) {
            self.write_fresh(coords, run.at, &mut out[run.at - first..][..run.len]);
        }
    }

    /// Copies the units that have sources from the old row that begins at `source`.
    fn copy(&self, source: usize, first: usize, out: &mut [f32]) {
        let old_row = &self.old[source..][..self.axes[3].old];
        if self.gather {
            for (value, &unit) in out.iter_mut().zip(&self.axes[3].source[first..]) {
                if unit != FRESH {
                    *value = old_row[unit as usize];
                }
            }
            return;
        }
        for run in runs_between(&self.kept, first, first + out.len()) {
            out[run.at - first..][..run.len].copy_from_slice(&old_row[run.source..][..run.len]);
        }
    }
}

/// Product of the sizes of the trailing axes that map every unit to itself; 0 if the last does not.
fn unchanged_span(axes: &[AxisSource<'_>; 4]) -> usize {
    let unchanged = |axis: &&AxisSource<'_>| {
        axis.old == axis.source.len() && (0..).zip(axis.source).all(|(unit, &s)| s == unit)
    };
    axes.iter().rev().take_while(unchanged).map(|axis| axis.old).reduce(|span, size| span * size).unwrap_or(0)
}

/// Number, mean and sum of squared deviations from the mean of some values.
#[derive(Clone, Copy)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    const EMPTY: Self = Self { count: 0.0, mean: 0.0, squares: 0.0 };

    /// Two passes over values few enough to stay in the cache.
    fn of(values: &[f32]) -> Self {
        let count = values.len() as f64;
        let mean = lane_sum(values, |value| value) / count;
        let squares = lane_sum(values, |value| (value - mean) * (value - mean));
        Self { count, mean, squares }
    }

    /// Moments of both sets together (Chan, Golub and LeVeque 1979).
    fn merge(self, other: Self) -> Self {
        let count = self.count + other.count;
        let apart = other.mean - self.mean;
        Self {
            count,
            mean: self.mean + apart * (other.count / count),
            squares: self.squares + other.squares + apart * apart * (self.count * other.count / count),
        }
    }
}

/// Sum of `f(value)`: value `i` goes to accumulator `i % STD_LANES`, and these are added in order.
fn lane_sum(values: &[f32], f: impl Fn(f64) -> f64) -> f64 {
    let mut sums = [0.0; STD_LANES];
    let (full, rest) = values.as_chunks::<STD_LANES>();
    for values in full {
        for (sum, &value) in sums.iter_mut().zip(values) {
            *sum += f(f64::from(value));
        }
    }
    for (sum, &value) in sums.iter_mut().zip(rest) {
        *sum += f(f64::from(value));
    }
    sums.iter().sum()
}

/// Population standard deviation of `values`; 0 if there are none.
///
/// Sums are in f64 over fixed chunks that are joined in order, so the bits depend neither on the
/// number of threads nor on the instruction set.
#[must_use]
fn std_of(values: &[f32]) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let parts: Vec<Moments> = values.par_chunks(STD_CHUNK).map(Moments::of).collect();
    let total = parts.into_iter().fold(Moments::EMPTY, Moments::merge);
    (total.squares / total.count).sqrt() as f32
}

#[cfg(test)]
mod tests;
