//! The head with its loss: its plain chain is the reference.

use super::{Results, tensor, values};
use dfdx::{
    tensor::{Cpu, OwnedTape, Tensor, Trace},
    tensor_ops::{Backward, TryMul},
};
use msg_core::{
    Backend, Result,
    axis::{Hidden, Query, Vocab},
    error::Context,
    ops::{
        Labels, Precision,
        head::{self, head_loss},
    },
    params::Param,
};

/// Relative to the largest value.
pub const TOLERANCE: f64 = 2e-5;

/// What both ways take.
type Inputs<'a, D> = (
    Tensor<(Query, Hidden), f32, D, OwnedTape<f32, D>>,
    &'a Param<(Vocab, Hidden), D>,
    Option<&'a Param<(Vocab,), D>>,
    &'a Labels<Vocab, (Query,), f32, D>,
);

/// # Errors
/// Where the operation refuses.
pub fn plain() -> Result<Results> {
    results(&Cpu::default(), |(x, table, bias, labels)| {
        head::plain(x, table, bias, labels, 5, Precision::F32)
    })
}

/// # Errors
/// Where the operation refuses.
pub fn on<D: Backend>(device: &D) -> Result<Results> {
    results(device, |(x, table, bias, labels)| head_loss(x, table, bias, labels, 5, Precision::F32))
}

fn results<D: Backend>(
    device: &D,
    way: impl Fn(Inputs<'_, D>) -> Result<Tensor<(), f32, D, OwnedTape<f32, D>>>,
) -> Result<Results> {
    let mut results = Results::new();
    for (rows, classes, inputs) in [(1, 2, 1), (7, 11, 5), (60, 37, 19)] {
        let x = tensor::<_, f32, D>(device, "x", (Query(rows), Hidden(inputs)));
        let table = tensor::<_, f32, D>(device, "table", (Vocab(classes), Hidden(inputs)));
        let bias = tensor::<_, f32, D>(device, "bias", (Vocab(classes),));
        let label = |row: usize| if row % 5 == 3 { -100 } else { (row * 7 % classes) as i64 };
        let labels: Vec<i64> = (0..rows).map(label).collect();
        let labels = Labels::new(device, &labels, (Query(rows),), Vocab(classes))?;
        for bias in [None, Some(&bias)] {
            let name = format!("{rows} rows, {}", if bias.is_some() { "a bias" } else { "no bias" });
            let loss = way((x.leaky_trace(), &table, bias, &labels))?;
            results.push((format!("{name}: loss"), loss.as_vec().into_iter().map(f64::from).collect()));
            // Another factor than 1 on the loss.
            let gradients = loss.try_mul(0.7).during("test")?.backward();
            results.push((format!("{name}: gradient of x"), values(&gradients.get(&x))));
            results.push((format!("{name}: gradient of table"), values(&gradients.get(&table))));
            if let Some(bias) = bias {
                results.push((format!("{name}: gradient of bias"), values(&gradients.get(bias))));
            }
        }
    }
    Ok(results)
}
