//! Numbers and tables as text. Knows nothing of training.

pub(crate) mod quantity;
pub(crate) mod table;
