//! Lines for people and pipes. The standard macros panic where a line cannot be written, which would end a
//! run of days with its terminal; these take their names for this crate.

use std::{
    fmt::Arguments,
    io::{self, ErrorKind, Write},
    sync::Mutex,
};

/// What first kept a result from being written.
static LOST: Mutex<Option<io::Error>> = Mutex::new(None);

/// A line of results. A reader that has closed its pipe has all that it wants; any other failure is
/// remembered.
macro_rules! println {
    ($($text:tt)*) => { $crate::output::result(format_args!($($text)*)) };
}

/// A line to the person in front of the run, who may have gone.
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::output::note(format_args!($($text)*)) };
}

pub fn result(text: Arguments<'_>) {
    if let Err(error) = writeln!(io::stdout(), "{text}")
        && error.kind() != ErrorKind::BrokenPipe
        && let Ok(mut lost) = LOST.lock()
    {
        lost.get_or_insert(error);
    }
}

pub fn note(text: Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The first result that was lost, if any.
pub fn lost() -> Option<io::Error> {
    LOST.lock().ok()?.take()
}
