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
