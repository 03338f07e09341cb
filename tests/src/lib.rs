//! Helpers shared by the cross-crate tests.

pub mod entries;
pub mod families;
pub mod lineage;
pub mod toy;
