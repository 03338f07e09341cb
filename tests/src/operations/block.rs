//! A whole block: its plain chain is the reference.

use super::Results;
use crate::block_case::{Case, outcome};
use dfdx::tensor::Cpu;
use msg_core::{
    Backend, Result,
    ops::{NormOrder, Precision, block},
};

/// Relative to the largest value.
pub const TOLERANCE: f64 = 1e-4;

/// # Errors
/// Where the operation refuses.
pub fn plain() -> Result<Results> {
    let device = Cpu::default();
    let of = |case: &Case| {
        let block = case.block(&device)?;
        outcome(case, &block, &device, |x| block::plain::block(x, &block))
    };
    results(of)
}

/// # Errors
/// Where the operation refuses.
pub fn on<D: Backend>(device: &D) -> Result<Results> {
    let of = |case: &Case| {
        let block = case.block(device)?;
        outcome(case, &block, device, |x| block.clone().forward(x))
    };
    results(of)
}

fn results(of: impl Fn(&Case) -> Result<Vec<crate::block_case::Named>>) -> Result<Results> {
    let mut results = Results::new();
    for order in [NormOrder::Pre, NormOrder::Post] {
        let base = Case::new(order, Precision::F32);
        for case in [base, Case { masked: true, gate: 0.4, padded: true, dropout: 0.3, ..base }] {
            for (name, values) in of(&case)? {
                let values = values.into_iter().map(f64::from).collect();
                results.push((format!("{case:?}: {name}"), values));
            }
        }
    }
    Ok(results)
}
