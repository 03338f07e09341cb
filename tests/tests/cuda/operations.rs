//! The masked operations and their gradients on small odd sizes.

use super::{assert_close, gpu, numbers};
use dfdx::{
    prelude::{Backward, SumTo, Trace, TryMul},
    shapes::{HasShape, Shape},
    tensor::{Cpu, NoneTape, Tensor},
};
use msg_core::{
    axis::{AttnDim, Batch, Ffn, HeadDim, Hidden, Key, Query, Rows, Vocab},
    mask::Mask,
    ops::{
        AttentionMask, Dropout, DropoutSite, Gelu, Ids, Kernels, Labels, attention, cross_entropy, embed,
        masked_gelu, masked_layer_norm,
    },
};

type Results = Vec<(String, Vec<f64>)>;

fn tensor<S: Shape, D: Kernels<f32>>(device: &D, name: &str, shape: S) -> Tensor<S, f32, D> {
    device.tensor_from_vec(numbers(name, shape.num_elements()), shape)
}

fn wide<S: Shape, D: Kernels<f32>>(tensor: &Tensor<S, f32, D>) -> Vec<f64> {
    tensor.as_vec().into_iter().map(f64::from).collect()
}

macro_rules! with_gradients {
    ($results:ident, $device:ident, $name:expr, $y:expr, [$($of:ident),+]) => {{
        let (y, name) = ($y, String::from($name));
        $results.push((name.clone(), wide(&y.retaped::<NoneTape>())));
        let seed = tensor($device, "seed", *y.shape());
        let gradients = y.try_mul(seed).unwrap().sum::<(), _>().backward();
        $($results.push((format!("{name}: gradient of {}", stringify!($of)), wide(&gradients.get(&$of))));)+
    }};
}

fn norms<D: Kernels<f32>>(device: &D) -> Results {
    let mut results = Results::new();
    let x: Tensor<_, f32, D> = tensor(device, "x", (Batch(2), Query(3), Hidden(37)));
    let gain: Tensor<_, f32, D> = tensor(device, "gain", (Hidden(37),));
    let shift: Tensor<_, f32, D> = tensor(device, "shift", (Hidden(37),));
    for m in [None, Some(0.0), Some(0.3)] {
        let mask = masked(device, Hidden(37), m);
        let y = masked_layer_norm(x.leaky_trace(), &gain, &shift, &mask, 1e-5).unwrap();
        with_gradients!(results, device, format!("norm {m:?}"), y, [x, gain, shift]);
    }
    results
}

/// The last third of the units at `m`.
fn masked<A: msg_core::axis::Axis, D: Kernels<f32>>(device: &D, axis: A, m: Option<f32>) -> Mask<A, f32, D> {
    let Some(m) = m else { return Mask::none() };
    let units = axis.size();
    Mask::new(device, axis, (0..units).map(|unit| if 3 * unit < 2 * units { 1.0 } else { m }).collect())
        .unwrap()
}

fn gelus<D: Kernels<f32>>(device: &D) -> Results {
    let mut results = Results::new();
    let x: Tensor<_, f32, D> = tensor(device, "x", (Rows(3), Ffn(11)));
    for form in [Gelu::Erf, Gelu::Tanh] {
        for m in [None, Some(0.0), Some(0.3)] {
            let y = masked_gelu(x.leaky_trace(), form, &masked(device, Ffn(11), m)).unwrap();
            with_gradients!(results, device, format!("{form:?} {m:?}"), y, [x]);
        }
    }
    results
}

fn attentions<D: Kernels<f32>>(device: &D) -> Results {
    let mut results = Results::new();
    let (batch, length, inner) = (Batch(2), Query(5), AttnDim(6));
    let query: Tensor<_, f32, D> = tensor(device, "query", (batch, length, inner));
    let key: Tensor<_, f32, D> = tensor(device, "key", (batch, Key(5), inner));
    let value: Tensor<_, f32, D> = tensor(device, "value", (batch, Key(5), inner));
    let site = DropoutSite { layer: Some(1), place: "attention" };
    let seen: Vec<bool> = (0..10).map(|at| at != 4 && at < 8).collect();
    let padding = AttentionMask::full().with_padding(device, &seen, batch, length).unwrap();
    let dropout = Dropout::new(0.3, 1, 2, 3).unwrap();
    for (name, mask, dropout) in [
        ("causal", AttentionMask::causal(length), Dropout::OFF),
        ("padding", padding, Dropout::OFF),
        ("dropout", AttentionMask::full(), dropout),
    ] {
        let y = attention(
            query.leaky_trace(),
            key.retaped(),
            value.retaped(),
            HeadDim(3),
            &mask,
            (dropout, site),
        );
        with_gradients!(results, device, name, y.unwrap(), [query, key, value]);
    }
    results
}

fn losses<D: Kernels<f32>>(device: &D) -> Results {
    let mut results = Results::new();
    let table: Tensor<_, f32, D> = tensor(device, "table", (Vocab(13), Hidden(5)));
    let logits: Tensor<_, f32, D> = tensor(device, "logits", (Batch(2), Query(3), Vocab(13)));
    let ids = Ids::new(device, "token", &[3, 0, 12, 3, 7, 1], (Batch(2), Query(3)), Vocab(13)).unwrap();
    let y: Tensor<(Batch, Query, Hidden), f32, D, _> = embed(table.leaky_trace(), &ids).unwrap();
    with_gradients!(results, device, "embedding", y, [table]);
    let labels = Labels::new(device, &[3, -100, 12, 0, -100, 5], (Batch(2), Query(3)), Vocab(13)).unwrap();
    let loss = cross_entropy(logits.leaky_trace(), &labels, labels.counted()).unwrap();
    results.push(("loss".into(), vec![f64::from(loss.as_vec()[0])]));
    results.push(("loss: gradient".into(), wide(&loss.backward().get(&logits))));
    results
}

fn check(expected: Results, got: Results) {
    assert_eq!(expected.len(), got.len());
    for ((what, expected), (_, got)) in expected.into_iter().zip(got) {
        assert_close(&what, &expected, &got, 1e-5);
    }
}

#[test]
fn cuda_masked_layer_norm_agrees_with_the_cpu() {
    check(norms(&Cpu::default()), norms(&gpu()));
}

#[test]
fn cuda_gelu_agrees_with_the_cpu() {
    check(gelus(&Cpu::default()), gelus(&gpu()));
}

#[test]
fn cuda_attention_agrees_with_the_cpu() {
    check(attentions(&Cpu::default()), attentions(&gpu()));
}

#[test]
fn cuda_embedding_and_cross_entropy_agree_with_the_cpu() {
    check(losses(&Cpu::default()), losses(&gpu()));
}
