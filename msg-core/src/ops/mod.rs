//! The masked operations, differentiable on dfdx tensors with a tape.
//!
//! Each has a plain form, a chain of dfdx operations and of [`matmul`]: the reference of the faster ones. On the Cpu the norm, embeddings, whole blocks ([`block`]) and the head with its loss ([`head`]) are
//! single nodes. Each obeys the summation contract: an output element depends on the values and
//! their indices along the reduced axis alone, so that a tail of zeros changes no bit.

pub mod attention;
pub mod block;
pub mod compute;
pub mod cross_entropy;
pub mod dropout;
#[cfg(feature = "cuda")]
pub(crate) mod elementwise;
pub mod embedding;
pub mod gelu;
pub mod head;
mod kernels;
pub mod linear;
mod list;
pub mod masked_norm;
pub(crate) mod math;
pub mod matmul;
mod rows;
pub(crate) mod stream;

pub use attention::{AttentionMask, attention};
pub use block::{Block, BlockMasks, NormOrder};
pub use compute::{Compute, Precision};
pub use cross_entropy::{Labels, Scores, cross_entropy, scores};
pub use dropout::{Dropout, DropoutSite};
pub use embedding::{Embeddings, Ids, embed};
pub use gelu::{Gelu, masked_gelu};
pub use head::{head_logits, head_loss};
pub use kernels::Kernels;
pub use linear::linear;
pub use masked_norm::masked_layer_norm;
pub use stream::Stream;
