//! Growing and initialising on Cuda gives the Cpu's bits, random numbers included.

use super::{assert_close, assert_same_bits, draw, gpu, numbers};
use dfdx::{
    prelude::{Backward, SumTo, Trace},
    shapes::Shape,
    tensor::{Cpu, Cuda, Gradients, Tensor, TensorFromVec},
    tensor_ops::{BroadcastTo, PermuteTo},
};
use msg_core::{
    Backend, Error,
    growth::{AxisMap, Fill, GrowKernel, NewEntries},
    optim::OptimizerPass,
    params::Param,
    random::Key,
};

/// A map of a random kind: no change, fresh units, copies, or a mixture.
fn random_map(case: usize, axis: usize) -> AxisMap {
    let draw = |what: &str, limit| draw(what, 4 * case + axis, limit);
    let (old, extra) = (1 + draw("old", 9), draw("extra", 40));
    let source = |unit: usize| match draw("kind", 4) {
        0 => None,
        1 => Some(unit % old),
        _ => (!unit.is_multiple_of(3)).then_some((unit * 7) % old),
    };
    let extra = if draw("grows", 3) == 0 { 0 } else { extra };
    AxisMap::with_sources("axis", old, old + extra, source).unwrap()
}

fn rules(case: usize) -> NewEntries {
    let fill = match case % 3 {
        0 => Fill::Constant(1.0),
        1 => Fill::Constant(-0.0),
        _ => Fill::Normal { std: 0.02 },
    };
    NewEntries { key: Key::new(3, "tensor", case as u64), fill }
}

fn grown<S: Shape, D: Backend>(
    device: &D,
    values: &[f32],
    old: S,
    maps: &[AxisMap],
    new: NewEntries,
) -> Vec<f32> {
    let mut sizes = S::Concrete::default();
    maps.iter().enumerate().for_each(|(at, map)| sizes[at] = map.new_size());
    let tensor = device.tensor_from_vec(values.to_vec(), old);
    let grown: Tensor<S, f32, D> =
        device.grow(&tensor, S::from_concrete(&sizes).unwrap(), maps, new).unwrap();
    assert_same_bits("the old tensor", values, &tensor.as_vec());
    grown.as_vec()
}

fn check_rank<S: Shape>(gpu: &Cuda, case: usize) {
    let maps: Vec<AxisMap> = (0..S::NUM_DIMS).map(|axis| random_map(case, axis)).collect();
    let mut old = S::Concrete::default();
    maps.iter().enumerate().for_each(|(at, map)| old[at] = map.old_size());
    let old = S::from_concrete(&old).unwrap();
    let values = numbers("values", old.num_elements());
    let expected = grown(&Cpu::default(), &values, old, &maps, rules(case));
    let got = grown(gpu, &values, old, &maps, rules(case));
    assert_same_bits(&format!("rank {} case {case}", S::NUM_DIMS), &expected, &got);
}

#[test]
fn cuda_growth_equals_the_cpu_in_every_bit() {
    let gpu = gpu();
    for case in 0..9 {
        check_rank::<(usize,)>(&gpu, 100 + case);
        check_rank::<(usize, usize)>(&gpu, 200 + case);
        check_rank::<(usize, usize, usize)>(&gpu, 300 + case);
    }
    for case in 0..4 {
        check_rank::<(usize, usize, usize, usize)>(&gpu, 400 + case);
    }
}

#[test]
fn cuda_growth_of_long_rows_equals_the_cpu() {
    let gpu = gpu();
    let maps = [AxisMap::append("rows", 2, 3).unwrap(), AxisMap::copies("columns", 1500, 2701).unwrap()];
    let values = numbers("long", 3000);
    let run = |cpu: bool| {
        let new = NewEntries { key: Key::new(1, "long", 1), fill: Fill::Normal { std: 1.5 } };
        if cpu {
            grown(&Cpu::default(), &values, (2, 1500), &maps, new)
        } else {
            grown(&gpu, &values, (2, 1500), &maps, new)
        }
    };
    assert_same_bits("long rows", &run(true), &run(false));
}

#[test]
fn cuda_initial_values_equal_the_cpu_in_every_bit() {
    let (cpu, gpu) = (Cpu::default(), gpu());
    for case in 0..3 {
        let shape = (2, 3, 5, 37);
        let expected = cpu.fresh(&shape, rules(case)).unwrap().as_vec();
        assert_same_bits("fresh", &expected, &gpu.fresh(&shape, rules(case)).unwrap().as_vec());
        let vector = (1031,);
        let expected = cpu.fresh(&vector, rules(case)).unwrap().as_vec();
        assert_same_bits("fresh", &expected, &gpu.fresh(&vector, rules(case)).unwrap().as_vec());
    }
}

#[test]
fn cuda_grows_views_by_their_values_and_refuses_foreign_maps() {
    let gpu = gpu();
    let maps = [AxisMap::append("a", 3, 4).unwrap(), AxisMap::append("b", 2, 2).unwrap()];
    let new = NewEntries { key: Key::new(1, "view", 1), fill: Fill::Constant(9.0) };
    let tensor = gpu.tensor_from_vec(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], (2usize, 3usize));
    let turned: Tensor<(usize, usize), f32, Cuda> = tensor.permute::<_, dfdx::shapes::Axes2<1, 0>>();
    let grown: Tensor<(usize, usize), f32, Cuda> = gpu.grow(&turned, (4, 2), &maps, new).unwrap();
    assert_eq!(grown.as_vec(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0, 9.0, 9.0]);

    let row = gpu.tensor_from_vec(vec![1.0, 2.0], (2usize,));
    let wide: Tensor<(usize, usize), f32, Cuda> = row.broadcast_like::<_, dfdx::shapes::Axis<0>>(&(3, 2));
    let grown: Tensor<(usize, usize), f32, Cuda> = gpu.grow(&wide, (4, 2), &maps, new).unwrap();
    assert_eq!(grown.as_vec(), [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 9.0, 9.0]);

    let refused: Result<Tensor<(usize, usize), f32, Cuda>, _> = gpu.grow(&wide, (5, 2), &maps, new);
    assert!(matches!(refused, Err(Error::Size { expected: 4, got: 5, .. })));
    let refused: Result<Tensor<(usize, usize), f32, Cuda>, _> = gpu.grow(&wide, (4, 2), &maps[..1], new);
    assert!(matches!(refused, Err(Error::Count { expected: 2, got: 1, .. })));
}

/// The sum of the squares of a tensor's gradient.
fn grad_square<S: Shape, D: Backend>(tensor: &Param<S, D>, grads: &mut Gradients<f32, D>) -> f64 {
    let mut pass = tensor.device().begin_pass(grads, None).unwrap();
    pass.add_squares(tensor).unwrap();
    pass.check_finite_and_clip(None, f64::INFINITY).unwrap();
    D::read_status(&pass.finish().unwrap()).unwrap().square
}

#[test]
fn cuda_sums_agree_with_the_cpu() {
    let (cpu, gpu) = (Cpu::default(), gpu());
    for count in [1, 31, 257, 16384, 40001] {
        let values: Vec<f32> = numbers("sums", count).iter().map(|x| 3.0 + 0.1 * x).collect();
        let on_cpu = cpu.tensor_from_vec(values.clone(), (count,));
        let on_gpu = gpu.tensor_from_vec(values.clone(), (count,));
        let (expected, got) = (Cpu::std_of(&on_cpu).unwrap(), Cuda::std_of(&on_gpu).unwrap());
        assert!((expected - got).abs() <= 1e-6 * expected, "std of {count}: {expected:e} {got:e}");

        let mut grads = Gradients::leaky();
        grads.get_or_alloc_mut(&on_cpu).unwrap().copy_from_slice(&values);
        let expected = grad_square(&on_cpu, &mut grads);
        // The gradient of sum(x^2 / 2) is x.
        let loss = (on_gpu.leaky_trace().square() * 0.5).sum::<(), _>();
        let got = grad_square(&on_gpu, &mut loss.backward());
        assert_close("grad_square", &[expected], &[got], 1e-12);
    }
    let untouched = gpu.tensor_from_vec(vec![1.0; 5], (5,));
    assert_eq!(grad_square(&untouched, &mut Gradients::leaky()), 0.0);
}
