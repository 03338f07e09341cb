//! Pointers (under construction).
