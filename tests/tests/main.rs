//! The one integration binary; a module for each subject.

#![allow(clippy::unwrap_used, reason = "clippy takes the helpers of integration tests for library code")]

#[cfg(all(feature = "cuda", not(feature = "ci-check")))]
mod cuda;
mod golden;
mod refuse_models;
mod strict;
