//! Muon on Cuda: golden numbers, and the Cpu as its twin.

use super::{assert_close, assert_same_bits, gpu};
use dfdx::tensor::{Cpu, TensorFrom};
use msg_core::{
    Backend,
    growth::{AxisMap, Growth, Masked, grow},
    ops::Precision,
    optim::{Muon, MuonConfig, StatePolicy, Update},
};
use msg_tests::{
    matrices::{Matrices, golden_distances},
    toy::draw,
};

/// As on the Cpu: see tests/muon.rs. Products are summed in another order, which does not change how far they are off.
const F32: f64 = 5e-5;
const BF16: f64 = 0.2;

#[test]
fn cuda_muon_meets_the_golden_numbers_in_f32_and_in_bf16() {
    for (precision, bound) in [(Precision::F32, F32), (Precision::Bf16, BF16)] {
        let distances = golden_distances(&gpu(), precision).unwrap();
        println!("{precision:?}: {distances:?}");
        assert_eq!(distances.len(), 4);
        for (case, distance) in distances {
            assert!(distance <= bound, "{case} in {precision:?}: {distance}");
        }
    }
}

/// Values and slots after each of five steps, with a growth and an update that is not applied among them.
fn run<D: Backend>(device: &D, precision: Precision) -> Vec<(String, Vec<f32>)> {
    let mut module = Matrices::zeros(device, [7, 37, 61, 24]).unwrap();
    module.set(|name, _, at| Some(draw(7, name, at))).unwrap();
    let config = MuonConfig { weight_decay: 0.1, precision: Some(precision), ..MuonConfig::default() };
    let mut optimizer = Muon::new(&module, config).unwrap();
    let mut history = Vec::new();
    for step in 0..5 {
        if step == 2 {
            let growth = Growth::new(3, 1).with_axis(AxisMap::append("Hidden", 37, 50).unwrap());
            let growth = growth.with_axis(AxisMap::copies("Inner", 24, 32).unwrap());
            module = grow(&module, &growth, &Masked::default()).unwrap();
            optimizer = optimizer.grown(&module, &growth, StatePolicy::Age).unwrap();
        }
        for loss in [f32::NAN, 1.0] {
            let before = (module.values().unwrap(), module.slots(&optimizer).unwrap());
            let mut grads = module.gradients(|name, at| draw(step, name, at));
            let update = Update { new_factor: 0.5, new_since: 2, ..Update::at(0.02) };
            optimizer.apply(&mut module, &mut grads, Some(&device.tensor(loss)), update).unwrap();
            let applied = optimizer.settle().unwrap().applied;
            let after = (module.values().unwrap(), module.slots(&optimizer).unwrap());
            assert_eq!((applied, before == after), (loss == 1.0, loss != 1.0));
        }
        for (name, values) in module.values().unwrap().into_iter().chain(module.slots(&optimizer).unwrap()) {
            history.push((format!("step {step}: {name}"), values));
        }
    }
    history
}

#[test]
fn cuda_muon_agrees_with_the_cpu() {
    for (precision, bound) in [(Precision::F32, 2e-5), (Precision::Bf16, 5e-3)] {
        let (expected, got) = (run(&Cpu::default(), precision), run(&gpu(), precision));
        assert_eq!(expected.len(), got.len());
        for ((what, expected), (_, got)) in expected.iter().zip(&got) {
            // What no product reaches has the Cpu's bits.
            if !["qkv", "square", "tall", "wide"].iter().any(|name| what.ends_with(&format!(": {name}"))) {
                assert_same_bits(what, expected, got);
            }
            let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
            assert_close(what, &wide(expected), &wide(got), bound);
        }
    }
}
