//! The guard: an update whose loss or gradient is not finite leaves everything as it was.

use crate::{
    optim::{run as optimizer_run, state, step},
    runs::{bytes, checkpoint, config, corpus, run, steps},
};
use dfdx::tensor::{Cpu, TensorFrom};
use msg_core::{
    Result,
    growth::{Masked, grow},
    optim::{AdamWConfig, StatePolicy, Update, UpdateStatus},
};
use msg_tests::{
    lineage::{Run, growth_to},
    toy::{draw, gradients, parameters},
};
use msg_train::{
    Error,
    config::{Guard, LrShape, OptimizerConfig, RunConfig},
    run::Resume,
};
use std::path::Path;

const BAD: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

/// Queues one update with that loss and gradients of that seed.
fn queue(run: &mut Run, seed: u64, loss: f32, clip: Option<f64>) -> Result<()> {
    let mut grads = gradients(&run.toy, |name, at| draw(seed, name, at))?;
    let loss = Cpu::default().tensor(loss);
    run.optimizer.apply(&mut run.toy, &mut grads, Some(&loss), Update { clip, ..Update::at(0.01) })
}

#[test]
fn a_gradient_that_is_not_finite_leaves_parameters_moments_and_ages_untouched() -> Result<()> {
    let mut spared = optimizer_run()?;
    let mut never = optimizer_run()?;
    for seed in 1..3 {
        step(&mut spared, seed, Update::at(0.01))?;
        step(&mut never, seed, Update::at(0.01))?;
    }
    let before = state(&spared)?;
    for bad in BAD {
        for tensor in parameters(&spared.toy)?.keys() {
            for clip in [None, Some(1.0)] {
                let value = |name: &str, at| if name == tensor && at == 2 { bad } else { draw(5, name, at) };
                let mut grads = gradients(&spared.toy, value)?;
                let update = Update { clip, ..Update::at(0.01) };
                let norm = spared.optimizer.step(&mut spared.toy, &mut grads, update)?;
                assert!(!norm.is_finite());
                assert_eq!(state(&spared)?, before, "{bad} in {tensor}");
            }
        }
    }
    step(&mut spared, 3, Update::at(0.01))?;
    step(&mut never, 3, Update::at(0.01))?;
    assert_eq!(state(&spared)?, state(&never)?);
    Ok(())
}

#[test]
fn a_loss_that_is_not_finite_leaves_everything_untouched_whatever_its_gradients() -> Result<()> {
    let (mut spared, mut never) = (optimizer_run()?, optimizer_run()?);
    for run in [&mut spared, &mut never] {
        for seed in 1..3 {
            step(run, seed, Update::at(0.01))?;
        }
    }
    let before = state(&spared)?;
    for loss in BAD {
        for clip in [None, Some(1.0)] {
            queue(&mut spared, 5, loss, clip)?;
            let verdict = spared.optimizer.settle()?;
            assert!(!verdict.applied && verdict.norm().is_finite() && verdict.norm() > 0.0, "{verdict:?}");
            assert_eq!(state(&spared)?, before, "{loss}");
        }
    }
    for run in [&mut spared, &mut never] {
        queue(run, 3, 1.0, None)?;
        assert!(run.optimizer.settle()?.applied);
    }
    assert_eq!(state(&spared)?, state(&never)?);
    assert_ne!(state(&spared)?, before);
    Ok(())
}

#[test]
fn an_update_is_settled_before_the_next_one_and_before_a_growth() -> Result<()> {
    let (mut late, mut early) = (optimizer_run()?, optimizer_run()?);
    assert_eq!(late.optimizer.settle()?, UpdateStatus::default());
    for (seed, loss) in [(1, 1.0), (2, f32::NAN), (3, 2.0)] {
        queue(&mut late, seed, loss, None)?;
        queue(&mut early, seed, loss, None)?;
        early.optimizer.settle()?;
    }
    // The last one is still to be settled.
    assert_eq!((late.optimizer.applied(), early.optimizer.applied()), (1, 2));
    let growth = growth_to(&late.toy, 1, [5, 4, 6, 3], false)?;
    for policy in [StatePolicy::Age, StatePolicy::Inherit, StatePolicy::Reset] {
        let grown = grow(&late.toy, &growth, &Masked::default())?;
        let carried = |run: &Run| -> Result<_> {
            let optimizer = run.optimizer.grown(&grown, &growth, policy)?;
            state(&Run { toy: grown.clone(), optimizer })
        };
        assert_eq!(carried(&late)?, carried(&early)?, "{policy:?}");
    }
    late.optimizer.settle()?;
    assert_eq!(state(&late)?, state(&early)?);
    Ok(())
}

/// One stage whose first update throws the weights so far that no later loss is finite.
fn diverging(folder: &Path, name: &str, guard: Guard) -> RunConfig {
    let mut config = config(folder, "gpt", name);
    config.stages.truncate(1);
    config.lr.shape = LrShape::Constant;
    config.lr.warmup = 0;
    config.lr.peak = 1e30;
    config.lr.r#final = None;
    config.optimizer = OptimizerConfig::AdamW(AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() });
    config.train.guard = guard;
    config
}

#[test]
fn the_policy_skip_logs_each_update_that_it_leaves_out_and_goes_on() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    corpus(folder);
    let outcome = run(diverging(folder, "skips", Guard::Skip), Resume::Never).unwrap();
    assert!(outcome.finished && outcome.step == 4);
    let skips = folder.join("skips");
    let steps = steps(&skips);
    assert_eq!(steps.iter().map(|step| step.skipped).collect::<Vec<_>>(), [false, true, true, true]);
    assert!(steps.iter().all(|step| step.skipped != (step.loss.is_finite() && step.grad_norm.is_finite())));
    // Weights, moments and ages are those of the one update that was applied.
    let (first, last) = (bytes(&skips.join(checkpoint(1))), bytes(&skips.join(checkpoint(4))));
    for name in ["model.safetensors", "first_moment.safetensors", "second_moment.safetensors"] {
        // The files' notes name the step.
        let values = |bytes: &[u8]| {
            let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            bytes[8 + header..].to_vec()
        };
        assert!(values(&first[Path::new(name)]) == values(&last[Path::new(name)]), "{name}");
    }
    let applied = |step| {
        let text = std::fs::read_to_string(skips.join(checkpoint(step)).join("state.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["applied"].clone()
    };
    assert_eq!((applied(1), applied(4)), (1.into(), 1.into()));
}

#[test]
fn the_policy_stop_ends_the_run_with_step_loss_and_norm_and_keeps_the_checkpoint() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    corpus(folder);
    let error = run(diverging(folder, "stops", Guard::Stop), Resume::Never).unwrap_err();
    assert!(matches!(error, Error::Diverged(_)), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("step 2: loss ") && text.contains(", gradient norm "), "{text}");
    assert!(text.ends_with("not finite (train.guard = \"stop\"); the update was not applied"), "{text}");
    let checkpoints = std::fs::read_dir(folder.join("stops/checkpoints")).unwrap();
    let names: Vec<_> = checkpoints.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["step-00000001"]);
    assert_eq!(steps(&folder.join("stops")).len(), 1);
}
