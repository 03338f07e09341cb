#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

pub mod axis;
mod backend;
pub mod device;
pub mod error;
pub mod float;
pub mod growth;
pub mod mask;
pub mod ops;
pub mod optim;
pub mod params;
pub mod random;
mod simd;

pub use backend::Backend;
pub use error::{Error, Result};

/// dfdx 0.13.0, the one version whose tensors these crates take: a program that uses them needs no dependency of its own.
pub use dfdx;

/// cudarc 0.9.15, the one version that dfdx 0.13.0 stands on.
#[cfg(feature = "cuda")]
pub use cudarc;
