//! Cuda against the Cpu: every test runs one body on both devices.
//!
//! Without a GPU this runs on the emulator (see tools/cuda-emu/README.md). Every test's name contains
//! `cuda`, so that `cargo test -p msg-tests --no-default-features --features cuda --test cuda cuda` runs these alone.

#![cfg(not(feature = "ci-check"))]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod bridge;
mod copies;
mod growth;
mod matmul;
mod muon;
mod nodes;
mod operations;
mod optimizer;
mod saved;
mod training;

// Their tests on Cuda, whose names say so; those of the Cpu are the main binary's.
#[path = "../golden.rs"]
mod golden;
#[path = "../strict.rs"]
mod strict;

// Small runs.
#[allow(dead_code, reason = "the main binary uses more of it")]
#[path = "../runs.rs"]
mod runs;

use dfdx::tensor::Cuda;
use msg_core::{
    device::open_cuda,
    random::{Key, bits_at, uniform},
};

fn gpu() -> Cuda {
    open_cuda(0).expect("these tests need a GPU or the emulator")
}

/// `count` numbers between -1 and 1 that depend on the name.
fn numbers(name: &str, count: usize) -> Vec<f32> {
    let key = Key::new(5, name, 0);
    (0..count).map(|at| 2.0 * uniform(bits_at(key, [0, 0, 0, at as u32])) - 1.0).collect()
}

/// A number below `limit` that depends on the name and the place.
fn draw(name: &str, at: usize, limit: usize) -> usize {
    bits_at(Key::new(6, name, 0), [0, 0, 0, at as u32]) as usize % limit
}

fn assert_same_bits(what: &str, expected: &[f32], got: &[f32]) {
    assert_eq!(expected.len(), got.len(), "{what}");
    for (at, (e, g)) in expected.iter().zip(got).enumerate() {
        assert_eq!(e.to_bits(), g.to_bits(), "{what}: entry {at}: expected {e:e}, got {g:e}");
    }
}

/// Each entry within `tolerance` of the largest expected one. Holds for no NaN.
fn assert_close(what: &str, expected: &[f64], got: &[f64], tolerance: f64) {
    assert_eq!(expected.len(), got.len(), "{what}");
    let scale = expected.iter().fold(0.0_f64, |scale, e| scale.max(e.abs()));
    assert!(scale > 0.0 && scale.is_finite(), "{what}: nothing to compare");
    for (at, (e, g)) in expected.iter().zip(got).enumerate() {
        let apart = (e - g).abs();
        assert!(apart <= tolerance * scale, "{what}: entry {at}: expected {e:e}, got {g:e}, scale {scale:e}");
    }
}
