//! Products against sums in f64; products that are followed by more, against the steps by themselves.

#![cfg(not(feature = "ci-check"))]

use super::{Products, Single, Sizes, Then};
use crate::{
    axis::Rows,
    device::{
        cuda::element::{Element, Values},
        open_cuda, raw_pointer,
    },
    random::{Key, bits_at, uniform},
};
use dfdx::{
    shapes::HasShape,
    tensor::{Cuda, Tensor, TensorFromVec, ZerosTensor},
};
use half::bf16;

const SIZE: Sizes = Sizes { rows: 13, inputs: 24, outputs: 16 };

/// Numbers that bf16 holds exactly.
fn numbers(name: &str, count: usize) -> Vec<f32> {
    let key = Key::new(8, name, 0);
    let number = |at| 2.0 * uniform(bits_at(key, [0, 0, 0, at as u32])) - 1.0;
    (0..count).map(|at| bf16::from_f32(number(at)).to_f32()).collect()
}

fn on(device: &Cuda, values: &[f32]) -> Tensor<(Rows,), f32, Cuda> {
    device.tensor_from_vec(values.to_vec(), (Rows(values.len()),))
}

/// The values as bf16, back on the host.
fn read(device: &Cuda, from: &Values<bf16>, count: usize) -> Vec<f32> {
    let gpu = raw_pointer::driver(device).unwrap();
    let wide: Tensor<(Rows,), f32, Cuda> = device.zeros_like(&(Rows(count),));
    let with = crate::ops::elementwise::Gather {
        to: raw_pointer::address(&wide).unwrap(),
        b: from.address(),
        count,
        ..Default::default()
    };
    crate::ops::elementwise::gather::<bf16>(&gpu, with).unwrap();
    wide.as_vec()
}

/// `x W^T` and `x W^T + b`.
fn sums(x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let Sizes { rows, inputs, outputs } = SIZE;
    let sum = |row: usize, output: usize| {
        let products =
            (0..inputs).map(|i| f64::from(x[row * inputs + i]) * f64::from(weight[output * inputs + i]));
        (products.sum::<f64>() + f64::from(bias[output])) as f32
    };
    (0..rows * outputs).map(|at| sum(at / outputs, at % outputs)).collect()
}

fn assert_near(what: &str, expected: &[f32], got: &[f32]) {
    assert_eq!(expected.len(), got.len(), "{what}");
    for (at, (e, g)) in expected.iter().zip(got).enumerate() {
        assert!((e - g).abs() <= e.abs() / 200.0 + 1e-3, "{what}: entry {at}: expected {e}, got {g}");
    }
}

#[test]
fn what_follows_a_product_is_what_the_steps_make() {
    let device = open_cuda(0).unwrap();
    let gpu = raw_pointer::driver(&device).unwrap();
    let Sizes { rows, inputs, outputs } = SIZE;
    let (x, weight) = (numbers("x", rows * inputs), numbers("w", outputs * inputs));
    let bias = numbers("b", outputs);
    let operand = |values: &[f32]| {
        let there = on(&device, values);
        bf16::operand(&gpu, raw_pointer::address(&there).unwrap(), there.shape().0.0).unwrap()
    };
    let operands = [operand(&x), operand(&weight), operand(&bias)];
    let [of_x, of_weight, of_bias] = [&operands[0], &operands[1], &operands[2]].map(|o| o.address());
    let products = Products::on(&gpu, Single::Exact).unwrap();
    let (y, sum) = (
        Values::<bf16>::of(&gpu, rows * outputs).unwrap(),
        Values::<bf16>::of(&gpu, rows * outputs).unwrap(),
    );
    let expected = sums(&x, &weight, &bias);

    products.linear::<bf16, bf16>(SIZE, (of_x, of_weight), y.address()).unwrap();
    let plain = sums(&x, &weight, &vec![0.0; outputs]);
    assert_near("product", &plain, &read(&device, &y, rows * outputs));

    // Twice: the second time from a known plan.
    for _ in 0..2 {
        assert!(products.linear_then(SIZE, (of_x, of_weight), y.address(), Then::Bias(of_bias)));
        assert_near("with bias", &expected, &read(&device, &y, rows * outputs));
    }

    let then = Then::BiasAndGelu { bias: of_bias, sum: sum.address() };
    assert!(products.linear_then(SIZE, (of_x, of_weight), y.address(), then));
    assert_near("sum before GELU", &expected, &read(&device, &sum, rows * outputs));
    let active: Vec<f32> = expected.iter().map(|&z| crate::ops::math::gelu_tanh(z).0).collect();
    assert_near("GELU", &active, &read(&device, &y, rows * outputs));
}

#[test]
fn rows_that_are_not_aligned_are_left_to_the_caller() {
    let device = open_cuda(0).unwrap();
    let products = Products::on(&raw_pointer::driver(&device).unwrap(), Single::Exact).unwrap();
    for size in [Sizes { inputs: 20, ..SIZE }, Sizes { outputs: 17, ..SIZE }, Sizes { rows: 0, ..SIZE }] {
        assert!(!products.linear_then(size, (0, 0), 0, Then::Bias(0)));
    }
}
