//! Panics of the `tokenizers` crate, which a file that anyone may have written can cause, as refusals.

use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    /// Whether a panic on this thread is about to be caught, and so not worth a report.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

static HOOK: Once = Once::new();

/// What `work` returns, or the words of its panic. Only for work that leaves nothing half done.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |facts| {
            if !EXPECTED.get() {
                before(facts);
            }
        }));
    });
    let outer = EXPECTED.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    EXPECTED.set(outer);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let words = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
        format!("one that the tokenizers crate cannot work with ({words})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_words_and_what_works_is_returned() {
        assert_eq!(caught(|| 3), Ok(3));
        let words = caught(|| assert_eq!(1, 2, "numbers")).unwrap_err();
        assert!(
            words.starts_with("one that the tokenizers crate cannot work with (")
                && words.contains("numbers")
        );
    }
}
