#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

pub mod axis;
pub mod device;
pub mod error;
pub mod growth;
pub mod mask;
pub mod ops;
pub mod optim;
pub mod params;
pub mod random;
mod simd;

pub use error::{Error, Result};
