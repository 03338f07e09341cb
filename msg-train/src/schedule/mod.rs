//! What each optimizer step is: stages, rates and ramps as pure functions of the step.

pub mod learning_rate;
pub mod plan;
pub mod table;
