//! Muon against golden numbers, over growths, and where updates are refused or left out.

use dfdx::tensor::{Cpu, TensorFrom};
use msg_core::{
    Error, Result,
    error::Context,
    growth::{AxisMap, Growth, Masked, grow},
    ops::Precision,
    optim::{AuxiliaryAdamW, KINDS, Muon, MuonConfig, OptimizerConfig, Rule, StatePolicy, Update, all_slots},
    params::Role,
};
use msg_tests::{
    matrices::{Matrices, Values, copied_slots, golden_distances},
    toy::draw,
};

const SIZES: [usize; 4] = [6, 5, 9, 6];
/// Largest difference from float64 in f32: of parameters in learning rates, of slots as they are. The same steps in
/// NumPy's float32 are off by 1e-5: the iteration makes rounding errors of a matrix' smallest part up to
/// 3.4445^5 = 485 times larger.
const F32: f64 = 5e-5;
/// With operands of products rounded to bf16; NumPy's steps with such operands are off by 0.08.
const BF16: f64 = 0.2;

fn module(sizes: [usize; 4]) -> Result<Matrices<Cpu>> {
    let mut module = Matrices::zeros(&Cpu::default(), sizes)?;
    module.set(|name, _, at| Some(draw(7, name, at)))?;
    Ok(module)
}

type Run = (Matrices<Cpu>, Muon<Cpu>);

fn run() -> Result<Run> {
    let module = module(SIZES)?;
    let config = MuonConfig { weight_decay: 0.1, ..MuonConfig::default() };
    let optimizer = Muon::new(&module, config)?;
    Ok((module, optimizer))
}

fn step((module, optimizer): &mut Run, seed: u64, factor: f32, update: Update) -> Result<f64> {
    let mut grads = module.gradients(|name, at| draw(seed, name, at) * factor);
    optimizer.step(module, &mut grads, update)
}

fn state((module, optimizer): &Run) -> Result<(Values, Values, u64)> {
    Ok((module.values()?, module.slots(optimizer)?, optimizer.applied()))
}

fn hidden(old: usize, new: usize) -> Result<Growth> {
    Ok(Growth::new(3, 1).with_axis(AxisMap::append("Hidden", old, new)?))
}

#[test]
fn muon_meets_the_golden_numbers_in_f32_and_in_bf16() -> Result<()> {
    for (precision, bound) in [(Precision::F32, F32), (Precision::Bf16, BF16)] {
        let distances = golden_distances(&Cpu::default(), precision)?;
        println!("{precision:?}: {distances:?}");
        assert_eq!(distances.len(), 4);
        for (case, distance) in distances {
            assert!(distance <= bound, "{case} in {precision:?}: {distance}");
        }
    }
    Ok(())
}

#[test]
fn muon_resumes_from_its_slots_to_the_bit() -> Result<()> {
    let mut run = run()?;
    for seed in 1..4 {
        step(&mut run, seed, 1.0, Update::at(0.02))?;
    }
    let growth = hidden(5, 8)?;
    let module = grow(&run.0, &growth, &Masked::default())?;
    let mut run = (module.clone(), run.1.grown(&module, &growth, StatePolicy::Age)?);
    step(&mut run, 4, 1.0, Update::at(0.02))?;

    let (module, optimizer) = &run;
    let names: Vec<_> = optimizer.slots().iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["momentum", "first_moment", "second_moment"]);
    // What a checkpoint holds: each slot's tensors, the birth steps, the number of updates.
    let slots = copied_slots(module, optimizer)?;
    let restored =
        Muon::restored(*optimizer.rule(), slots, optimizer.birth_steps().clone(), optimizer.applied())?;
    let mut resumed = (module.clone(), restored);
    for seed in 5..8 {
        step(&mut run, seed, 1.0, Update { clip: Some(1.0), ..Update::at(0.02) })?;
        step(&mut resumed, seed, 1.0, Update { clip: Some(1.0), ..Update::at(0.02) })?;
    }
    assert_eq!(state(&run)?, state(&resumed)?);
    Ok(())
}

#[test]
fn muon_leaves_all_untouched_where_loss_or_gradients_are_not_finite() -> Result<()> {
    let (mut spared, mut plain) = (run()?, run()?);
    for seed in 1..4 {
        let before = state(&spared)?;
        for (loss, factor) in [(f32::NAN, 1.0), (1.0, f32::INFINITY), (1.0, f32::NAN)] {
            let loss = Cpu::default().tensor(loss);
            let (module, optimizer) = &mut spared;
            let mut grads = module.gradients(|name, at| draw(seed, name, at) * factor);
            optimizer.apply(module, &mut grads, Some(&loss), Update::at(0.02))?;
            assert!(!optimizer.settle()?.applied);
            assert_eq!(state(&spared)?, before);
        }
        step(&mut spared, seed, 1.0, Update::at(0.02))?;
        step(&mut plain, seed, 1.0, Update::at(0.02))?;
        assert_eq!(state(&spared)?, state(&plain)?);
    }
    Ok(())
}

#[test]
fn muon_over_a_growth_that_changes_nothing_keeps_every_bit() -> Result<()> {
    for policy in [StatePolicy::Age, StatePolicy::Inherit] {
        let mut run = run()?;
        step(&mut run, 1, 1.0, Update::at(0.02))?;
        let optimizer = run.1.grown(&run.0, &Growth::new(0, 1), policy)?;
        let mut same = (run.0.clone(), optimizer);
        for seed in 2..4 {
            step(&mut run, seed, 1.0, Update::at(0.02))?;
            step(&mut same, seed, 1.0, Update::at(0.02))?;
        }
        assert_eq!(state(&run)?, state(&same)?);
    }
    Ok(())
}

#[test]
fn muon_carries_the_momentum_of_old_entries_and_gives_new_ones_none() -> Result<()> {
    let mut run = run()?;
    for seed in 1..4 {
        step(&mut run, seed, 1.0, Update::at(0.02))?;
    }
    let growth = hidden(5, 6)?;
    let module = grow(&run.0, &growth, &Masked::default())?;
    let momentum = |values: &Values| values["momentum.tall"].clone();
    let old = momentum(&run.0.slots(&run.1)?);
    assert!(old.iter().all(|&entry| entry != 0.0));
    for policy in [StatePolicy::Age, StatePolicy::Inherit, StatePolicy::Reset] {
        let optimizer = run.1.grown(&module, &growth, policy)?;
        let grown = momentum(&module.slots(&optimizer)?);
        for (row, old) in grown.chunks(6).zip(old.chunks(5)) {
            let kept = if policy == StatePolicy::Reset { vec![0.0; 5] } else { old.to_vec() };
            assert_eq!((row[..5].to_vec(), row[5]), (kept, 0.0), "{policy:?}");
        }
    }
    Ok(())
}

#[test]
fn a_rewarmed_rate_of_muon_acts_on_the_entries_born_at_that_boundary_only() -> Result<()> {
    let mut run = run()?;
    step(&mut run, 1, 1.0, Update::at(0.02))?;
    let growth = hidden(5, 7)?;
    let module = grow(&run.0, &growth, &Masked::default())?;
    let optimizers = [0.25, 1.0].map(|new_factor| -> Result<Values> {
        let mut grown = (module.clone(), run.1.grown(&module, &growth, StatePolicy::Age)?);
        step(&mut grown, 2, 1.0, Update { new_factor, new_since: 1, ..Update::at(0.02) })?;
        grown.0.values()
    });
    let [slow, full] = optimizers;
    let (slow, full, before) = (slow?, full?, module.values()?);
    for (name, columns) in [("tall", 7), ("table", 7), ("qkv", 7)] {
        for (at, ((slow, full), before)) in slow[name].iter().zip(&full[name]).zip(&before[name]).enumerate()
        {
            if at % columns < 5 {
                assert_eq!(slow, full, "{name}[{at}]");
            } else {
                let (slow, full) = (f64::from(slow - before), f64::from(full - before));
                assert!((slow - full * 0.25).abs() <= 1e-6, "{name}[{at}]: {slow} {full}");
            }
        }
    }
    Ok(())
}

#[test]
fn numbers_that_muon_cannot_use_are_refused() -> Result<()> {
    let module = module(SIZES)?;
    let muon = MuonConfig::default();
    let adamw = |change: fn(&mut AuxiliaryAdamW)| {
        let mut adamw = muon.adamw;
        change(&mut adamw);
        MuonConfig { adamw, ..muon }
    };
    for config in [
        MuonConfig { momentum: 1.0, ..muon },
        MuonConfig { momentum: f64::NAN, ..muon },
        MuonConfig { weight_decay: -0.1, ..muon },
        MuonConfig { ns_steps: 0, ..muon },
        MuonConfig { ns_steps: 101, ..muon },
        adamw(|adamw| adamw.rate_ratio = f64::NAN),
        adamw(|adamw| adamw.beta1 = 1.0),
        adamw(|adamw| adamw.eps = 0.0),
        adamw(|adamw| adamw.weight_decay = -1.0),
    ] {
        assert!(matches!(Muon::new(&module, config), Err(Error::Value { .. })), "{config:?}");
    }
    Ok(())
}

#[test]
fn muon_keeps_one_number_for_an_entry_of_a_matrix_and_two_for_others() {
    let muon = MuonConfig::default();
    assert_eq!([Role::weight(), Role::weights()].map(|role| muon.numbers_per_entry(&role)), [1, 1]);
    let others = [Role::embedding(), Role::bias(), Role::biases(), Role::norm_weight(), Role::norm_bias()];
    assert_eq!(others.map(|role| muon.numbers_per_entry(&role)), [2; 5]);
}

#[test]
fn every_kind_is_written_as_it_is_listed() -> Result<()> {
    assert_eq!(OptimizerConfig::default().kind(), KINDS[0]);
    for config in [OptimizerConfig::default(), OptimizerConfig::Muon(MuonConfig::default())] {
        let json = serde_json::to_value(config).during("test")?;
        assert_eq!(json["kind"], config.kind());
        assert!(KINDS.contains(&config.kind()));
        assert!(config.slots().iter().all(|slot| all_slots().any(|known| known == *slot)));
    }
    Ok(())
}
