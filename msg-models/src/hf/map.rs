//! The uses of `unsafe` here: mapping a file into memory, and giving pages of it back.

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

/// Gives back the memory of bytes that were read; they are read again from the file where they are used again.
#[cfg(unix)]
#[allow(unsafe_code)]
pub(super) fn release(map: &Mmap, offset: usize, length: usize) {
    // SAFETY: the map is a read-only view of the file: a page that the system drops comes back with the file's
    // bytes, so that no reader of the map sees a difference. Where the system refuses, it keeps the page.
    let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, length) };
}

/// Elsewhere the system keeps what it likes.
#[cfg(not(unix))]
pub(super) fn release(_: &Mmap, _: usize, _: usize) {}
