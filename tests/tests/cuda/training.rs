//! Whole runs on Cuda: the Cpu's losses through growth and ramps, resumed runs, results read a step late.

use super::gpu;
use crate::runs::{STEPS, checkpoint, config, copy_folder, corpus, records, run_on, steps};
use dfdx::tensor::{Cpu, Cuda};
use msg_core::{
    Backend,
    growth::Init,
    ops::Precision,
    optim::{AdamW, AdamWConfig, AnyOptimizer},
    params::{Module, ParamName, Role, Visitor},
};
use msg_models::gpt::Gpt;
use msg_train::{
    Error, Plan, Trainer,
    config::{Guard, LrShape, RunConfig},
    data::{Causal, open::open_data},
    families::{family::Family, registry},
    metrics::Record,
    run::Resume,
    step::{events::Event, running::StepOptions},
};
use std::{fs, path::Path, sync::Arc};

/// Largest distance of a loss from the Cpu's, in nats.
const TOLERANCE: f64 = 1e-3;

/// Each record's kind and step, in order.
fn order(folder: &Path) -> Vec<(&'static str, u64)> {
    let of = |record: &Record| match record {
        Record::Start(start) => ("start", start.step),
        Record::Step(step) => ("step", step.step),
        Record::Growth(growth) => ("growth", growth.step),
        Record::RampEnd(end) => ("ramp end", end.step),
        Record::Eval(eval) => ("eval", eval.step),
        Record::End(end) => ("end", end.step),
    };
    records(folder).iter().map(of).collect()
}

/// Asserts that two runs took down the same, but for rounding.
fn assert_agree(expected: &Path, got: &Path, tolerance: f64) {
    assert_eq!(order(expected), order(got));
    let near = |what: &str, step: u64, e: f64, g: f64, tolerance: f64| {
        assert!((e - g).abs() <= tolerance, "{what} of step {step}: expected {e}, got {g}");
    };
    let (expected_steps, got_steps) = (steps(expected), steps(got));
    assert_eq!(got_steps.len() as u64, STEPS);
    for (e, g) in expected_steps.iter().zip(&got_steps) {
        near("loss", e.step, e.loss.into(), g.loss.into(), tolerance);
        near("norm", e.step, e.grad_norm.into(), g.grad_norm.into(), 10.0 * tolerance);
        assert_eq!(
            (e.lr, e.mask, e.tokens, e.skipped),
            (g.lr, g.mask, g.tokens, g.skipped),
            "step {}",
            e.step
        );
    }
    for (e, g) in records(expected).iter().zip(&records(got)) {
        match (e, g) {
            (Record::Eval(e), Record::Eval(g)) => near("validation", e.step, e.loss, g.loss, tolerance),
            (Record::Growth(e), Record::Growth(g)) => {
                assert_eq!((e.from, e.to, e.params), (g.from, g.to, g.params));
                assert!(g.receipt.function_preserving, "growth at step {}", g.step);
            }
            (Record::RampEnd(_), Record::RampEnd(g)) => assert!(g.receipt.function_preserving),
            _ => {}
        }
    }
}

/// All widths grow, then depth, with ramps; the same run on both devices, then one on Cuda that is broken off
/// inside a ramp and resumed.
fn trains_as_on_the_cpu(family: &str) {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    corpus(folder);
    let of = |name: &str| {
        let mut config = config(folder, family, name);
        (config.train.eval_every, config.train.checkpoint_every) = (Some(0), Some(6));
        config
    };
    let gpu = gpu();
    run_on(Cpu::default(), of("cpu"), Resume::Never, None).unwrap_or_else(|error| panic!("{error}"));
    run_on(gpu.clone(), of("cuda"), Resume::Never, None).unwrap_or_else(|error| panic!("{error}"));
    let (cpu, cuda, broken) = (folder.join("cpu"), folder.join("cuda"), folder.join("broken"));
    assert_agree(&cpu, &cuda, TOLERANCE);

    copy_folder(&cuda, &broken);
    for later in [8, STEPS] {
        fs::remove_dir_all(broken.join(checkpoint(later))).unwrap();
    }
    fs::remove_dir_all(broken.join("final")).unwrap();
    let mut again = of("cuda");
    again.run.dir = Some(broken.clone());
    let outcome = run_on(gpu, again, Resume::Auto, None).unwrap_or_else(|error| panic!("{error}"));
    assert!(outcome.finished && broken.join("final/model.safetensors").is_file());
    // On a GPU sums have no fixed order.
    assert_agree(&cuda, &broken, TOLERANCE / 10.0);
}

/// The same run in bf16 on both devices: each rounds at places of its own, so losses agree to a rounding of bf16.
fn trains_in_bf16_as_on_the_cpu(family: &str) {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    corpus(folder);
    let of = |name: &str| {
        let mut config = config(folder, family, name);
        (config.train.eval_every, config.train.precision) = (Some(0), Precision::Bf16);
        config
    };
    run_on(Cpu::default(), of("cpu"), Resume::Never, None).unwrap_or_else(|error| panic!("{error}"));
    run_on(gpu(), of("cuda"), Resume::Never, None).unwrap_or_else(|error| panic!("{error}"));
    assert_agree(&folder.join("cpu"), &folder.join("cuda"), 1.0 / 256.0);
}

#[test]
fn cuda_gpt_trains_in_bf16_as_on_the_cpu() {
    trains_in_bf16_as_on_the_cpu("gpt");
}

#[test]
fn cuda_bert_trains_in_bf16_as_on_the_cpu() {
    trains_in_bf16_as_on_the_cpu("bert");
}

#[test]
fn cuda_gpt_trains_as_on_the_cpu_and_resumes() {
    trains_as_on_the_cpu("gpt");
}

#[test]
fn cuda_bert_trains_as_on_the_cpu_and_resumes() {
    trains_as_on_the_cpu("bert");
}

/// A trainer of the first stage alone, before its first step.
fn trainer<D: Backend>(device: &D, config: &RunConfig) -> Trainer<D, Gpt<D>, Causal> {
    let config = registry::resolve(config.clone()).unwrap();
    let data = open_data(&config, &mut |_, _, _| {}).unwrap();
    let plan = Plan::new(&config);
    let gpt = Gpt::<D>::config_of(&config, data.tokenizer().vocab());
    let source = Arc::new(Causal::new(data, config.run().seed, plan.window()).unwrap());
    let model = Gpt::new(device, gpt, Init { seed: 3, std: 0.02 }).unwrap();
    let optimizer = AdamW::new(&model, AdamWConfig { weight_decay: 0.0, ..AdamWConfig::default() }).unwrap();
    Trainer::builder(plan, model, optimizer, source).options(StepOptions::of(&config)).build().unwrap()
}

/// One stage of GPT that learns by a constant rate.
fn one_stage(folder: &Path, peak: f64, guard: Guard) -> RunConfig {
    let mut config = config(folder, "gpt", "late");
    config.stages.truncate(1);
    config.lr.shape = LrShape::Constant;
    (config.lr.warmup, config.lr.peak, config.lr.r#final) = (0, peak, None);
    config.train.guard = guard;
    config
}

/// The steps whose records came in each call of `advance`, and then by settling.
fn heard<D: Backend>(device: &D, config: &RunConfig) -> Vec<Vec<u64>> {
    let mut trainer = trainer(device, config);
    let mut heard = Vec::new();
    let mut last = |trainer: &mut Trainer<D, Gpt<D>, Causal>, settle: bool| {
        let mut now = Vec::new();
        let mut on = |event: Event| {
            if let Record::Step(step) = event.record {
                assert!(step.loss.is_finite() && step.grad_norm > 0.0 && !step.skipped);
                now.push(step.step);
            }
            Ok(())
        };
        match settle {
            true => trainer.settle(&mut on).unwrap(),
            false => trainer.advance(&mut on).unwrap(),
        }
        heard.push(now);
    };
    while !trainer.is_done() {
        last(&mut trainer, false);
    }
    last(&mut trainer, true);
    assert_eq!(trainer.state().step, 4);
    heard
}

#[test]
fn cuda_hands_a_steps_record_on_while_the_next_one_is_queued() {
    let temporary = tempfile::tempdir().unwrap();
    corpus(temporary.path());
    let config = one_stage(temporary.path(), 1e-2, Guard::Stop);
    assert_eq!(heard(&Cpu::default(), &config), [vec![1], vec![2], vec![3], vec![4], vec![]]);
    assert_eq!(heard(&gpu(), &config), [vec![], vec![1], vec![2], vec![3], vec![4]]);
}

/// The values of all parameters and moments.
fn values<D: Backend>(trainer: &Trainer<D, Gpt<D>, Causal>) -> Vec<Vec<u32>> {
    struct Values<'a, D: Backend>(Vec<Vec<u32>>, &'a AnyOptimizer<D>);
    impl<D: Backend> Visitor<D> for Values<'_, D> {
        fn visit<S: msg_core::axis::NamedShape>(
            &mut self,
            name: &ParamName,
            _: Role,
            tensor: &mut msg_core::params::Param<S, D>,
        ) -> msg_core::Result<()> {
            let slot = |slot| self.1.slot::<S>(slot, name);
            let (first, second) = (slot("first_moment")?, slot("second_moment")?);
            let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
            self.0.extend([&*tensor, first, second].map(|tensor| bits(tensor.as_vec())));
            Ok(())
        }
    }
    let mut values = Values(Vec::new(), trainer.optimizer());
    trainer.model().inspect(&mut values).unwrap();
    values.0
}

#[test]
fn cuda_ends_a_run_one_step_after_the_bad_one_and_leaves_the_state_of_before() {
    let temporary = tempfile::tempdir().unwrap();
    corpus(temporary.path());
    // The first update throws the weights so far that no later loss is finite.
    let config = one_stage(temporary.path(), 1e30, Guard::Stop);
    let mut run: Trainer<Cuda, _, _> = trainer(&gpu(), &config);
    let mut on = |_: Event| Ok(());
    run.advance(&mut on).unwrap();
    run.settle(&mut on).unwrap();
    let before = (values(&run), run.state().clone());
    run.advance(&mut on).unwrap();
    assert_eq!(run.state().step, 2);
    let error = run.advance(&mut on).unwrap_err();
    assert!(matches!(error, Error::Diverged(_)) && error.to_string().starts_with("step 2: loss "), "{error}");
    assert_eq!((run.state(), run.optimizer().applied()), (&before.1, 1));
    assert!(values(&run) == before.0, "parameters or moments changed after the bad step");
}
