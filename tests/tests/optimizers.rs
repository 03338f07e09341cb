//! What every optimizer of the list must do: resume from its slots, grow, refuse what is not finite, have golden numbers.

use dfdx::tensor::{Cpu, TensorFrom};
use msg_core::{
    Result,
    growth::{AxisMap, Growth, Masked, grow},
    optim::{AnyOptimizer, KINDS, OptimizerConfig, Rule, StatePolicy, Update, all_slots},
};
use msg_tests::{
    matrices::{Matrices, Values, copied_slots},
    optimizers::every_optimizer,
    toy::draw,
};
use std::{collections::BTreeSet, path::Path};

/// Units of Vocab, Hidden, Ffn and AttnDim.
const SIZES: [usize; 4] = [6, 5, 9, 6];

struct Run {
    module: Matrices<Cpu>,
    optimizer: AnyOptimizer<Cpu>,
}

impl Run {
    fn new(rule: OptimizerConfig) -> Result<Self> {
        let mut module = Matrices::zeros(&Cpu::default(), SIZES)?;
        module.set(|name, _, at| Some(draw(7, name, at)))?;
        let optimizer = AnyOptimizer::new(&module, rule)?;
        Ok(Run { module, optimizer })
    }

    fn step(&mut self, seed: u64, update: Update) -> Result<f64> {
        let mut grads = self.module.gradients(|name, at| draw(seed, name, at));
        self.optimizer.step(&mut self.module, &mut grads, update)
    }

    fn grown(&self, growth: &Growth, policy: StatePolicy) -> Result<Self> {
        let module = grow(&self.module, growth, &Masked::default())?;
        let optimizer = self.optimizer.grown(&module, growth, policy)?;
        Ok(Run { module, optimizer })
    }

    /// Parameters, slots, and how many updates were applied.
    fn state(&self) -> Result<(Values, Values, u64)> {
        Ok((self.module.values()?, self.module.slots(&self.optimizer)?, self.optimizer.applied()))
    }
}

fn hidden(new: usize) -> Result<Growth> {
    Ok(Growth::new(3, 1).with_axis(AxisMap::append("Hidden", SIZES[1], new)?))
}

#[test]
fn every_optimizer_moves_every_parameter_and_resumes_from_its_slots_to_the_bit() -> Result<()> {
    for rule in every_optimizer() {
        let mut run = Run::new(rule)?;
        let before = run.state()?.0;
        for seed in 1..4 {
            run.step(seed, Update::at(0.02))?;
        }
        for (name, values) in run.state()?.0 {
            assert!(values.iter().all(|value| value.is_finite()), "{rule:?}: {name}");
            assert!(values.iter().zip(&before[&name]).any(|(now, then)| now != then), "{rule:?}: {name}");
        }
        run = run.grown(&hidden(8)?, StatePolicy::Age)?;
        run.step(4, Update::at(0.02))?;

        // What a checkpoint holds: each slot's tensors, the birth steps, the number of updates.
        let names: Vec<&str> = run.optimizer.slots().iter().map(|(name, _)| *name).collect();
        assert_eq!(names, rule.slots(), "{rule:?}");
        let slots = copied_slots(&run.module, &run.optimizer)?;
        let (births, applied) = (run.optimizer.birth_steps().clone(), run.optimizer.applied());
        let optimizer = AnyOptimizer::restored(*run.optimizer.rule(), slots, births, applied)?;
        let mut resumed = Run { module: run.module.clone(), optimizer };
        for seed in 5..8 {
            let update = Update { clip: Some(1.0), ..Update::at(0.02) };
            run.step(seed, update)?;
            resumed.step(seed, update)?;
        }
        assert_eq!(run.state()?, resumed.state()?, "{rule:?}");
    }
    Ok(())
}

#[test]
fn every_optimizer_keeps_the_slots_of_old_entries_over_a_growth_and_begins_new_ones_at_zero() -> Result<()> {
    let (old, new) = (SIZES[1], 8);
    for rule in every_optimizer() {
        for policy in [StatePolicy::Age, StatePolicy::Inherit, StatePolicy::Reset] {
            let mut run = Run::new(rule)?;
            run.step(1, Update::at(0.02))?;
            let before = run.state()?.1;
            let after = run.grown(&hidden(new)?, policy)?.state()?.1;
            assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "{rule:?}");
            // Hidden is the last axis of these.
            for (slot, after) in after.iter().filter(|(slot, _)| slot.ends_with(".tall")) {
                let before = before[slot].chunks(old);
                for (before, after) in before.zip(after.chunks(new)) {
                    let kept = policy != StatePolicy::Reset;
                    assert!(after[..old].iter().zip(before).all(|(a, b)| *a == if kept { *b } else { 0.0 }));
                    assert!(after[old..].iter().all(|value| *value == 0.0), "{rule:?}: {slot}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn every_optimizer_over_a_growth_that_changes_nothing_keeps_every_bit() -> Result<()> {
    for rule in every_optimizer() {
        for policy in [StatePolicy::Age, StatePolicy::Inherit] {
            let mut run = Run::new(rule)?;
            run.step(1, Update::at(0.02))?;
            let mut same = run.grown(&Growth::new(0, 1), policy)?;
            for seed in 2..4 {
                run.step(seed, Update::at(0.02))?;
                same.step(seed, Update::at(0.02))?;
            }
            assert_eq!(run.state()?, same.state()?, "{rule:?} {policy:?}");
        }
    }
    Ok(())
}

#[test]
fn every_optimizer_changes_nothing_where_loss_or_gradients_are_not_finite() -> Result<()> {
    for rule in every_optimizer() {
        let (mut spared, mut plain) = (Run::new(rule)?, Run::new(rule)?);
        for seed in 1..4 {
            let before = spared.state()?;
            for (loss, factor) in [(f32::NAN, 1.0), (1.0, f32::INFINITY), (1.0, f32::NAN)] {
                let loss = Cpu::default().tensor(loss);
                let Run { module, optimizer } = &mut spared;
                let mut grads = module.gradients(|name, at| draw(seed, name, at) * factor);
                optimizer.apply(module, &mut grads, Some(&loss), Update::at(0.02))?;
                assert!(!optimizer.settle()?.applied);
                assert_eq!(spared.state()?, before, "{rule:?}");
            }
            spared.step(seed, Update::at(0.02))?;
            plain.step(seed, Update::at(0.02))?;
            assert_eq!(spared.state()?, plain.state()?, "{rule:?}");
        }
    }
    Ok(())
}

#[test]
fn every_optimizer_has_a_name_of_its_own_and_golden_numbers_with_their_maker() {
    assert_eq!(every_optimizer().map(|rule| rule.kind()).collect::<Vec<_>>(), KINDS);
    assert_eq!(KINDS.iter().collect::<BTreeSet<_>>().len(), KINDS.len());
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    for rule in every_optimizer() {
        let kind = rule.kind();
        for file in ["make.py".to_owned(), format!("{kind}.json")] {
            assert!(golden.join(kind).join(&file).is_file(), "tests/golden/{kind}/{file} is not there");
        }
        assert!(rule.check().is_ok() && rule.slots().iter().all(|slot| all_slots().any(|all| all == *slot)));
    }
}
