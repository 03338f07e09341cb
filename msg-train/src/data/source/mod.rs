//! Where text comes from: which files, in which order, and the documents in them.

mod crates;
mod field;
mod list;
mod read;

pub use crates::CargoFolders;
pub use list::files;
pub use read::{Documents, Piece, ReadOptions};
