//! The masked operations, differentiable on dfdx tensors with a tape.
//!
//! All but [`matmul`] are written with plain dfdx operations; they are the references that faster ones
//! are held against. Each obeys the summation contract: an output element depends on the values and
//! their indices along the reduced axis alone, so that a tail of zeros changes no bit.

pub mod attention;
pub mod cross_entropy;
pub mod dropout;
pub mod embedding;
pub mod gelu;
pub mod linear;
pub mod masked_norm;
pub mod matmul;

pub use attention::{AttentionMask, attention};
pub use cross_entropy::{Labels, Scores, cross_entropy, scores};
pub use dropout::{Dropout, DropoutSite};
pub use embedding::{Ids, embed};
pub use gelu::{Gelu, masked_gelu};
pub use linear::linear;
pub use masked_norm::masked_layer_norm;
