//! What the benches share: medians, and the process' memory.

// As in the command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod peak;
pub mod step;

use msg_core::random::{Key, bits_at};
use std::time::{Duration, Instant};

/// The middle of the measurements (the upper one of two).
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// How long `work` takes.
pub fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed(), result)
}

/// The largest resident size of this process since [`reset_peak`], in bytes; `None` off Linux.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// Starts a new peak.
pub fn reset_peak() {
    // Writing 5 resets VmHWM (proc(5)); where it cannot be written the peak stays an upper bound.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// A number below `limit`, the same in every run.
pub fn draw(name: &str, at: usize, limit: usize) -> usize {
    let bits = bits_at(Key::new(1, name, 0), [0, 0, 0, at as u32]);
    ((u64::from(bits) * limit as u64) >> 32) as usize
}
