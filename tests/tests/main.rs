//! The one integration binary; a module for each subject.

mod refuse_models;
mod strict;
