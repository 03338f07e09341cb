//! The choices for writing a module: notes, types, names, file size.

use crate::hf::{load::InFile, numbers::StoredType};
use std::collections::BTreeMap;

/// The choices for writing a module: notes, types, names, file size.
#[derive(Clone, Copy)]
pub struct Format<'a> {
    /// The files' own notes. Without a `format` they get `format: pt`, which Hugging Face's loader asks for.
    pub notes: &'a BTreeMap<String, String>,
    /// How a tensor is stored, by its name in the file.
    pub stored: &'a dyn Fn(&str) -> StoredType,
    /// The name that a tensor gets instead of its own; `None` leaves it out.
    pub named: &'a dyn Fn(&str) -> Option<String>,
    /// Bytes of the values of one file at most; a larger tensor has a file to itself.
    pub largest: u64,
    /// The values, where they lie in a file; the module then says shapes and what the file lacks.
    pub values: Option<&'a InFile<'a>>,
}

impl std::fmt::Debug for Format<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Format")
            .field("notes", self.notes)
            .field("largest", &self.largest)
            .finish_non_exhaustive()
    }
}

impl<'a> Format<'a> {
    /// One file of f32 under the module's own names.
    pub fn plain(notes: &'a BTreeMap<String, String>) -> Self {
        Format {
            notes,
            stored: &|_| StoredType::F32,
            named: &|name| Some(name.to_owned()),
            largest: u64::MAX,
            values: None,
        }
    }
}
