//! Text from a model: a GPT continues a prompt, a BERT fills in masked tokens.

mod continuation;
mod fill;
mod preview;
pub mod sampling;
mod stream;

pub use continuation::{Request, continued, prompt_ids};
pub use fill::{Candidate, Filled, MASK, fill, fill_ids};
pub use preview::{Sample, of_held_out};
pub use stream::TextStream;
