//! AdamW against PyTorch's numbers, and its state over growths against runs that never grew.

use dfdx::{
    tensor::{Cpu, Trace},
    tensor_ops::{Backward, MeanTo, TryAdd},
};
use msg_core::{
    Error, Result,
    error::Context,
    growth::{Growth, Masked, grow},
    mask::Gate,
    optim::{AdamW, AdamWConfig, BirthSteps, StatePolicy, Update, grad_norm},
    params::Module,
};
use msg_tests::{
    lineage::{Lineage, Run, growth_to},
    toy::{Toy, Values, draw, gradients, moments, parameters, set_parameters},
};
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;

const CONFIG: AdamWConfig = AdamWConfig { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1 };
const POLICIES: [StatePolicy; 3] = [StatePolicy::Age, StatePolicy::Inherit, StatePolicy::Reset];

/// Sizes: entries, width, inside, layers.
fn toy([entries, width, inside, layers]: [usize; 4]) -> Result<Toy<Cpu>> {
    let mut toy = Toy::zeros(&Cpu::default(), entries, width, inside, layers)?;
    set_parameters(&mut toy, |name, at| draw(7, name, at))?;
    Ok(toy)
}

pub(crate) fn run() -> Result<Run> {
    let toy = toy([4, 3, 5, 2])?;
    let optimizer = AdamW::new(&toy, CONFIG)?;
    Ok(Run { toy, optimizer })
}

/// One update with gradients of that seed.
pub(crate) fn step(run: &mut Run, seed: u64, update: Update) -> Result<f64> {
    let mut grads = gradients(&run.toy, |name, at| draw(seed, name, at))?;
    run.optimizer.step(&mut run.toy, &mut grads, update)
}

fn bits<const N: usize>(values: &[Values; N]) -> Vec<u32> {
    values.iter().flat_map(BTreeMap::values).flatten().map(|x| x.to_bits()).collect()
}

/// All that an update may change.
pub(crate) fn state(run: &Run) -> Result<(Vec<u32>, u64, BirthSteps)> {
    Ok((bits(&run.values()?), run.optimizer.applied(), run.optimizer.birth_steps().clone()))
}

#[derive(Deserialize)]
struct Golden {
    parameters: Vec<GoldenParameter>,
    learning_rates: Vec<f64>,
    gradients: Vec<Vec<Vec<f64>>>,
    cases: BTreeMap<String, GoldenCase>,
}

#[derive(Deserialize)]
struct GoldenParameter {
    name: String,
    values: Vec<f64>,
}

#[derive(Deserialize)]
struct GoldenCase {
    betas: (f64, f64),
    eps: f64,
    weight_decay: f64,
    clip: Option<f64>,
    f64: GoldenResult,
}

#[derive(Deserialize)]
struct GoldenResult {
    norms: Vec<f64>,
    after: BTreeMap<u64, GoldenState>,
}

#[derive(Deserialize)]
struct GoldenState {
    parameters: Vec<Vec<f64>>,
    first: Vec<Vec<f64>>,
    second: Vec<Vec<f64>>,
}

fn assert_close(what: &str, got: f64, want: f64) {
    let difference = (got - want).abs();
    assert!(difference <= 1e-6 * want.abs().max(1.0), "{what}: {got} and not {want}");
}

#[test]
fn golden_numbers_of_pytorch_are_met_with_and_without_clipping() -> Result<()> {
    let golden: Golden = serde_json::from_str(include_str!("../golden/adamw/adamw.json")).during("golden")?;
    let place = |name: &str| golden.parameters.iter().position(|parameter| parameter.name == name);
    for (case_name, case) in &golden.cases {
        let mut toy = Toy::zeros(&Cpu::default(), 7, 3, 5, 2)?;
        let names: Vec<_> = parameters(&toy)?.into_keys().collect();
        assert_eq!(names.len(), golden.parameters.len());
        assert!(names.iter().all(|name| place(name).is_some()), "{names:?}");
        set_parameters(&mut toy, |name, at| golden.parameters[place(name).unwrap()].values[at] as f32)?;
        let (beta1, beta2) = case.betas;
        let config = AdamWConfig { beta1, beta2, eps: case.eps, weight_decay: case.weight_decay };
        let mut optimizer = AdamW::new(&toy, config)?;
        let mut compared = 0;
        for (at, (&lr, grads)) in golden.learning_rates.iter().zip(&golden.gradients).enumerate() {
            let mut grads = gradients(&toy, |name, at| grads[place(name).unwrap()][at] as f32)?;
            let update = Update { clip: case.clip, ..Update::at(lr) };
            let norm = optimizer.step(&mut toy, &mut grads, update)?;
            assert_close(&format!("{case_name}: norm of step {}", at + 1), norm, case.f64.norms[at]);
            let Some(want) = case.f64.after.get(&(at as u64 + 1)) else { continue };
            let [first, second] = moments(&toy, &optimizer)?;
            let got = [parameters(&toy)?, first, second];
            for (got, want) in got.iter().zip([&want.parameters, &want.first, &want.second]) {
                for (name, got) in got {
                    let want = &want[place(name).unwrap()];
                    assert_eq!(got.len(), want.len());
                    for (entry, (&got, &want)) in got.iter().zip(want).enumerate() {
                        let what = format!("{case_name}: {name}[{entry}] after step {}", at + 1);
                        assert_close(&what, f64::from(got), want);
                        compared += 1;
                    }
                }
            }
        }
        assert_eq!((optimizer.applied(), compared), (20, 4 * 3 * toy.num_params()));
    }
    assert_eq!(golden.cases.len(), 3);
    Ok(())
}

#[test]
fn the_norm_of_the_gradient_is_that_of_double_precision() -> Result<()> {
    let toy = toy([130, 67, 41, 3])?;
    // Many magnitudes, so that single precision would lose the small ones.
    let value = |name: &str, at| draw(9, name, at) * 10f32.powi(at as i32 % 12 - 6);
    let shapes = parameters(&toy)?;
    let entries = shapes.iter().flat_map(|(name, values)| (0..values.len()).map(move |at| (name, at)));
    let want = entries.map(|(name, at)| f64::from(value(name, at)).powi(2)).sum::<f64>().sqrt();
    let got = grad_norm(&toy, &mut gradients(&toy, value)?)?;
    assert!((got - want).abs() <= 1e-12 * want, "{got} and not {want}");
    Ok(())
}

#[test]
fn clipping_scales_the_gradient_to_the_limit_and_a_shorter_one_stays() -> Result<()> {
    let (mut clipped, mut scaled, mut plain, mut loose) = (run()?, run()?, run()?, run()?);
    let norm = step(&mut plain, 1, Update::at(0.01))?;
    let limit = norm / 3.0;
    let clip = |limit| Update { clip: Some(limit), ..Update::at(0.01) };
    assert_eq!(step(&mut clipped, 1, clip(limit))?, norm);
    let factor = (limit / (norm + 1e-6)) as f32;
    let mut grads = gradients(&scaled.toy, |name, at| draw(1, name, at) * factor)?;
    scaled.optimizer.step(&mut scaled.toy, &mut grads, Update::at(0.01))?;
    assert_eq!(state(&clipped)?, state(&scaled)?);
    step(&mut loose, 1, clip(norm * 2.0))?;
    assert_eq!(state(&loose)?, state(&plain)?);
    assert_ne!(state(&clipped)?, state(&plain)?);
    Ok(())
}

#[test]
fn a_parameter_without_a_gradient_has_a_zero_one() -> Result<()> {
    // Two steps: in the first the second block stands behind a closed gate, in the second it is in.
    let (mut gated, mut told) = (run()?, run()?);
    for gate in [Gate::new(0.0), Gate::new(0.5)] {
        let toy = &gated.toy;
        let x = toy.blocks[0].bias.leaky_trace();
        let x = gate.branch(x, |x| x.try_add(toy.blocks[1].bias.clone()).during("test"))?;
        let mut grads = x.mean().backward();
        // What backward gives is a fifth for each of five units, and what the gate lets through.
        let share = 1.0 / 5.0;
        let value = |name: &str, _| match name {
            "blocks.0.bias" if gate.is_closed() => share,
            "blocks.0.bias" => share * 1.5,
            "blocks.1.bias" if !gate.is_closed() => share * 0.5,
            _ => 0.0,
        };
        let mut explicit = gradients(&told.toy, value)?;
        let norm = gated.optimizer.step(&mut gated.toy, &mut grads, Update::at(0.01))?;
        assert_eq!(norm, told.optimizer.step(&mut told.toy, &mut explicit, Update::at(0.01))?);
        assert_eq!(state(&gated)?, state(&told)?);
    }
    assert_eq!(gated.optimizer.applied(), 2);
    Ok(())
}

#[test]
fn an_update_keeps_what_gradients_are_kept_under() -> Result<()> {
    // Gradients are found by a tensor's identity: one set serves many updates.
    let (mut one, mut many) = (run()?, run()?);
    let mut grads = gradients(&one.toy, |name, at| draw(1, name, at))?;
    for _ in 0..3 {
        one.optimizer.step(&mut one.toy, &mut grads, Update::at(0.01))?;
        step(&mut many, 1, Update::at(0.01))?;
    }
    assert_eq!(state(&one)?, state(&many)?);
    Ok(())
}

#[test]
fn numbers_that_would_spoil_the_parameters_are_refused_before_anything_changes() -> Result<()> {
    let mut run = run()?;
    let before = state(&run)?;
    let plain = Update::at(0.01);
    for update in [
        Update::at(f64::NAN),
        Update::at(-1.0),
        Update { new_factor: f64::INFINITY, ..plain },
        Update { clip: Some(0.0), ..plain },
        Update { clip: Some(f64::NAN), ..plain },
    ] {
        assert!(matches!(step(&mut run, 1, update), Err(Error::Value { .. })), "{update:?}");
    }
    for config in [
        AdamWConfig { beta1: 1.0, ..CONFIG },
        AdamWConfig { beta2: -0.1, ..CONFIG },
        AdamWConfig { eps: 1e-60, ..CONFIG },
        AdamWConfig { weight_decay: f64::NAN, ..CONFIG },
    ] {
        assert!(matches!(AdamW::new(&run.toy, config), Err(Error::Value { .. })), "{config:?}");
    }
    assert_eq!(state(&run)?, before);
    Ok(())
}

#[test]
fn a_module_of_other_sizes_is_refused_before_anything_changes() -> Result<()> {
    let mut run = run()?;
    // The first tensor fits: an update that refused on the way would have changed it already.
    for sizes in [[4, 3, 6, 2], [4, 3, 5, 3]] {
        let mut other = toy(sizes)?;
        let (before, of_other) = (state(&run)?, bits(&[parameters(&other)?]));
        let mut grads = gradients(&other, |name, at| draw(1, name, at))?;
        assert!(run.optimizer.step(&mut other, &mut grads, Update::at(0.01)).is_err());
        assert_eq!(bits(&[parameters(&other)?]), of_other);
        assert_eq!(state(&run)?, before);
    }
    let growth = growth_to(&run.toy, 1, [4, 3, 6, 2], false)?;
    assert!(run.optimizer.grown(&run.toy, &growth, StatePolicy::Age).is_err());
    step(&mut run, 1, Update::at(0.01)).map(|_| ())
}

/// Steps, then growths with steps after each; compares bits after every one of them.
fn follow(sizes: &[[usize; 4]], copy: bool, policy: StatePolicy) -> Result<Vec<(u64, u64, usize)>, String> {
    let words = |error: Error| error.to_string();
    let mut lineage = Lineage::new(&toy([4, 3, 5, 2]).map_err(words)?, CONFIG).map_err(words)?;
    let steps = |lineage: &mut Lineage| {
        for at in 0..3 {
            lineage.step(Update::at(0.01 + 0.001 * f64::from(at))).map_err(words)?;
            lineage.compare()?;
        }
        Ok::<_, String>(())
    };
    steps(&mut lineage)?;
    for (number, &sizes) in sizes.iter().enumerate() {
        let growth = growth_to(&lineage.grown.toy, number as u64 + 1, sizes, copy).map_err(words)?;
        lineage.grow(&growth, policy).map_err(words)?;
        lineage.compare()?;
        steps(&mut lineage)?;
    }
    lineage.compare()
}

/// Growths of one axis, of it again, of two axes of one tensor, of both roles of a square, of layers.
const GROWTHS: [&[[usize; 4]]; 7] = [
    &[[4, 3, 7, 2]],
    &[[4, 3, 7, 2], [4, 3, 8, 2]],
    &[[6, 5, 5, 2]],
    &[[4, 6, 5, 2], [4, 7, 5, 2]],
    &[[4, 3, 5, 3]],
    &[[4, 3, 5, 4], [4, 3, 5, 5]],
    &[[6, 5, 7, 3], [7, 6, 9, 5]],
];

#[test]
fn by_age_new_entries_move_as_in_a_fresh_run_and_old_ones_as_in_an_ungrown_one() -> Result<(), String> {
    for (growths, copy) in GROWTHS.into_iter().flat_map(|growths| [(growths, false), (growths, true)]) {
        let twins = follow(growths, copy, StatePolicy::Age)?;
        // One twin from the start and one a boundary, each with entries to stand for.
        let boundaries: Vec<_> = twins.iter().map(|&(born, start, _)| (born, start)).collect();
        let want: Vec<_> = (0..=growths.len() as u64).map(|at| (3 * at, 3 * at)).collect();
        assert_eq!(boundaries, want, "{growths:?}");
        assert!(twins.iter().all(|&(_, _, alike)| alike > 0));
    }
    Ok(())
}

#[test]
fn by_inheritance_old_tensors_keep_the_runs_step_and_new_layers_start_at_none() -> Result<(), String> {
    for (growths, copy) in GROWTHS.into_iter().flat_map(|growths| [(growths, false), (growths, true)]) {
        follow(growths, copy, StatePolicy::Inherit)?;
    }
    let mut twins = follow(GROWTHS[6], true, StatePolicy::Inherit)?;
    twins.sort_unstable();
    let twins: Vec<_> = twins.iter().map(|&(born, start, _)| (born, start)).collect();
    // New at 3 in old tensors and in a layer, new at 6 in old tensors, in that layer and in new ones.
    assert_eq!(twins, [(0, 0), (3, 0), (3, 3), (6, 0), (6, 3), (6, 6)]);
    Ok(())
}

#[test]
fn by_reset_all_moments_and_ages_become_zero() -> Result<(), String> {
    for (growths, copy) in GROWTHS.into_iter().flat_map(|growths| [(growths, false), (growths, true)]) {
        let twins = follow(growths, copy, StatePolicy::Reset)?;
        let last = 3 * growths.len() as u64;
        assert!(twins.iter().all(|&(_, start, alike)| (start == last) == (alike > 0)), "{twins:?}");
    }
    Ok(())
}

#[test]
fn moments_of_old_entries_are_carried_and_those_of_copies_are_zero() -> Result<()> {
    let mut run = run()?;
    for seed in 1..4 {
        step(&mut run, seed, Update::at(0.01))?;
    }
    // Width 3 to 5 in turn, and each of two layers followed by its copy.
    let growth = growth_to(&run.toy, 1, [4, 5, 5, 4], true)?;
    let grown = grow(&run.toy, &growth, &Masked::default())?;
    let optimizer = run.optimizer.grown(&grown, &growth, StatePolicy::Age)?;
    let (values, old_values) = (parameters(&grown)?, parameters(&run.toy)?);
    assert_eq!(values["gain"][3..], old_values["gain"][..2], "copied units");
    assert_eq!(values["blocks.1.bias"], old_values["blocks.0.bias"], "a copied layer");
    let old = moments(&run.toy, &run.optimizer)?;
    for (grown, old) in moments(&grown, &optimizer)?.iter().zip(&old) {
        assert_eq!(grown["gain"], [&old["gain"][..], &[0.0; 2]].concat());
        for (row, old) in grown["table"].chunks(5).zip(old["table"].chunks(3)) {
            assert_eq!(row, [old, &[0.0; 2]].concat());
        }
        assert_eq!(grown["square"][15..], [0.0; 10]);
        for (new, old_layer) in [("blocks.0.bias", "blocks.0.bias"), ("blocks.2.bias", "blocks.1.bias")] {
            assert_eq!(grown[new], old[old_layer]);
            assert!(old[old_layer].iter().all(|&moment| moment != 0.0));
        }
        for layer in ["blocks.1", "blocks.3"] {
            assert!(
                ["bias", "weight"]
                    .iter()
                    .all(|leaf| grown[&format!("{layer}.{leaf}")].iter().all(|&x| x == 0.0))
            );
        }
    }
    Ok(())
}

#[test]
fn a_new_entry_of_an_inheriting_optimizer_moves_up_to_six_times_too_far_and_one_by_age_does_not() -> Result<()>
{
    let moved = |policy| -> Result<f32> {
        let mut run = run()?;
        for seed in 0..2000 {
            step(&mut run, seed, Update::at(1e-5))?;
        }
        let growth = growth_to(&run.toy, 1, [4, 4, 5, 2], false)?;
        let toy = grow(&run.toy, &growth, &Masked::default())?;
        let optimizer = run.optimizer.grown(&toy, &growth, policy)?;
        let mut run = Run { toy, optimizer };
        let before = run.toy.gain.as_vec()[3];
        let lr = 0.01;
        let mut grads = gradients(&run.toy, |_, _| 1.0)?;
        let mut furthest = 0f32;
        for at in 1..=20 {
            run.optimizer.step(&mut run.toy, &mut grads, Update::at(lr))?;
            // Under a steady gradient Adam moves by the learning rate each step.
            furthest = furthest.max((before - run.toy.gain.as_vec()[3]) / (lr as f32 * at as f32));
        }
        Ok(furthest)
    };
    let (age, inherit) = (moved(StatePolicy::Age)?, moved(StatePolicy::Inherit)?);
    assert!((age - 1.0).abs() <= 1e-3, "{age}");
    assert!(inherit > 3.0 && inherit < 6.6, "{inherit}");
    Ok(())
}

#[test]
fn a_rewarmed_rate_acts_on_the_entries_born_at_that_boundary_only() -> Result<(), String> {
    let words = |error: Error| error.to_string();
    for (policy, boundary) in POLICIES.into_iter().flat_map(|policy| [(policy, 0), (policy, 2), (policy, 4)])
    {
        let mut lineage = Lineage::new(&toy([4, 3, 5, 2]).map_err(words)?, CONFIG).map_err(words)?;
        for (number, sizes) in [[5, 4, 7, 3], [6, 5, 8, 5]].into_iter().enumerate() {
            for _ in 0..2 {
                lineage.step(Update::at(0.01)).map_err(words)?;
            }
            let growth = growth_to(&lineage.grown.toy, number as u64 + 1, sizes, true).map_err(words)?;
            lineage.grow(&growth, policy).map_err(words)?;
        }
        for _ in 0..3 {
            let update = Update { new_factor: 0.25, new_since: boundary, ..Update::at(0.01) };
            lineage.step(update).map_err(words)?;
        }
        let twins = lineage.compare()?;
        // Each boundary's entries, and the first ones, were there to be told apart.
        for born in [0, 2, 4] {
            assert!(twins.iter().any(|&(at, _, alike)| at == born && alike > 0), "{policy:?}: {twins:?}");
        }
    }
    Ok(())
}

#[test]
fn births_are_kept_per_unit_and_layer_whatever_the_number_of_entries() -> Result<()> {
    for policy in POLICIES {
        let mut run = run()?;
        step(&mut run, 1, Update::at(0.01))?;
        let growth = growth_to(&run.toy, 1, [90, 70, 80, 3], false)?;
        let toy = grow(&run.toy, &growth, &Masked::default())?;
        let births = run.optimizer.grown(&toy, &growth, policy)?.birth_steps().clone();
        let sizes = ["Entries", "Width", "Inside"].map(|axis| births.of_axis(axis).len());
        assert_eq!((sizes, births.of_layers().len()), ([90, 70, 80], 3));
        assert_eq!(births.of_axis("WidthOut"), [0; 0], "the second role of an axis has no book of its own");
        let text = serde_json::to_string(&births).during("test")?;
        assert_eq!(serde_json::from_str::<BirthSteps>(&text).during("test")?, births);
        assert!(text.len() < 1500, "{} bytes for {} entries", text.len(), toy.num_params());
    }
    Ok(())
}

#[test]
fn a_growth_that_changes_nothing_changes_no_state() -> Result<()> {
    for policy in [StatePolicy::Age, StatePolicy::Inherit] {
        let mut run = run()?;
        step(&mut run, 1, Update::at(0.01))?;
        let optimizer = run.optimizer.grown(&run.toy, &Growth::new(0, 1), policy)?;
        let mut same = Run { toy: run.toy.clone(), optimizer };
        for seed in 2..4 {
            step(&mut run, seed, Update::at(0.01))?;
            step(&mut same, seed, Update::at(0.01))?;
        }
        assert_eq!(bits(&run.values()?), bits(&same.values()?));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    #[test]
    fn any_growths_in_any_order_keep_every_entry_with_its_twin(
        base in prop_oneof![Just(StatePolicy::Age), Just(StatePolicy::Inherit)],
        growths in prop::collection::vec(
            (prop::array::uniform4(0usize..3), any::<bool>(), prop::bool::weighted(0.2), 0u32..3), 1..4,
        ),
    ) {
        let words = |error: Error| TestCaseError::fail(error.to_string());
        let mut sizes = [2, 3, 1, 1];
        let mut lineage = Lineage::new(&toy(sizes).map_err(words)?, CONFIG).map_err(words)?;
        lineage.step(Update::at(0.01)).map_err(words)?;
        for (number, (more, copy, reset, steps)) in growths.into_iter().enumerate() {
            sizes = std::array::from_fn(|at| sizes[at] + more[at]);
            let growth = growth_to(&lineage.grown.toy, number as u64 + 1, sizes, copy).map_err(words)?;
            lineage.grow(&growth, if reset { StatePolicy::Reset } else { base }).map_err(words)?;
            for _ in 0..steps {
                lineage.step(Update::at(0.01)).map_err(words)?;
            }
            lineage.compare().map_err(TestCaseError::fail)?;
        }
        let alike: usize = lineage.compare().map_err(TestCaseError::fail)?.iter().map(|twin| twin.2).sum();
        prop_assert_eq!(alike, lineage.grown.toy.num_params());
    }
}
