//! What growth changes in a model: sizes, ramps, masks and layer identities.

pub(crate) mod masks;
pub(crate) mod model;
