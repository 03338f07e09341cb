//! Where records go: a file of lines, the terminal, TensorBoard.

pub mod console;
pub mod jsonl;
pub mod tensorboard;
