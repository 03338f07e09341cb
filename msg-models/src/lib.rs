//! GPT and BERT as typed modules that grow along every axis.
//!
//! A configuration makes the axes; below it everything takes [`Hidden`](msg_core::axis::Hidden) or
//! [`Ffn`](msg_core::axis::Ffn), never a bare number. Each family lists its parameters once
//! ([`Module::walk`](msg_core::params::Module::walk)); initialisation, counting, growth, the optimizer
//! and files all use that list.
//!
//! ```
//! use dfdx::tensor::{Cpu, NoneTape};
//! use msg_core::{growth::{Init, Masked, Ramp}, ops::Dropout, params::Module};
//! use msg_models::{GrowingModel, GrowthSpec, gpt::{Gpt, GptBatch, GptConfig}, sizes};
//!
//! let device = Cpu::default();
//! let sizes = sizes! { layers: 1, hidden: 8, ffn: 12, heads: 2 };
//! let small = Gpt::new(&device, GptConfig { vocab: 11, positions: 6, head_dim: 4, sizes, ..GptConfig::default() }, Init::default())?;
//! let target = sizes! { layers: 2, hidden: 10, ffn: 16, heads: 3 };
//! let growth = small.growth_to(target, &GrowthSpec::default())?;
//! let grown = small.grown(&growth, &Masked::default(), Ramp { start: 0, length: 100 })?;
//!
//! let batch = GptBatch::new(&device, &[1, 2, 3, 4], &[2, 3, 4, 5], (1, 4), small.config())?;
//! let logits = |model: &Gpt<Cpu>| -> msg_core::Result<Vec<f32>> {
//!     let masks = model.masks(0)?;
//!     Ok(model.logits(&batch, &masks, &Dropout::OFF, NoneTape)?.as_vec())
//! };
//! assert_eq!(logits(&small)?, logits(&grown)?); // to the bit, at the moment of growth
//! assert!(grown.num_params() > small.num_params());
//! # Ok::<(), msg_core::Error>(())
//! ```

#![deny(unsafe_code)]

pub mod bert;
pub mod cost;
pub mod function_preserving;
pub mod gpt;
pub mod growing;
pub mod hf;
pub mod layers;
pub mod sizes;

pub use cost::{Cost, OptimizerNumbers};
pub use growing::{
    masks::{MaskPlace, MaskSite, Masks},
    model::GrowingModel,
    spec::{DepthInit, GrowthSpec, WidthInit},
    state::GrowthState,
};
pub use sizes::{GrowingAxis, Grows, Sizes};
