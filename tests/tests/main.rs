//! The one integration binary; a module for each subject.

mod files;
mod golden;
mod optim;
mod refuse_models;
mod strict;
