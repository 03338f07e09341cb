//! One layer a file, generic over axes: its tensors, their names for the walk, and the forward pass.

pub(crate) mod attention;
pub(crate) mod context;
pub(crate) mod embedding;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod zeros;

pub use attention::Attention;
pub use context::BlockContext;
pub use embedding::Embedding;
pub use linear::Linear;
pub use norm::LayerNorm;
