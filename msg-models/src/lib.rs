#![doc = include_str!("../README.md")]
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
