//! A count of acting masks, by which tests show that a pass without masks costs nothing.

use std::cell::Cell;

thread_local! {
    static MASKED_NODES: Cell<u64> = const { Cell::new(0) };
}

/// How many masks and gates have acted on this thread since the last call, for tests: a pass without masks adds none.
pub fn take_masked_nodes() -> u64 {
    MASKED_NODES.take()
}

pub(super) fn count_masked_node() {
    MASKED_NODES.set(MASKED_NODES.get() + 1);
}
