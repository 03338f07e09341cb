//! Working memory of the Cpu kernels, kept from step to step.
//!
//! A released buffer is reused by the next request of about its size, so a steady step allocates nothing. Unused
//! buffers never exceed twice what was in use at once: after a growth the old sizes are freed by themselves.

use bytemuck::Pod;
use std::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
};

#[derive(Debug)]
struct Pool {
    /// Free buffers, the longest-waiting first.
    free: Vec<Vec<f32>>,
    waiting: usize,
    in_use: usize,
    most_in_use: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { free: Vec::new(), waiting: 0, in_use: 0, most_in_use: 0 });

fn pool() -> MutexGuard<'static, Pool> {
    // Its numbers are changed in one go each: a thread that panicked left it whole.
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Frees the unused buffers, before a process does other work.
pub fn release_buffers() {
    let mut pool = pool();
    pool.free.clear();
    (pool.waiting, pool.most_in_use) = (0, pool.in_use);
}

/// Numbers aligned to a cache line; returned to the pool when dropped.
#[derive(Debug)]
pub(crate) struct Buffer<E = f32> {
    values: Vec<f32>,
    /// Floats before the first cache line.
    skip: usize,
    len: usize,
    holds: PhantomData<E>,
}

/// Floats of a cache line.
const LINE: usize = 16;

/// Floats that hold so many entries.
fn floats<E>(entries: usize) -> usize {
    (entries * size_of::<E>()).div_ceil(size_of::<f32>())
}

impl<E: Pod> Buffer<E> {
    /// `len` numbers with any contents.
    pub(crate) fn of(entries: usize) -> Self {
        let len = floats::<E>(entries) + LINE;
        let mut pool = pool();
        let fits = |buffer: &&Vec<f32>| (len..=len + len / 2).contains(&buffer.len());
        let best = pool.free.iter().enumerate().filter(|(_, buffer)| fits(buffer));
        let best = best.min_by_key(|(_, buffer)| buffer.len()).map(|(at, _)| at);
        let values = best.map(|at| {
            let values = pool.free.remove(at);
            pool.waiting -= values.len();
            values
        });
        pool.in_use += values.as_ref().map_or(len, Vec::len);
        pool.most_in_use = pool.most_in_use.max(pool.in_use);
        drop(pool);
        let values = values.unwrap_or_else(|| vec![0.0; len]);
        let skip = values.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        Buffer { values, skip, len: entries, holds: PhantomData }
    }

    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let mut buffer = Buffer::of(len);
        buffer.fill(E::zeroed());
        buffer
    }
}

impl<E: Pod> Deref for Buffer<E> {
    type Target = [E];
    fn deref(&self) -> &[E] {
        &bytemuck::cast_slice(&self.values[self.skip..][..floats::<E>(self.len)])[..self.len]
    }
}

impl<E: Pod> DerefMut for Buffer<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        let floats = floats::<E>(self.len);
        &mut bytemuck::cast_slice_mut(&mut self.values[self.skip..][..floats])[..self.len]
    }
}

impl<E> Drop for Buffer<E> {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        let mut pool = pool();
        pool.in_use -= values.len();
        pool.waiting += values.len();
        pool.free.push(values);
        while pool.waiting > 2 * pool.most_in_use && !pool.free.is_empty() {
            let oldest = pool.free.remove(0);
            pool.waiting -= oldest.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn a_buffer_has_its_length_and_zeros_are_zero_after_use() {
        for _ in 0..3 {
            let mut buffer = Buffer::<f32>::of(1003);
            assert_eq!(buffer.len(), 1003);
            assert!(buffer.as_ptr().addr().is_multiple_of(64));
            buffer.fill(7.0);
            drop(buffer);
            assert!(Buffer::<f32>::zeros(1001).iter().all(|&x| x == 0.0));
            assert!(Buffer::<bf16>::zeros(2001).iter().all(|x| x.to_bits() == 0));
        }
    }
}
