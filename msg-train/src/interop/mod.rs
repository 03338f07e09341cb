//! Models from elsewhere and to elsewhere: published folders in and out, growth and conversion of what is there.
//!
//! [`import()`] makes a checkpoint of a published folder, [`export()`] the way back; [`grow()`] makes a larger
//! model of either, [`convert()`] one of a later stage or another type; [`inspect()`] tells what a path is.
//! All of them read through one door ([`source`]), write folders that appear whole or not at all, and note in
//! the files where the result comes from ([`provenance`]).

mod card;
mod convert;
mod export;
mod folder;
mod grow;
pub(crate) mod hf_folder;
mod import;
mod inspect;
mod parity;
pub mod provenance;
pub mod source;

pub use convert::{Conversion, Converted, convert};
pub use export::{DEFAULT_LARGEST, Export, Exported, export};
pub use folder::write_hf_folder;
pub use grow::{GrowRequest, Grown, grow};
pub use import::{Imported, import};
pub use inspect::inspect;
pub use parity::{Given, Parity};
