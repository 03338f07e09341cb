//! Optimizers on Cuda: every one of the list does what it does on the Cpu; AdamW in every bit where no clipping is at
//! work, age groups and growth included.

use super::{assert_close, assert_same_bits, gpu, numbers};
use dfdx::{
    prelude::{Backward, SumTo, Trace},
    shapes::{HasShape, Shape},
    tensor::{Cpu, Cuda, Gradients, OwnedTape, Tensor, TensorFrom},
};
use msg_core::{
    Backend, Result,
    axis::{Ffn, Hidden, NamedShape, Qkv},
    growth::{AxisMap, Growth, Init, Masked, grow, init},
    optim::{
        AdamW, AdamWConfig, AnyOptimizer, BirthSteps, OptimKernel, OptimizerConfig, OptimizerPass,
        StatePolicy, Update,
    },
    params::{Module, Param, ParamName, Role, Visitor},
};
use msg_tests::{
    matrices::{Matrices, Values},
    optimizers::every_optimizer,
};

/// Tensors of three ranks, one of them without weight decay.
#[derive(Clone, Debug)]
pub(super) struct Toy<D: Backend> {
    weights: Param<(Qkv, Ffn, Hidden), D>,
    weight: Param<(Ffn, Hidden), D>,
    gain: Param<(Hidden,), D>,
}

/// Units of Ffn and Hidden.
const SMALL: (usize, usize) = (4, 5);
/// Such that tensors are updated by several blocks, whose pieces begin inside rows.
const LARGE: (usize, usize) = (61, 131);

impl<D: Backend> Toy<D> {
    pub(super) fn new(device: &D) -> Self {
        Toy::sized(device, SMALL)
    }

    fn sized(device: &D, (ffn, hidden): (usize, usize)) -> Self {
        let (qkv, ffn, hidden) = (Qkv(3), Ffn(ffn), Hidden(hidden));
        let mut toy = Toy {
            weights: device.zeros_like(&(qkv, ffn, hidden)),
            weight: device.zeros_like(&(ffn, hidden)),
            gain: device.zeros_like(&(hidden,)),
        };
        init(&mut toy, Init { seed: 3, std: 0.5 }).unwrap();
        toy
    }

    /// Gradients that depend on the parameters and the step.
    pub(super) fn gradients(&self, step: usize) -> Gradients<f32, D> {
        self.gradients_times(step, 1.0)
    }

    /// The same times a factor, which may be one that makes them not finite.
    fn gradients_times(&self, step: usize, factor: f32) -> Gradients<f32, D> {
        fn part<S, D: Backend>(tensor: &Param<S, D>, name: &str) -> Tensor<(), f32, D, OwnedTape<f32, D>>
        where
            S: Shape + dfdx::shapes::ReduceShapeTo<(), S::AllAxes>,
        {
            let factors = numbers(name, tensor.shape().num_elements());
            let factors = tensor.device().tensor_from_vec(factors, *tensor.shape());
            (tensor.leaky_trace() * factors).sum::<(), S::AllAxes>()
        }
        let loss = part(&self.weights, &format!("weights {step}"));
        let loss = loss + part(&self.weight, &format!("weight {step}"));
        ((loss + part(&self.gain, &format!("gain {step}"))) * factor).backward()
    }
}

impl<D: Backend> Module<D> for Toy<D> {
    fn walk<V: Visitor<D>>(&mut self, at: &ParamName, visitor: &mut V) -> Result<()> {
        let Toy { weights, weight, gain } = self;
        visitor.visit(&at.join("weights"), Role::weights(), weights)?;
        visitor.visit(&at.join("weight"), Role::weight(), weight)?;
        visitor.visit(&at.join("gain"), Role::norm_weight(), gain)
    }
}

/// Values of parameters and moments after each step.
struct History(Vec<(String, Vec<f32>)>);

fn record<D: Backend>(history: &mut History, at: usize, toy: &Toy<D>, optimizer: &AdamW<D>) {
    struct Values<'a, D: Backend>(&'a mut History, usize, &'a AdamW<D>);
    impl<D: Backend> Visitor<D> for Values<'_, D> {
        fn visit<S: NamedShape>(
            &mut self,
            name: &ParamName,
            _: Role,
            tensor: &mut Param<S, D>,
        ) -> Result<()> {
            let (first, second) = self.2.moments::<S>(name)?;
            for (what, values) in [("value", &*tensor), ("first", first), ("second", second)] {
                self.0.0.push((format!("step {} {name} {what}", self.1), values.as_vec()));
            }
            Ok(())
        }
    }
    toy.inspect(&mut Values(history, at, optimizer)).unwrap();
}

/// Steps before, between and after two growths of different axes.
fn run<D: Backend>(
    device: &D,
    (ffn, hidden): (usize, usize),
    clip: Option<f64>,
    policy: StatePolicy,
) -> History {
    let mut history = History(Vec::new());
    let mut toy = Toy::sized(device, (ffn, hidden));
    let config = AdamWConfig { weight_decay: 0.1, ..AdamWConfig::default() };
    let mut optimizer = AdamW::new(&toy, config).unwrap();
    let growths = [
        (2, Growth::new(3, 1).with_axis(AxisMap::append("Hidden", hidden, hidden + 4).unwrap())),
        (4, Growth::new(3, 2).with_axis(AxisMap::append("Ffn", ffn, ffn + 3).unwrap())),
    ];
    for step in 0..6 {
        if let Some((_, growth)) = growths.iter().find(|(at, _)| *at == step) {
            toy = grow(&toy, growth, &Masked::default()).unwrap();
            optimizer = optimizer.grown(&toy, growth, policy).unwrap();
        }
        let update = Update { clip, new_factor: 0.5, new_since: 4, ..Update::at(0.01) };
        let mut gradients = toy.gradients(step);
        let norm = optimizer.step(&mut toy, &mut gradients, update).unwrap();
        history.0.push((format!("step {step} norm"), vec![norm as f32]));
        record(&mut history, step, &toy, &optimizer);
    }
    history
}

#[test]
fn cuda_adamw_equals_the_cpu_in_every_bit() {
    for (sizes, policy) in
        [(SMALL, StatePolicy::Age), (SMALL, StatePolicy::Inherit), (LARGE, StatePolicy::Age)]
    {
        let (expected, got) = (run(&Cpu::default(), sizes, None, policy), run(&gpu(), sizes, None, policy));
        assert_eq!(expected.0.len(), got.0.len());
        for ((what, expected), (_, got)) in
            expected.0.iter().zip(&got.0).filter(|((what, _), _)| !what.contains("norm"))
        {
            assert_same_bits(what, expected, got);
        }
    }
}

#[test]
fn cuda_adamw_with_clipping_agrees_with_the_cpu() {
    let (expected, got) = (
        run(&Cpu::default(), SMALL, Some(0.7), StatePolicy::Age),
        run(&gpu(), SMALL, Some(0.7), StatePolicy::Age),
    );
    assert_eq!(expected.0.len(), got.0.len());
    for ((what, expected), (_, got)) in expected.0.iter().zip(&got.0) {
        let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        assert_close(what, &wide(expected), &wide(got), 1e-6);
    }
}

#[test]
fn cuda_adamw_leaves_the_clones_of_restored_moments_alone() {
    let device = gpu();
    let mut toy = Toy::new(&device);
    // The moments of this state are clones of tensors that stay in use.
    let (first, second) = (Toy::new(&device), Toy::new(&device));
    let moments = vec![first.tensors(), second.tensors()];
    let mut optimizer = AdamW::restored(AdamWConfig::default(), moments, BirthSteps::default(), 3).unwrap();
    let mut gradients = toy.gradients(0);
    optimizer.step(&mut toy, &mut gradients, Update::at(0.1)).unwrap();
    let name = ParamName::root().join("weight");
    let before = first.weight.as_vec();
    assert_same_bits("a first moment", &Toy::new(&device).weight.as_vec(), &before);
    assert_same_bits("a second moment", &before, &second.weight.as_vec());
    let after: Param<(Ffn, Hidden), Cuda> = optimizer.moments(&name).unwrap().0.clone();
    assert_ne!(after.as_vec(), before);
}

#[test]
fn cuda_adamw_leaves_clones_alone_and_keeps_the_identity_of_parameters() {
    let device = gpu();
    let mut toy = Toy::new(&device);
    let mut optimizer = AdamW::new(&toy, AdamWConfig::default()).unwrap();
    let before = toy.clone();
    let name = ParamName::root().join("weight");
    optimizer.step(&mut toy, &mut before.gradients(0), Update::at(0.1)).unwrap();
    let moment: Param<(Ffn, Hidden), Cuda> = optimizer.moments(&name).unwrap().0.clone();
    let (values, first) = (before.weight.as_vec(), moment.as_vec());
    assert_ne!(values, toy.weight.as_vec());
    assert_same_bits("a clone", &Toy::new(&device).weight.as_vec(), &values);
    // Gradients of the clone, made before the step, are those of the parameter: the ids are the same.
    let mut gradients = before.gradients(1);
    let mut pass = device.begin_pass(&mut gradients, None).unwrap();
    pass.add_squares(&toy.weight).unwrap();
    pass.check_finite_and_clip(None, f64::INFINITY).unwrap();
    assert!(Cuda::read_status(&pass.finish().unwrap()).unwrap().square > 0.0);
    optimizer.step(&mut toy, &mut gradients, Update::at(0.1)).unwrap();
    assert_same_bits("a clone of a moment", &first, &moment.as_vec());
    assert_same_bits("a clone", &values, &before.weight.as_vec());
}

/// Four good updates, two age groups from the third on; between them, where `spared`, some that are not finite.
fn guarded<D: Backend>(device: &D, spared: bool) -> (History, u64) {
    let mut history = History(Vec::new());
    let mut toy = Toy::new(device);
    let mut optimizer =
        AdamW::new(&toy, AdamWConfig { weight_decay: 0.1, ..AdamWConfig::default() }).unwrap();
    let update = Update { clip: Some(0.7), ..Update::at(0.01) };
    for step in 0..4 {
        if step == 2 {
            let growth = Growth::new(3, 1).with_axis(AxisMap::append("Hidden", 5, 9).unwrap());
            toy = grow(&toy, &growth, &Masked::default()).unwrap();
            optimizer = optimizer.grown(&toy, &growth, StatePolicy::Age).unwrap();
        }
        for (loss, factor) in [
            (f32::NAN, 1.0),
            (f32::INFINITY, 1.0),
            (1.0, f32::NAN),
            (1.0, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NAN),
            (1.0, 1.0),
        ] {
            let good = (loss, factor) == (1.0, 1.0);
            if good || spared {
                let loss = device.tensor(loss);
                let mut gradients = toy.gradients_times(step, factor);
                optimizer.apply(&mut toy, &mut gradients, Some(&loss), update).unwrap();
                // Every other verdict is left to be settled by the next update or growth.
                if step % 2 == 0 {
                    let verdict = optimizer.settle().unwrap();
                    assert_eq!((verdict.applied, verdict.norm().is_finite()), (good, factor.is_finite()));
                }
            }
        }
        record(&mut history, step, &toy, &optimizer);
    }
    optimizer.settle().unwrap();
    (history, optimizer.applied())
}

#[test]
fn cuda_adamw_leaves_all_untouched_where_loss_or_gradients_are_not_finite() {
    let device = gpu();
    let ((spared, applied), (never, expected)) = (guarded(&device, true), guarded(&device, false));
    assert_eq!((applied, expected), (4, 4));
    assert_eq!(spared.0.len(), never.0.len());
    for ((what, expected), (_, got)) in never.0.iter().zip(&spared.0) {
        assert_same_bits(what, expected, got);
    }
}

/// Parameters and slots after steps before and after a growth.
fn growing<D: Backend>(device: &D, rule: OptimizerConfig) -> Result<(Values, Values)> {
    let mut module = Matrices::zeros(device, [6, 5, 9, 6])?;
    module.set(|name, _, at| Some(numbers(name, at + 1)[at]))?;
    let mut optimizer = AnyOptimizer::new(&module, rule)?;
    for step in 0..5 {
        if step == 2 {
            let growth = Growth::new(3, 1).with_axis(AxisMap::append("Hidden", 5, 8)?);
            module = grow(&module, &growth, &Masked::default())?;
            optimizer = optimizer.grown(&module, &growth, StatePolicy::Age)?;
        }
        let mut gradients = module.gradients(|name, at| numbers(&format!("{name} {step}"), at + 1)[at]);
        let update = Update { clip: Some(1.0), ..Update::at(0.02) };
        optimizer.step(&mut module, &mut gradients, update)?;
    }
    Ok((module.values()?, module.slots(&optimizer)?))
}

#[test]
fn cuda_optimizers_of_the_list_do_what_they_do_on_the_cpu() -> Result<()> {
    for rule in every_optimizer() {
        let (expected, got) = (growing(&Cpu::default(), rule)?, growing(&gpu(), rule)?);
        for (expected, got) in [(&expected.0, &got.0), (&expected.1, &got.1)] {
            assert_eq!(expected.keys().collect::<Vec<_>>(), got.keys().collect::<Vec<_>>());
            for (name, expected) in expected {
                let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<_>>();
                assert_close(&format!("{rule:?}: {name}"), &wide(expected), &wide(&got[name]), 1e-4);
            }
        }
    }
    Ok(())
}
