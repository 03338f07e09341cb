//! A short round of hostile files for every reader; `msg-fuzz` makes long ones.

use msg_tests::fuzz::{Counting, TARGETS, fuzz};
use std::{path::Path, time::Duration};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Time for each reader, besides its files that were made by hand.
const SHORT: Duration = Duration::from_millis(1500);

/// One test, one reader after another: what others allocate meanwhile would count.
#[test]
fn no_reader_panics_or_trusts_a_lie() {
    let failures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz-failures");
    for target in TARGETS {
        let summary = fuzz(&target, 1, SHORT, &failures).unwrap_or_else(|wrong| panic!("{wrong}"));
        // The loop reaches both sides of the check.
        let accepted = summary.files - summary.refused;
        assert!(summary.refused > 5 && accepted > 0, "{}: {summary:?}", target.name);
    }
}
