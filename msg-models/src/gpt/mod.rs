//! GPT: pre-norm blocks, learned positions, a head tied to the token table.

mod architecture;
mod block;
mod config;
mod hf_config;
mod hf_import;
mod model;
pub mod names;

pub use block::Block;
pub use config::GptConfig;
pub use hf_config::GptHfConfig;
pub use model::{Gpt, GptBatch};
