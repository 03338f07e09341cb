//! Exact growth: a larger model that computes the same function without masks, so that any program that
//! runs the architecture can load it. And folding: masks and spare heads into weights.
//!
//! Why it is exact, axis by axis (H and H' units of the residual stream before and after):
//!
//! - **Ffn**, **heads**: new units compute anything; the columns that read them are 0.
//! - **Layers, pre-norm**: both projections back to the residual stream are 0, so the layer adds 0.
//! - **Layers, post-norm**: with the same two projections 0 the layer is two norms in a row. The layer below
//!   gives its last weight and bias to the new one and keeps 1 and 0: what goes up is normalised already, two
//!   more norms leave it as it is but for epsilon, and weight and bias act at the end as before.
//! - **Hidden, pre-norm**: new coordinates carry the mean of the old ones (columns of the tables, rows of
//!   the projections back, their biases). The mean of all stays; the variance becomes H/H' of what it was. With
//!   epsilon times H/H' the normalised old coordinates are sqrt(H'/H) of what they were, which weights times
//!   sqrt(H/H') undo; new coordinates normalise to 0 and, their biases being 0, put out 0: whatever reads them
//!   reads 0.
//! - **Hidden, post-norm**: a norm's output has a mean that the next sum must keep, so coordinates cannot
//!   carry means. With k copies of every coordinate mean and variance stay, and what reads them is divided by
//!   k. The tied token table is written as copies, so what it meets (the
//!   weight and bias of the transform's norm) is divided.
//! - **Head size**: zero keys in new places leave scores as they are; queries times sqrt(d'/d) make up for
//!   the larger divisor; columns that read new values are 0.

pub(crate) mod architecture;
mod fold;
mod grow;
mod heads;
mod operator;
mod plan;
mod units;

pub use architecture::{Architecture, Factors, ResidualForm};
pub use fold::{Folded, Unfoldable, check_foldable, fold};
pub use grow::grow;
pub use operator::Exact;
pub use plan::{NotExact, Plan};
