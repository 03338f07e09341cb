//! Hugging Face files: a module's tensors out to safetensors, and back.
//!
//! A module keeps its parts apart in memory and merges them only here. Its walk names are the file's
//! names; a [`Naming`] adds how each tensor lies in the file ([`FileLayout`]), which file tensors
//! repeat another one, and which other spellings of the names are in use. That is one small function
//! and two short lists a family:
//!
//! ```
//! use msg_core::params::ParamName;
//! use msg_models::hf::{FileLayout, Naming};
//!
//! fn layout(name: &ParamName) -> FileLayout {
//!     let name = name.to_string();
//!     match name.rsplit_once("c_attn.") {
//!         Some((_, "weight")) => FileLayout::Transposed,
//!         Some((_, "bias")) => FileLayout::Merged,
//!         _ => FileLayout::AsIs,
//!     }
//! }
//! const NAMES: Naming = Naming::new(layout).with_aliases(&[("lm_head.weight", "transformer.wte.weight")]);
//! # let name = ParamName::root().join("transformer").layer_of("h", 0).join("attn.c_attn.bias");
//! # assert_eq!((NAMES.layout)(&name), FileLayout::Merged);
//! ```
//!
//! [`load`] checks everything (names, shapes, types, values) before it builds anything, and gives a
//! loaded copy; [`save`] writes a temporary file and renames it, so that a file that exists is whole.
//! The format: <https://github.com/huggingface/safetensors>, "Format".

mod error;
pub(crate) mod file_layout;
mod format;
mod header;
pub(crate) mod keys;
pub(crate) mod layout;
mod load;
mod map;
mod numbers;
mod read;
pub(crate) mod representable;
mod shards;
mod write;

pub use error::{Error, Result};
pub use file_layout::FileLayout;
pub use format::Format;
pub use keys::Unsupported;
pub use layout::Naming;
pub use load::{InFile, absent, check_outline, load};
pub use numbers::StoredType;
pub use read::{INDEX, Subset, TensorFile, WEIGHTS};
pub use representable::{Unrepresentable, representable};
pub use write::{save, save_folder};
