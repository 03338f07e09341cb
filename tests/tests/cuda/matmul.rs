//! The products and their gradients, in both precisions, for operands with and without a tape.

use super::{assert_close, gpu, numbers};
use dfdx::{
    prelude::{Backward, SumTo, Trace, TryMul},
    shapes::{Axes3, HasShape, Shape},
    tensor::{Cpu, NoneTape, Tensor},
    tensor_ops::PermuteTo,
};
use msg_core::{
    axis::{Batch, Ffn, HeadDim, Heads, Hidden, Key, Query, Rows},
    float::Float,
    ops::{Kernels, linear, matmul::Matmul},
};

fn tensor<S: Shape, E: Float, D: Kernels<E>>(device: &D, name: &str, shape: S) -> Tensor<S, E, D> {
    let values = numbers(name, shape.num_elements()).into_iter().map(|x| E::of(x.into())).collect();
    device.tensor_from_vec(values, shape)
}

fn wide<S: Shape, E: Float, D: Kernels<E>>(tensor: &Tensor<S, E, D>) -> Vec<f64> {
    tensor.as_vec().into_iter().map(|x| x.to_f64().unwrap()).collect()
}

/// Values and gradients, with their names.
type Results = Vec<(&'static str, Vec<f64>)>;

macro_rules! with_gradients {
    ($results:ident, $device:ident, $name:literal, $y:expr, [$($of:ident),+]) => {{
        let y = $y;
        $results.push(($name, wide(&y.retaped::<NoneTape>())));
        let seed = tensor($device, $name, *y.shape());
        let gradients = y.try_mul(seed).unwrap().sum::<(), _>().backward();
        $($results.push((concat!($name, " gradient of ", stringify!($of)), wide(&gradients.get(&$of))));)+
    }};
}

fn linear_maps<E: Float, D: Kernels<E>>(device: &D) -> Results {
    let mut results = Results::new();
    let weight: Tensor<(Ffn, Hidden), E, D> = tensor(device, "weight", (Ffn(7), Hidden(5)));
    let bias: Tensor<(Ffn,), E, D> = tensor(device, "bias", (Ffn(7),));
    let flat: Tensor<(Rows, Hidden), E, D> = tensor(device, "flat", (Rows(6), Hidden(5)));
    let x: Tensor<(Batch, Query, Hidden), E, D> = tensor(device, "x", (Batch(2), Query(3), Hidden(5)));
    let one: Tensor<(Rows, Hidden), E, D> = tensor(device, "one", (Rows(1), Hidden(1)));
    let column: Tensor<(Ffn, Hidden), E, D> = tensor(device, "column", (Ffn(7), Hidden(1)));
    let turned: Tensor<(Hidden, Batch, Query), E, D> =
        tensor(device, "turned", (Hidden(5), Batch(2), Query(3)));

    let y = linear(flat.leaky_trace(), weight.retaped(), Some(bias.retaped())).unwrap();
    with_gradients!(results, device, "rank 2", y, [flat, weight, bias]);
    let y = linear(x.leaky_trace(), weight.retaped(), None).unwrap();
    with_gradients!(results, device, "rank 3", y, [x, weight]);
    // The tape on the weight, behind an operation of its own; none of its own on the input.
    let scaled = weight.leaky_trace().try_mul(E::of(3.0)).unwrap();
    let y = linear(x.retaped(), scaled, None).unwrap();
    with_gradients!(results, device, "taped weight", y, [x, weight]);
    let y = linear(one.leaky_trace(), column.retaped(), None).unwrap();
    with_gradients!(results, device, "size 1", y, [one, column]);
    let view = turned.leaky_trace().permute::<(Batch, Query, Hidden), Axes3<1, 2, 0>>();
    let y = linear(view, weight.retaped(), None).unwrap();
    with_gradients!(results, device, "permuted input", y, [turned, weight]);
    results
}

fn heads<E: Float, D: Kernels<E>>(device: &D) -> Results {
    let mut results = Results::new();
    let query: Tensor<_, E, D> = tensor(device, "query", (Batch(2), Heads(3), Query(4), HeadDim(5)));
    let key: Tensor<_, E, D> = tensor(device, "key", (Batch(2), Heads(3), Key(7), HeadDim(5)));
    let p: Tensor<_, E, D> = tensor(device, "p", (Batch(2), Heads(3), Query(4), Key(7)));
    let y = <D as Matmul<E>>::scores(query.leaky_trace(), key.retaped()).unwrap();
    with_gradients!(results, device, "scores", y, [query, key]);
    let y = <D as Matmul<E>>::weighted_values(p.leaky_trace(), key.leaky_trace()).unwrap();
    with_gradients!(results, device, "mix", y, [p, key]);
    results
}

fn check(expected: Results, got: Results, tolerance: f64) {
    assert_eq!(expected.len(), got.len());
    for ((what, expected), (_, got)) in expected.into_iter().zip(got) {
        assert_close(what, &expected, &got, tolerance);
    }
}

#[test]
fn cuda_linear_maps_agree_with_the_cpu() {
    check(linear_maps::<f32, _>(&Cpu::default()), linear_maps::<f32, _>(&gpu()), 1e-5);
    check(linear_maps::<f64, _>(&Cpu::default()), linear_maps::<f64, _>(&gpu()), 1e-12);
}

#[test]
fn cuda_products_of_heads_agree_with_the_cpu() {
    check(heads::<f32, _>(&Cpu::default()), heads::<f32, _>(&gpu()), 1e-5);
    check(heads::<f64, _>(&Cpu::default()), heads::<f64, _>(&gpu()), 1e-12);
}
