//! What growth changes in a model: sizes, ramps, masks and layer identities.

pub mod masks;
pub mod model;
pub mod spec;
pub mod state;
