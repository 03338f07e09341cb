//! Runs that begin at a checkpoint, and the final model that transformers reads.

use crate::runs::{STEPS, bytes, checkpoint, config, corpus, records, run, run_until};
use dfdx::tensor::Cpu;
use msg_core::optim::AdamWConfig;
use msg_models::{Sizes, bert::Bert, gpt::Gpt, sizes};
use msg_tests::families::drawn;
use msg_train::{
    Error, Plan, Trainer,
    checkpoint::{Loaded, load},
    config::{InitFrom, RunConfig, TokenizerKind},
    data::{Batches, Causal, Mlm, open::open_data},
    families::{
        family::{Family, HostOf},
        registry,
    },
    metrics::Record,
    run::{Request, Resume, Session},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

/// A finished run of all three stages.
fn source(folder: &Path, family: &str) -> PathBuf {
    corpus(folder);
    run(config(folder, family, "source"), Resume::Never).unwrap_or_else(|error| panic!("{error}"));
    folder.join("source")
}

/// A run from the checkpoint after `step` whose only stage has the sizes given.
fn from(folder: &Path, family: &str, name: &str, step: u64, sizes: Sizes) -> RunConfig {
    let mut config = config(folder, family, name);
    config.init = Some(InitFrom { from: folder.join("source").join(checkpoint(step)), state: false });
    config.data.tokenizer.kind = TokenizerKind::File;
    config.data.tokenizer.vocab = None;
    let tokenizer = folder.join("tokenizer.json");
    fs::copy(folder.join("source").join(checkpoint(step)).join("tokenizer.json"), &tokenizer).unwrap();
    config.data.tokenizer.path = Some(tokenizer);
    config.data.shards = Some(folder.join(format!("data-of-{name}")));
    config.stages.truncate(1);
    let Sizes { layers, hidden, ffn, heads, .. } = sizes;
    let stage = &mut config.stages[0];
    (stage.layers, stage.hidden) = (Some(layers), Some(hidden));
    (stage.ffn, stage.heads) = (Some(ffn), Some(heads));
    config
}

const GROWN: Sizes = sizes! { layers: 1, hidden: 9, ffn: 11, heads: 3 };
const DEEP: Sizes = Sizes { layers: 2, ..GROWN };

/// The run's trainer before its first step.
fn opened<M: Family<Cpu>, B: Batches<Batch = HostOf<Cpu, M>>>(
    config: RunConfig,
    batches: impl Fn(&Request<'_>) -> B,
    look: impl Fn(&Trainer<Cpu, M, B>),
) {
    let stop = AtomicBool::new(false);
    let config = registry::resolve(config).unwrap();
    let data = open_data(&config, &mut |_, _, _| {}).unwrap();
    let request = Request {
        config: &config,
        plan: &Plan::new(&config),
        data,
        resume: Resume::Never,
        stop: &stop,
        console: false,
        fault: None,
    };
    let source = Arc::new(batches(&request));
    let session = Session::<Cpu, M, B>::open(Cpu::default(), &request, source);
    look(session.unwrap_or_else(|error| panic!("{error}")).trainer());
}

/// The outputs of a run that begins inside the source's ramps are those of the source, to the bit, and
/// the ramps continue from there.
fn begins_where_the_source_stood<M, B>(family: &str, batches: fn(&Request<'_>) -> B)
where
    M: Family<Cpu>,
    B: Batches<Batch = HostOf<Cpu, M>>,
{
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let source = source(folder, family);
    // Inside the first ramp; at its end, inside the second; after both.
    for (step, sizes, ramping) in [(6, GROWN, true), (9, DEEP, true), (STEPS, DEEP, false)] {
        let path = source.join(checkpoint(step));
        let device = Cpu::default();
        let Loaded { model, header, .. } = load::<Cpu, M>(&path, &device, AdamWConfig::default()).unwrap();
        assert_eq!(model.growing().ramps.is_empty(), !ramping, "after step {step}");
        let host = drawn(&model, (3, 12), 5);
        let outputs = |model: &M, step| {
            msg_tests::families::outputs(model, &host, &model.masks(step).unwrap()).unwrap()
        };
        for state in [false, true] {
            let mut config = from(folder, family, &format!("from-{step}-{state}"), step, sizes);
            config.init.as_mut().unwrap().state = state;
            config.model.dropout = Some(0.25);
            opened::<M, B>(config, batches, |trainer| {
                let new = trainer.model();
                for later in 0..8 {
                    let (old, new) = (outputs(&model, step + later), outputs(new, later));
                    assert!(old == new && !old.is_empty(), "{family}: {later} steps after step {step}");
                }
                // The ramp is seen at all, and moves.
                assert_eq!(outputs(new, 0) != outputs(new, 20), ramping);
                assert_eq!(new.growing().layer_ids, model.growing().layer_ids);
                assert_eq!((trainer.state().step, trainer.state().stage), (0, 1));
                assert_eq!(new.dropout(), 0.25);
                let applied = if state { header.applied } else { 0 };
                assert_eq!(trainer.optimizer().applied(), applied);
                assert_eq!(
                    *trainer.optimizer().birth_steps() == header.births,
                    state || header.births == Default::default()
                );
            });
        }
    }
}

fn causal(request: &Request<'_>) -> Causal {
    Causal::new(request.data.clone(), 3, 12).unwrap()
}

fn mlm(request: &Request<'_>) -> Mlm {
    Mlm::new(request.data.clone(), 3, request.config.data().mlm).unwrap()
}

#[test]
fn a_gpt_begins_where_its_source_stood_and_ramps_go_on() {
    begins_where_the_source_stood::<Gpt<Cpu>, Causal>("gpt", causal);
}

#[test]
fn a_bert_begins_where_its_source_stood_and_ramps_go_on() {
    begins_where_the_source_stood::<Bert<Cpu>, Mlm>("bert", mlm);
}

#[test]
fn a_run_that_began_at_a_smaller_checkpoint_grows_first_and_resumes_without_it() {
    for family in ["gpt", "bert"] {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path();
        let source = source(folder, family);
        let larger = Sizes { layers: 3, hidden: 12, ..GROWN };
        // Its shards stay when the source goes.
        let begin = |name: &str| {
            let mut config = from(folder, family, name, 6, larger);
            config.data.shards = Some(folder.join("data-from"));
            let stage = &mut config.stages[0];
            (stage.ramp, stage.new_layers) = (3, msg_models::DepthInit::Interpolate);
            config
        };
        run(begin("whole"), Resume::Never).unwrap_or_else(|error| panic!("{error}"));
        let whole = folder.join("whole");
        let growths: Vec<_> = records(&whole)
            .into_iter()
            .filter_map(|record| match record {
                Record::Growth(growth) => Some(growth),
                _ => None,
            })
            .collect();
        let [growth] = growths.as_slice() else { panic!("{growths:?}") };
        assert_eq!((growth.step, growth.from, growth.to), (1, GROWN, larger));
        assert!(growth.receipt.function_preserving && growth.receipt.max_dlogit == 0.0);
        assert!(fs::read_to_string(whole.join("plan.json")).unwrap().contains("\"ramp\": 3"));

        // Broken off after a step, the source gone.
        let broken = begin("broken");
        let stop = AtomicBool::new(true);
        let outcome = run_until(Cpu::default(), broken.clone(), Resume::Never, None, &stop).unwrap();
        assert!(!outcome.finished && outcome.step == 1);
        fs::remove_dir_all(&source).unwrap();
        run(broken, Resume::Auto).unwrap_or_else(|error| panic!("{error}"));
        let last = checkpoint(4);
        let (whole, broken) = (whole, folder.join("broken"));
        let got = bytes(&broken.join(&last));
        for (name, expected) in bytes(&whole.join(&last)) {
            let named = name.ends_with("config.toml") || name.ends_with("checkpoint.json");
            assert!(named || got[&name] == expected, "{family}: {}", name.display());
        }
        let lines = |run: &Path| fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        assert_eq!(lines(&broken).replace("broken", "whole"), lines(&whole));
    }
}

#[test]
fn what_does_not_fit_the_checkpoint_is_refused_in_one_line() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let source = source(folder, "gpt");
    let at = source.join(checkpoint(6)).display().to_string();
    let refused = |change: &dyn Fn(&mut RunConfig)| -> String {
        let mut config = from(folder, "gpt", "new", 6, GROWN);
        change(&mut config);
        let error: Error = run(config, Resume::Never).unwrap_err();
        error.to_string()
    };
    let same = |key: &str, expected: &str, got: &str| {
        format!("new: {key}: expected {expected}, as in {at}, got {got}")
    };
    assert_eq!(refused(&|config| config.model.head_dim = Some(4)), same("model.head_dim", "3", "4"));
    assert_eq!(refused(&|config| config.model.positions = Some(16)), same("model.positions", "12", "16"));
    assert_eq!(refused(&|config| config.model.vocab = Some(300)), same("model.vocab", "257", "300"));
    assert_eq!(refused(&|config| config.model.eps = Some(1e-6)), same("model.eps", "0.00001", "1e-6"));
    let erf = refused(&|config| config.model.gelu = Some(msg_core::ops::Gelu::Erf));
    assert_eq!(erf, same("model.gelu", "\"tanh\"", "\"erf\""));
    assert_eq!(
        refused(&|config| config.stages[0].ffn = Some(10)),
        "new: stage.1.ffn: expected at least 11, as in the checkpoint of init.from, got 10"
    );
    assert_eq!(
        refused(&|config| config.stages[0].ramp = 5),
        "new: stage.1.ramp: expected none: no axis grows before the first stage, got 5"
    );
    assert_eq!(
        refused(&|config| config.stages[0].lr = msg_train::config::LrAtGrowth::Rewind),
        "configuration: stage.1.lr: expected none: the schedule starts here, got \"rewind\""
    );
    assert_eq!(
        refused(&|config| config.stages[0].state = msg_core::optim::StatePolicy::Reset),
        "configuration: stage.1.state: expected none but with init.state = true, got \"reset\""
    );
    let other = refused(&|config| {
        config.data.tokenizer.kind = TokenizerKind::Bpe;
        config.data.tokenizer.vocab = Some(257);
        config.data.tokenizer.path = None;
        config.data.shards = Some(folder.join("data-other"));
    });
    let cure = format!("kind = \"file\", path = \"{at}/tokenizer.json\": the checkpoint's tokenizer");
    assert_eq!(other, format!("new: data.tokenizer: expected {cure}, got another tokenizer"));
    let nowhere = refused(&|config| config.init.as_mut().unwrap().from = folder.join("nowhere"));
    assert!(nowhere.contains("nowhere: expected a checkpoint") && !nowhere.contains('\n'), "{nowhere}");

    let mut bert = config(folder, "bert", "bert");
    bert.init = Some(InitFrom { from: source.clone(), state: false });
    let error = run(bert, Resume::Never).unwrap_err().to_string();
    let latest = source.join(checkpoint(STEPS)).display().to_string();
    assert_eq!(error, format!("bert: model.family: expected \"gpt\", as in {latest}, got \"bert\""));
    // What was refused left no run behind.
    run(from(folder, "gpt", "new", 6, GROWN), Resume::Never).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_final_model_has_a_configuration_exactly_where_transformers_can_represent_it() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    corpus(folder);
    for family in ["gpt", "bert"] {
        let outcome = run(config(folder, family, family), Resume::Never).unwrap();
        assert_eq!(outcome.unrepresentable, None);
        let last = folder.join(family).join("final");
        let read = |name: &str| -> serde_json::Value {
            serde_json::from_slice(&fs::read(last.join(name)).unwrap()).unwrap()
        };
        let model = read("config.json");
        let [hidden, layers, ffn] = match family {
            "gpt" => ["n_embd", "n_layer", "n_inner"],
            _ => ["hidden_size", "num_hidden_layers", "intermediate_size"],
        };
        assert_eq!([&model[hidden], &model[layers], &model[ffn]], [9, 2, 11]);
        assert_eq!(last.join("generation_config.json").exists(), family == "gpt");
        let end = if family == "gpt" { "eos_token" } else { "mask_token" };
        assert_eq!(read("tokenizer_config.json")[end], read("special_tokens_map.json")[end]);
        assert!(read("special_tokens_map.json")[end].is_string());

        // A ramp that outlasts the run; more units of heads than hidden.
        let ramping = |config: &mut RunConfig| config.stages[2].ramp = 9;
        let decoupled =
            |config: &mut RunConfig| config.stages[1..].iter_mut().for_each(|stage| stage.heads = Some(4));
        let changes: [(&str, &dyn Fn(&mut RunConfig), &str); 2] = [
            ("ramping", &ramping, "a ramp has not ended"),
            ("decoupled", &decoupled, "4 heads of size 3 are 12 units, hidden is 9"),
        ];
        for (name, change, why) in changes {
            let name = format!("{family}-{name}");
            let mut config = config(folder, family, &name);
            change(&mut config);
            let outcome = run(config, Resume::Never).unwrap();
            let reason = outcome.unrepresentable.unwrap().to_string();
            assert!(outcome.finished && reason.starts_with(why), "{reason}");
            let last = bytes(&folder.join(name).join("final"));
            assert!(last.contains_key(Path::new("model.safetensors")));
            assert!(last.contains_key(Path::new("tokenizer.json")));
            assert!(!last.contains_key(Path::new("config.json")));
        }
    }
}
