//! The one integration binary; a module for each subject.

#[cfg(all(feature = "cuda", not(feature = "ci-check")))]
mod cuda;
mod golden;
mod refuse_models;
mod strict;
