//! Devices: opening one, its buffers, and access to a tensor's memory. No operation of ours is known here.

pub(crate) mod buffers;
pub(crate) mod cuda;
pub(crate) mod host;
mod memory;
#[cfg(feature = "cuda")]
pub mod raw_pointer;
pub(crate) mod slice;

pub use buffers::release_buffers;
#[cfg(not(feature = "cuda"))]
pub use cuda::disabled::{Gpu, open_cuda};
#[cfg(feature = "cuda")]
pub use cuda::enabled::{Gpu, open_cuda};
pub use host::HostSlice;
pub use memory::out_of_memory_as_error;
