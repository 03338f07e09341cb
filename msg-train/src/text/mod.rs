//! Numbers and tables as text. Knows nothing of training.

pub(crate) mod table;
