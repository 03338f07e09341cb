//! A module of matrices of every form, with a table and a bias beside them, and its golden numbers under Muon.

use dfdx::{
    prelude::{Backward, SumTo, Trace},
    shapes::{HasShape, ReduceShapeTo, Shape},
    tensor::{Gradients, OwnedTape, Tensor},
};
use msg_core::{
    Backend, Result,
    axis::{AttnDim, Ffn, Hidden, HiddenOut, NamedShape, Qkv, Vocab},
    error::Context,
    growth::{AxisMap, Growth, Masked, grow},
    ops::Precision,
    optim::{AuxiliaryAdamW, Muon, MuonConfig, Optimizer, RuleOn, StatePolicy, Update},
    params::{Module, Param, ParamName, Role, TensorMap, Visitor},
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A table, three matrices in one tensor, a square, a tall and a wide matrix, a bias.
#[derive(Clone, Debug)]
pub struct Matrices<D: Backend> {
    table: Param<(Vocab, Hidden), D>,
    qkv: Param<(Qkv, AttnDim, Hidden), D>,
    square: Param<(HiddenOut, Hidden), D>,
    tall: Param<(Ffn, Hidden), D>,
    tall_bias: Param<(Ffn,), D>,
    wide: Param<(Hidden, Ffn), D>,
}

/// Values by parameter name, row-major.
pub type Values = BTreeMap<String, Vec<f32>>;
type Golden64 = BTreeMap<String, Vec<f64>>;

impl<D: Backend> Matrices<D> {
    /// All zeros; units of Vocab, Hidden, Ffn and AttnDim.
    ///
    /// # Errors
    /// The device's.
    pub fn zeros(device: &D, [vocab, hidden, ffn, inner]: [usize; 4]) -> Result<Self> {
        let (vocab, hidden, ffn, inner) = (Vocab(vocab), Hidden(hidden), Ffn(ffn), AttnDim(inner));
        Ok(Matrices {
            table: device.try_zeros_like(&(vocab, hidden)).during("test")?,
            qkv: device.try_zeros_like(&(Qkv(3), inner, hidden)).during("test")?,
            square: device.try_zeros_like(&(HiddenOut(hidden.0), hidden)).during("test")?,
            tall: device.try_zeros_like(&(ffn, hidden)).during("test")?,
            tall_bias: device.try_zeros_like(&(ffn,)).during("test")?,
            wide: device.try_zeros_like(&(hidden, ffn)).during("test")?,
        })
    }

    /// Sets every entry to what `value` says of its parameter, its coordinates and its row-major place.
    ///
    /// # Errors
    /// The device's.
    pub fn set(&mut self, value: impl FnMut(&str, &[usize], usize) -> Option<f32>) -> Result<()> {
        struct Set<F>(F);
        impl<D: Backend, F: FnMut(&str, &[usize], usize) -> Option<f32>> Visitor<D> for Set<F> {
            fn visit<S: NamedShape>(&mut self, name: &ParamName, _: Role, t: &mut Param<S, D>) -> Result<()> {
                let (mut values, name) = (t.as_vec(), name.to_string());
                let sizes = t.shape().concrete();
                for (place, entry) in values.iter_mut().enumerate() {
                    let (mut rest, mut coordinates) = (place, vec![0; sizes.as_ref().len()]);
                    for (at, size) in coordinates.iter_mut().zip(sizes.as_ref()).rev() {
                        (*at, rest) = (rest % size, rest / size);
                    }
                    *entry = (self.0)(&name, &coordinates, place).unwrap_or(*entry);
                }
                *t = t.device().try_tensor_from_vec(values, *t.shape()).during("test")?;
                Ok(())
            }
        }
        self.walk(&ParamName::root(), &mut Set(value))
    }

    /// Exactly these gradients.
    pub fn gradients(&self, of: impl Fn(&str, usize) -> f32) -> Gradients<f32, D> {
        fn part<S, D: Backend>(
            tensor: &Param<S, D>,
            of: impl Fn(usize) -> f32,
        ) -> Tensor<(), f32, D, OwnedTape<f32, D>>
        where
            S: Shape + ReduceShapeTo<(), S::AllAxes>,
        {
            let factors = (0..tensor.shape().num_elements()).map(of).collect::<Vec<_>>();
            let factors = tensor.device().tensor_from_vec(factors, *tensor.shape());
            (tensor.leaky_trace() * factors).sum::<(), S::AllAxes>()
        }
        let loss = part(&self.table, |at| of("table", at)) + part(&self.qkv, |at| of("qkv", at));
        let loss = loss + part(&self.square, |at| of("square", at)) + part(&self.tall, |at| of("tall", at));
        let loss = loss + part(&self.tall_bias, |at| of("tall_bias", at));
        (loss + part(&self.wide, |at| of("wide", at))).backward()
    }

    /// All parameters.
    ///
    /// # Errors
    /// None.
    pub fn values(&self) -> Result<Values> {
        struct Read(Values);
        impl<D: Backend> Visitor<D> for Read {
            fn visit<S: NamedShape>(&mut self, name: &ParamName, _: Role, t: &mut Param<S, D>) -> Result<()> {
                self.0.insert(name.to_string(), t.as_vec());
                Ok(())
            }
        }
        let mut read = Read(Values::new());
        self.inspect(&mut read).map(|()| read.0)
    }

    /// All slots of an optimizer, by the slot's name, a dot, and the parameter's.
    ///
    /// # Errors
    /// Where the optimizer is not the module's.
    pub fn slots<R: RuleOn<D>>(&self, optimizer: &Optimizer<D, R>) -> Result<Values> {
        struct Read<'a, D: Backend, R: RuleOn<D>>(&'a Optimizer<D, R>, Values);
        impl<D: Backend, R: RuleOn<D>> Visitor<D> for Read<'_, D, R> {
            fn visit<S: NamedShape>(&mut self, name: &ParamName, _: Role, _: &mut Param<S, D>) -> Result<()> {
                for slot in self.0.rule().slots() {
                    if let Ok(tensor) = self.0.slot::<S>(slot, name) {
                        self.1.insert(format!("{slot}.{name}"), tensor.as_vec());
                    }
                }
                Ok(())
            }
        }
        let mut read = Read(optimizer, Values::new());
        self.inspect(&mut read).map(|()| read.1)
    }
}

impl<D: Backend> Module<D> for Matrices<D> {
    fn walk<V: Visitor<D>>(&mut self, at: &ParamName, visitor: &mut V) -> Result<()> {
        let Matrices { table, qkv, square, tall, tall_bias, wide } = self;
        visitor.visit(&at.join("table"), Role::embedding(), table)?;
        visitor.visit(&at.join("qkv"), Role::weights(), qkv)?;
        visitor.visit(&at.join("square"), Role::weight(), square)?;
        visitor.visit(&at.join("tall"), Role::weight(), tall)?;
        visitor.visit(&at.join("tall_bias"), Role::bias(), tall_bias)?;
        visitor.visit(&at.join("wide"), Role::weight(), wide)
    }
}

#[derive(Deserialize)]
struct Golden {
    axes: BTreeMap<String, [usize; 2]>,
    growth_after: u64,
    parameters: Golden64,
    fill: Golden64,
    learning_rates: Vec<f64>,
    gradients: Vec<Golden64>,
    cases: BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Case {
    momentum: f64,
    weight_decay: f64,
    betas: (f64, f64),
    eps: f64,
    rate_ratio: f64,
    adamw_weight_decay: f64,
    clip: Option<f64>,
    policy: StatePolicy,
    norms: Vec<f64>,
    after: BTreeMap<u64, BTreeMap<String, Golden64>>,
}

/// How far one case is from its golden numbers: the largest difference of a parameter or a slot, the former in
/// learning rates of 0.02. NaN where any is.
pub type Distances = BTreeMap<String, f64>;

/// Replays all golden cases on a device.
///
/// # Errors
/// Where an update or a growth is refused.
///
/// # Panics
/// If a norm is not met to 1e-6, or the golden file cannot be read.
pub fn golden_distances<D: Backend>(device: &D, precision: Precision) -> Result<Distances> {
    let text = include_str!("../golden/muon/muon.json");
    let golden: Golden = serde_json::from_str(text).during("golden")?;
    golden
        .cases
        .iter()
        .map(|(name, case)| Ok((name.clone(), distance(device, &golden, case, precision)?)))
        .collect()
}

fn distance<D: Backend>(device: &D, golden: &Golden, case: &Case, precision: Precision) -> Result<f64> {
    let sizes = |when: usize| ["Vocab", "Hidden", "Ffn", "Inner"].map(|axis| golden.axes[axis][when]);
    let mut module = Matrices::zeros(device, sizes(0))?;
    module.set(|name, _, at| Some(golden.parameters[name][at] as f32))?;
    let (beta1, beta2) = case.betas;
    let config = MuonConfig {
        momentum: case.momentum,
        weight_decay: case.weight_decay,
        precision: Some(precision),
        adamw: AuxiliaryAdamW {
            rate_ratio: case.rate_ratio,
            beta1,
            beta2,
            eps: case.eps,
            weight_decay: case.adamw_weight_decay,
        },
        ..MuonConfig::default()
    };
    let mut optimizer = Muon::new(&module, config)?;
    let mut largest = 0.0f64;
    for (step, (&lr, grads)) in (1..).zip(golden.learning_rates.iter().zip(&golden.gradients)) {
        if step == golden.growth_after + 1 {
            let mut growth = Growth::new(1, 1);
            for axis in ["Hidden", "Ffn", "Inner"] {
                let [old, new] = golden.axes[axis];
                growth = growth.with_axis(AxisMap::append(axis, old, new)?);
            }
            let old_sizes = shapes(&module)?;
            module = grow(&module, &growth, &Masked::default())?;
            optimizer = optimizer.grown(&module, &growth, case.policy)?;
            module.set(|name, coordinates, at| {
                let is_old = coordinates.iter().zip(&old_sizes[name]).all(|(at, size)| at < size);
                (!is_old).then(|| golden.fill[name][at] as f32)
            })?;
        }
        let mut grads = module.gradients(|name, at| grads[name][at] as f32);
        let update = Update { clip: case.clip, ..Update::at(lr) };
        let norm = optimizer.step(&mut module, &mut grads, update)?;
        let want = case.norms[step as usize - 1];
        assert!((norm - want).abs() <= 1e-6 * want, "norm of step {step}: {norm} and not {want}");
        let Some(after) = case.after.get(&step) else { continue };
        let mut compare = |what: &str, got: &[f32], want: &[f64], unit: f64| {
            assert_eq!(got.len(), want.len(), "{what}");
            for (&got, &want) in got.iter().zip(want) {
                let far = (f64::from(got) - want).abs() / unit;
                // Written so that a NaN stays one.
                largest = if far <= largest { largest } else { far };
            }
        };
        let (values, slots) = (module.values()?, module.slots(&optimizer)?);
        assert_eq!((values.len(), slots.len()), (6, 8));
        for (name, got) in &values {
            compare(name, got, &after["parameters"][name], 0.02);
        }
        for (slot, got) in &slots {
            let (kind, name) = slot.split_once('.').expect("a slot's name and a parameter's");
            compare(slot, got, &after[kind][name], 1.0);
        }
    }
    Ok(largest)
}

/// The sizes of all parameters.
fn shapes<D: Backend>(module: &Matrices<D>) -> Result<BTreeMap<String, Vec<usize>>> {
    struct Read(BTreeMap<String, Vec<usize>>);
    impl<D: Backend> Visitor<D> for Read {
        fn visit<S: NamedShape>(&mut self, name: &ParamName, _: Role, t: &mut Param<S, D>) -> Result<()> {
            self.0.insert(name.to_string(), t.shape().concrete().as_ref().to_vec());
            Ok(())
        }
    }
    let mut read = Read(BTreeMap::new());
    module.inspect(&mut read).map(|()| read.0)
}

/// Copies of all slots, in the rule's order, as a checkpoint brings them back.
///
/// # Errors
/// Where the optimizer is not the module's.
pub fn copied_slots<D: Backend, R: RuleOn<D>>(
    module: &Matrices<D>,
    optimizer: &Optimizer<D, R>,
) -> Result<Vec<TensorMap<D>>> {
    struct Copy<'a, D: Backend, R: RuleOn<D>>(&'a Optimizer<D, R>, &'static str, TensorMap<D>);
    impl<D: Backend, R: RuleOn<D>> Visitor<D> for Copy<'_, D, R> {
        fn visit<S: NamedShape>(&mut self, name: &ParamName, _: Role, _: &mut Param<S, D>) -> Result<()> {
            if let Ok(tensor) = self.0.slot::<S>(self.1, name) {
                let copy =
                    tensor.device().try_tensor_from_vec(tensor.as_vec(), *tensor.shape()).during("test")?;
                self.2.insert(name, copy);
            }
            Ok(())
        }
    }
    let slots = optimizer.slots().iter().map(|(slot, _)| {
        let mut copy = Copy(optimizer, slot, TensorMap::default());
        module.inspect(&mut copy).map(|()| copy.2)
    });
    slots.collect()
}
