//! Files and folders that are whole or not there, and bounded reading. Knows no format of ours.

pub(crate) mod bounded_json;
pub(crate) mod new_folder;
