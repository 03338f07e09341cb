//! Helpers shared by the cross-crate tests.

pub mod block_case;
pub mod close;
pub mod entries;
pub mod families;
pub mod finite;
pub mod fuzz;
pub mod lineage;
pub mod matrices;
pub mod operations;
pub mod optimizers;
pub mod toy;
