//! The one integration binary; a module for each subject.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod accumulation;
mod blocks;
mod cli;
mod config;
mod eval;
mod families;
mod files;
mod generate;
mod golden;
mod gradients;
mod grow_tensors;
mod growth_methods;
mod guard;
mod init;
mod layering;
mod metrics;
mod muon;
mod old_runs;
mod operations;
mod optim;
mod optimizers;
mod quickstart;
mod ramps;
mod receipts;
mod reference;
mod refuse_core;
mod refuse_models;
mod resume;
mod runs;
mod strict;
mod strict_ops;
mod twins;
mod verify;
