//! The one integration binary; a module for each subject.

mod gradients;
mod grow_tensors;
mod layering;
mod ramps;
mod refuse_core;
mod strict;
mod strict_ops;
mod twins;
