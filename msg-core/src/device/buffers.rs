//! Working memory of the Cpu kernels, kept from step to step.
//!
//! A freed buffer waits for the next request of about its size, so a steady step allocates nothing. What
//! waits never exceeds what was in use at once: after a growth the old sizes leave by themselves.

use std::{
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

/// Gives the memory of waiting buffers back, for a process that goes on to other work.
pub fn release_buffers() {
    let mut pool = pool();
    pool.free.clear();
    (pool.waiting, pool.most_in_use) = (0, pool.in_use);
}

/// Floats on loan; they go back when dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    values: Vec<f32>,
    len: usize,
}

impl Buffer {
    /// `len` floats with any contents.
    pub(crate) fn of(len: usize) -> Self {
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
        Buffer { values: values.unwrap_or_else(|| vec![0.0; len]), len }
    }

    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let mut buffer = Buffer::of(len);
        buffer.fill(0.0);
        buffer
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        let mut pool = pool();
        pool.in_use -= values.len();
        pool.waiting += values.len();
        pool.free.push(values);
        while pool.waiting > pool.most_in_use && !pool.free.is_empty() {
            let oldest = pool.free.remove(0);
            pool.waiting -= oldest.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_its_length_and_zeros_are_zero_after_use() {
        for _ in 0..3 {
            let mut buffer = Buffer::of(1003);
            assert_eq!(buffer.len(), 1003);
            buffer.fill(7.0);
            drop(buffer);
            assert!(Buffer::zeros(1001).iter().all(|&x| x == 0.0));
        }
    }
}
