//! The one integration binary; a module for each subject.

mod files;
mod golden;
mod refuse_models;
mod strict;
