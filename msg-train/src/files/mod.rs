//! Files and folders that are whole or not there, bounded reading, and the names of all files. Knows no format. Every
//! call may return the system's error.

pub(crate) mod atomic;
pub(crate) mod bounded_json;
pub mod names;
pub(crate) mod new_folder;
