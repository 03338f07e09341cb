//! BERT: post-norm blocks, token types, pooler, masked-token and next-sentence heads.

mod batch;
mod block;
mod config;
mod cost;
mod heads;
pub mod hf;
mod model;

pub use batch::{BertBatch, BertInput};
pub use block::Block;
pub use config::BertConfig;
pub use heads::{MlmHead, Pooler};
pub use hf::config::BertHfConfig;
pub use model::Bert;
