//! The one use of `unsafe` here: mapping a file into memory.

use memmap2::Mmap;
use std::{fs::File, io};

/// The file's bytes, read by the system as they are used.
///
/// # Errors
/// Where the system cannot map the file.
#[allow(unsafe_code)]
pub(super) fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is read-only and private to one `TensorFile`, which hands out its bytes only by
    // shared reference for as long as it lives, and converts them to numbers byte by byte, so that no
    // content can be an invalid value. What the compiler cannot see is another process changing the
    // file meanwhile. Our own writer never does: it writes a new file and renames it, and the map keeps
    // the old one. That nobody else cuts or edits the file while it is open is asked of the caller in
    // the docs of `TensorFile::open`, as every reader that maps files asks it.
    unsafe { Mmap::map(file) }
}
