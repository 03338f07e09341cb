//! Products against sums in f64; products that are followed by more, against the steps by themselves.

#![cfg(not(feature = "ci-check"))]

use super::{Epilogue, F32Mode, Products, Sizes};
use crate::{
    axis::Rows,
    device::{
        cuda::{
            cast::{Operand, operand as operand_of},
            element::Values,
        },
        open_cuda, raw_pointer,
    },
    random::{Key, bits_at, uniform},
};
use dfdx::{
    shapes::HasShape,
    tensor::{Cuda, Tensor, TensorFromVec},
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
fn read(from: &Values<bf16>) -> Vec<f32> {
    from.bits().into_iter().map(|bits| bf16::from_bits(bits).to_f32()).collect()
}

/// GELU in the form with tanh.
fn gelu(z: f32) -> f32 {
    let z = f64::from(z);
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (z + 0.044_715 * z.powi(3));
    (0.5 * z * (1.0 + inner.tanh())) as f32
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
    let operand = |values: &[f32]| -> Operand<bf16> {
        let there = on(&device, values);
        operand_of(&gpu, raw_pointer::address(&there).unwrap(), there.shape().0.0).unwrap()
    };
    let operands = [operand(&x), operand(&weight), operand(&bias)];
    let [of_x, of_weight, of_bias] = [&operands[0], &operands[1], &operands[2]].map(|o| o.address());
    let products = Products::on(&gpu, F32Mode::Exact).unwrap();
    let (y, sum) = (
        Values::<bf16>::of(&gpu, rows * outputs).unwrap(),
        Values::<bf16>::of(&gpu, rows * outputs).unwrap(),
    );
    let expected = sums(&x, &weight, &bias);

    products.linear::<bf16, bf16>(SIZE, (of_x, of_weight), y.address()).unwrap();
    let plain = sums(&x, &weight, &vec![0.0; outputs]);
    assert_near("product", &plain, &read(&y));

    // Twice: the second time from a known plan.
    for _ in 0..2 {
        assert!(products.linear_with_epilogue(SIZE, (of_x, of_weight), y.address(), Epilogue::Bias(of_bias)));
        assert_near("with bias", &expected, &read(&y));
    }

    let epilogue = Epilogue::BiasAndGelu { bias: of_bias, sum: sum.address() };
    assert!(products.linear_with_epilogue(SIZE, (of_x, of_weight), y.address(), epilogue));
    assert_near("sum before GELU", &expected, &read(&sum));
    let active: Vec<f32> = expected.iter().map(|&z| gelu(z)).collect();
    assert_near("GELU", &active, &read(&y));
}

#[test]
fn rows_that_are_not_aligned_are_left_to_the_caller() {
    let device = open_cuda(0).unwrap();
    let products = Products::on(&raw_pointer::driver(&device).unwrap(), F32Mode::Exact).unwrap();
    for size in [Sizes { inputs: 20, ..SIZE }, Sizes { outputs: 17, ..SIZE }, Sizes { rows: 0, ..SIZE }] {
        assert!(!products.linear_with_epilogue(size, (0, 0), 0, Epilogue::Bias(0)));
    }
}
