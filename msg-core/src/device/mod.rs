//! What a device must offer: dfdx's own operations, and ours below them.

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
