//! The one integration binary; a module for each subject.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[cfg(all(feature = "cuda", not(feature = "ci-check")))]
mod cuda;
mod files;
mod golden;
mod optim;
mod refuse_models;
mod strict;
