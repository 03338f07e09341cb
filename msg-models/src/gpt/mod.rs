//! GPT: pre-norm blocks, learned positions, a head tied to the token table.

mod block;
mod config;
mod cost;
pub mod hf;
mod model;

pub use block::Block;
pub use config::GptConfig;
pub use hf::config::GptHfConfig;
pub use model::{Gpt, GptBatch};
