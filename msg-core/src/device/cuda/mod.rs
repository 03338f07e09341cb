//! The CUDA device: opening it, launching kernels on it, and the matrix products of its libraries.

#[cfg(feature = "cuda")]
pub(crate) mod cast;
#[cfg(not(feature = "cuda"))]
pub(crate) mod disabled;
#[cfg(feature = "cuda")]
pub(crate) mod element;
#[cfg(feature = "cuda")]
pub(crate) mod enabled;
#[cfg(feature = "cuda")]
pub(crate) mod launch;
#[cfg(feature = "cuda")]
pub(crate) mod pool;
#[cfg(feature = "cuda")]
pub(crate) mod products;
#[cfg(feature = "cuda")]
pub(crate) mod reduce;
