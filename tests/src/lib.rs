//! Helpers shared by the cross-crate tests.

pub mod entries;
pub mod families;
