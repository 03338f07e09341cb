//! The families that can be trained. A new one is a file here and an arm where runs are opened.

mod bert;
mod gpt;
