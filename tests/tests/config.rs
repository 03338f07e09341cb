//! Configurations: what is refused and in which words, overrides, defaults, the text form, the published
//! schedules.

use msg_core::optim::AdamWConfig;
use msg_models::cost::Logits;
use msg_train::{
    Plan,
    config::{LrAtGrowth, LrShape, OptimizerConfig, Resolved, differing_keys},
    families::registry,
    schedule::table::{Savings, plan_table},
};
use std::path::PathBuf;

const FILE: &str = "run.toml";

/// A small run in which everything is valid.
const TEXT: &str = r#"
[run]
name = "tiny"

[data]
sources = ["text"]
tokenizer = { kind = "bpe", vocab = 300 }

[model]
family = "gpt"
head_dim = 4

[train]
clip = 1

[lr]
shape = "linear"
peak = 1e-3
warmup = 10

[[stage]]
steps = 40
layers = 2
hidden = 8
ffn = 16
heads = 2
sequence = 32
batch = 4

[[stage]]
steps = 50
hidden = 12
ramp = 20
lr = "rewind"

[[stage]]
tokens = 3000
layers = 4
batch = 6
"#;

fn parse(text: &str, overrides: &[&str]) -> msg_train::Result<Resolved> {
    let overrides: Vec<String> = overrides.iter().map(|&given| given.to_owned()).collect();
    registry::parse(text, FILE, &overrides)
}

fn tiny(overrides: &[&str]) -> Resolved {
    parse(TEXT, overrides).unwrap()
}

/// The refusal of the small run with these overrides.
fn refusal(overrides: &[&str]) -> String {
    match parse(TEXT, overrides) {
        Ok(_) => panic!("{overrides:?} was accepted"),
        Err(error) => error.to_string(),
    }
}

fn configs() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn config(name: &str) -> Resolved {
    let path = configs().into_iter().find(|path| path.file_stem().unwrap() == name).unwrap();
    registry::read(path, &[]).unwrap()
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_one() {
    for (given, text) in [
        ("stage.2.hiden=5", "run.toml: unknown key `stage.2.hiden`: did you mean `hidden`?"),
        ("trian.clip=1", "run.toml: unknown key `trian`: did you mean `train`?"),
        (
            "data.tokenizer.vocabulary=5",
            "run.toml: unknown key `data.tokenizer.vocabulary`: expected `kind`, `vocab` or `path`",
        ),
        (
            "lr.end=0",
            "run.toml: unknown key `lr.end`: expected `shape`, `peak`, `final`, `warmup` or `decay`",
        ),
        ("lr.finale=0", "run.toml: unknown key `lr.finale`: did you mean `final`?"),
        ("optimizer.beta3=0", "run.toml: unknown key `optimizer.beta3`: did you mean `beta1`?"),
        ("run.sed=3", "run.toml: unknown key `run.sed`: did you mean `seed`?"),
    ] {
        assert_eq!(refusal(&[given]), text);
    }
}

#[test]
fn a_wrong_type_is_refused_with_what_was_expected_and_what_came() {
    for (given, text) in [
        (
            "stage.1.steps=many",
            "run.toml: stage.1.steps: expected a whole number of at least 0, got \"many\"",
        ),
        ("stage.1.steps=1.5", "run.toml: stage.1.steps: expected a whole number of at least 0, got 1.5"),
        ("stage.1.hidden=-8", "run.toml: stage.1.hidden: expected a whole number of at least 0, got -8"),
        ("lr.peak=high", "run.toml: lr.peak: expected a number, got \"high\""),
        (
            "lr.shape=linaer",
            "run.toml: lr.shape: expected `cosine`, `linear`, `wsd`, `wsd-sqrt` or `constant`, got \"linaer\"",
        ),
        (
            "lr.shape=3",
            "run.toml: lr.shape: expected `cosine`, `linear`, `wsd`, `wsd-sqrt` or `constant`, got 3",
        ),
        ("run.name=[1]", "run.toml: run.name: expected text in quotes, got a list"),
        ("data.sources=text", "run.toml: data.sources: expected a list, got \"text\""),
        ("data.sources=[\"a\", 2]", "run.toml: data.sources.2: expected a path in quotes, got 2"),
        ("data.tokenizer=bpe", "run.toml: data.tokenizer: expected a table, got \"bpe\""),
        ("data.mlm.whole_word=1", "run.toml: data.mlm.whole_word: expected true or false, got 1"),
        ("train.clip=none", "run.toml: train.clip: expected a number or \"off\", got \"none\""),
    ] {
        assert_eq!(refusal(&[given]), text);
    }
}

#[test]
fn a_missing_key_is_named_with_its_table() {
    for (given, text) in [
        ("lr.peak=", "run.toml: missing key `lr.peak`"),
        ("data.tokenizer=", "run.toml: missing key `data.tokenizer`"),
        ("model.family=", "run.toml: missing key `model.family`"),
        ("stage.1.ffn=", "run.toml: missing key `stage.1.ffn`"),
        ("stage.1.sequence=", "run.toml: missing key `stage.1.sequence`"),
        ("stage.2.steps=", "run.toml: missing key `stage.2.steps` or `stage.2.tokens`"),
        ("data.tokenizer.vocab=", "run.toml: missing key `data.tokenizer.vocab`"),
        ("data.tokenizer={kind = \"file\"}", "run.toml: missing key `data.tokenizer.path`"),
        ("lr.shape=wsd", "run.toml: missing key `lr.decay`"),
        ("stage.2.lr=rewarm", "run.toml: missing key `stage.2.rewarm_steps`"),
    ] {
        assert_eq!(refusal(&[given]), text);
    }
    let without = TEXT.replace("[lr]\nshape = \"linear\"\npeak = 1e-3\nwarmup = 10\n", "");
    assert_eq!(parse(&without, &[]).unwrap_err().to_string(), "run.toml: missing key `lr`");
    let stages = TEXT.split("[[stage]]").next().unwrap();
    let empty = parse(&format!("stage = []\n{stages}"), &[]).unwrap_err().to_string();
    assert_eq!(empty, "run.toml: stage: expected at least one [[stage]], got none");
    assert_eq!(parse(stages, &[]).unwrap_err().to_string(), "run.toml: missing key `stage`");
}

#[test]
fn keys_that_moved_are_refused_with_their_new_names_but_read_where_they_were_saved() {
    for (old, new) in
        [("weight_decay", "weight_decay"), ("beta1", "beta1"), ("beta2", "beta2"), ("adam_eps", "eps")]
    {
        let text = format!("run.toml: unknown key `train.{old}`: moved to `optimizer.{new}`");
        assert_eq!(refusal(&[&format!("train.{old}=0.5")]), text);
    }
    let saved =
        TEXT.replace("clip = 1", "clip = 1\nweight_decay = 0.3\nbeta1 = 0.8\nbeta2 = 0.7\nadam_eps = 1e-5");
    let saved = registry::parse_saved(&saved, FILE).unwrap();
    let numbers =
        ["weight_decay=0.3", "beta1=0.8", "beta2=0.7", "eps=1e-5"].map(|key| format!("optimizer.{key}"));
    assert_eq!(saved, tiny(&numbers.each_ref().map(String::as_str)));
    assert!(saved.to_toml().unwrap().contains("[optimizer]\nkind = \"adamw\"\n"));
}

#[test]
fn an_optimizer_is_a_kind_and_its_keys() {
    assert_eq!(tiny(&["optimizer.kind=adamw"]), tiny(&[]));
    assert_eq!(
        refusal(&["optimizer.kind=adam"]),
        "run.toml: optimizer.kind: expected `adamw` or `muon`, got \"adam\""
    );
    assert_eq!(refusal(&["optimizer.kind=3"]), "run.toml: optimizer.kind: expected a name in quotes, got 3");
    assert_eq!(refusal(&["optimizer.eps=x"]), "run.toml: optimizer.eps: expected a number, got \"x\"");
    assert_eq!(refusal(&["optimizer=3"]), "--set: optimizer: expected table.key=value, got `optimizer=3`");
}

#[test]
fn text_that_is_no_toml_is_refused_with_line_and_column() {
    let broken = parse("[run]\nname = \n", &[]).unwrap_err().to_string();
    assert!(broken.starts_with("run.toml:2:") && !broken.contains('\n'), "{broken}");
    let twice = parse("[run]\nname = \"a\"\nname = \"b\"\n", &[]).unwrap_err().to_string();
    assert!(twice.starts_with("run.toml:3:1: duplicate key") && !twice.contains('\n'), "{twice}");
    let missing = registry::read("no/such/run.toml", &[]).unwrap_err().to_string();
    assert!(missing.starts_with("no/such/run.toml: "), "{missing}");
}

#[test]
fn each_value_out_of_its_range_is_refused_with_the_range() {
    for (given, text) in [
        ("run.name=a/b", "run.name: expected a plain file name, got \"a/b\""),
        ("run.name=\"\"", "run.name: expected a plain file name, got \"\""),
        ("run.name=..", "run.name: expected a plain file name, got \"..\""),
        (
            "data.sources=",
            "data.sources: expected exactly one of `data.sources`, `data.crates`, not empty, got none of them",
        ),
        (
            "data.crates=[\"dfdx\"]",
            "data.sources: expected exactly one of `data.sources`, `data.crates`, not empty, got `data.sources`, `data.crates`",
        ),
        ("data.held_out=0.6", "data.held_out: expected a share from 0 to 0.5, got 0.6"),
        ("data.held_out=nan", "data.held_out: expected a share from 0 to 0.5, got NaN"),
        ("data.mlm.rate=0", "data.mlm.rate: expected a share above 0 and below 1, got 0.0"),
        (
            "data.tokenizer.kind=bytes",
            "data.tokenizer.vocab: expected none: this kind brings its own, got 300",
        ),
        ("data.tokenizer.path=x", "data.tokenizer.path: expected none but with kind = \"file\", got x"),
        ("model.head_dim=0", "model.head_dim: expected 1 to 16777216, got 0"),
        ("model.dropout=1", "model.dropout: expected a share of at least 0 and below 1, got 1.0"),
        ("model.eps=0", "model.eps: expected a number above 0, got 0.0"),
        ("model.init_std=-1", "model.init_std: expected a number above 0, got -1.0"),
        ("train.micro_batch=0", "train.micro_batch: expected 1 to 16777216, got 0"),
        ("train.clip=0", "train.clip: expected a number above 0, or \"off\", got 0.0"),
        ("optimizer.weight_decay=-0.1", "optimizer.weight_decay: expected at least 0, got -0.1"),
        ("optimizer.beta1=1", "optimizer.beta1: expected at least 0 and less than 1, got 1.0"),
        ("optimizer.beta2=-0.5", "optimizer.beta2: expected at least 0 and less than 1, got -0.5"),
        ("optimizer.eps=0", "optimizer.eps: expected a positive f32, got 0.0"),
        ("train.eval_sequences=0", "train.eval_sequences: expected at least 1, got 0"),
        ("train.keep_last=0", "train.keep_last: expected at least 1, got 0"),
        ("train.receipt_tolerance=-1", "train.receipt_tolerance: expected a number of at least 0, got -1.0"),
        ("lr.peak=0", "lr.peak: expected a number above 0, got 0.0"),
        ("lr.peak=inf", "lr.peak: expected a number above 0, got inf"),
        ("lr.final=0.1", "lr.final: expected 0 to 0.001, the peak, got 0.1"),
        ("lr.final=-1", "lr.final: expected 0 to 0.001, the peak, got -1.0"),
        ("lr.decay=5", "lr.decay: expected none but with shape = \"wsd\" or \"wsd-sqrt\", got 5"),
        ("stage.1.steps=0", "stage.1.steps: expected at least 1, got 0"),
        ("stage.3.tokens=0", "stage.3.tokens: expected at least 1, got 0"),
        ("stage.1.tokens=9", "stage.1.steps: expected either it or `tokens`, got both"),
        ("stage.1.heads=0", "stage.1.heads: expected 1 to 16777216, got 0"),
        (
            "stage.2.rewarm_steps=5",
            "stage.2.rewarm_steps: expected none but with lr = \"rewarm\" or \"rewarm-new\", got 5",
        ),
    ] {
        assert_eq!(refusal(&[given]), format!("run.toml: {text}"));
    }
}

#[test]
fn each_rule_across_stages_and_tables_is_refused_with_both_numbers() {
    for (given, text) in [
        (&["stage.2.hidden=4"][..], "stage.2.hidden: expected at least 8, as in stage 1, got 4"),
        (&["stage.3.layers=1"], "stage.3.layers: expected at least 2, as in stage 2, got 1"),
        (&["stage.3.ffn=3"], "stage.3.ffn: expected at least 16, as in stage 2, got 3"),
        (&["stage.3.heads=1"], "stage.3.heads: expected at least 2, as in stage 2, got 1"),
        (&["model.positions=16"], "stage.1.sequence: expected at most 16, model.positions, got 32"),
        (
            &["stage.2.sequence=48"],
            "stage.1.sequence: expected a divisor of 48, the longest of the plan, got 32",
        ),
        (&["train.micro_batch=4"], "train.micro_batch: expected a divisor of 6, the batch of stage 3, got 4"),
        (&["lr.warmup=106"], "lr.warmup: expected fewer than 106, the steps of all stages, got 106"),
        (
            &["lr.shape=wsd", "lr.decay=97"],
            "lr.decay: expected at most 96, the steps after the warm-up, got 97",
        ),
        (&["lr.shape=constant", "lr.final=0"], "lr.final: expected none with shape = \"constant\", got 0"),
        (
            &["lr.warmup=41"],
            "stage.2.lr: expected no rewind before the warm-up of 41 steps is over, got one after step 40",
        ),
        (&["stage.1.ramp=5"], "stage.1.ramp: expected none: no axis grows before the first stage, got 5"),
        (
            &["stage.3.layers=", "stage.3.ramp=5"],
            "stage.3.ramp: expected none: no axis grows in stage 3, got 5",
        ),
        (
            &["stage.3.layers=", "stage.3.lr=rewind"],
            "stage.3.lr: expected none: no axis grows in stage 3, got \"rewind\"",
        ),
        (
            &["stage.3.layers=", "stage.3.state=reset"],
            "stage.3.state: expected none: no axis grows in stage 3, got \"reset\"",
        ),
        (
            &["stage.2.new_layers=fresh"],
            "stage.2.new_layers: expected none: no depth grows in stage 2, got \"fresh\"",
        ),
        (&["stage.3.units=zero"], "stage.3.units: expected none: no width grows in stage 3, got \"zero\""),
        (
            &["stage.2.lr=rewarm-new", "stage.2.rewarm_steps=51"],
            "stage.2.rewarm_steps: expected at most 50, the steps until the next growth, got 51",
        ),
        (&["model.vocab=299"], "model.vocab: expected at least 300, the tokenizer's, got 299"),
        (&["data.mlm.rate=0.2"], "data.mlm: expected no such table with family = \"gpt\", got one"),
        (
            &["data.held_out=0", "train.eval_every=5"],
            "train.eval_every: expected 0, as data.held_out is 0, got 5",
        ),
        (
            &["stage.3.tokens=", "stage.3.steps=9223372036854775807"],
            "stage: expected at most 9223372036854775807 tokens in all, got more",
        ),
        (&["init.from=\"\""], "init.from: expected the path of a checkpoint, got \"\""),
    ] {
        assert_eq!(refusal(given), format!("run.toml: {text}"));
    }
}

#[test]
fn overrides_take_toml_values_and_bare_words_and_remove_keys() {
    let run = tiny(&[
        "run.name=2026-01-02",
        "data.sources=[\"a\", \"b c\"]",
        "optimizer.weight_decay = 0",
        "train.clip=off",
        "stage.1.steps=7",
        "stage.3.tokens=",
        "stage.3.steps=8",
        "stage.2.lr=rewind-published",
        "lr.warmup=0",
        "init.from=runs/other/step-100",
    ]);
    let run = run.written();
    assert_eq!(run.run.name, "2026-01-02");
    assert_eq!(run.data.sources, [PathBuf::from("a"), PathBuf::from("b c")]);
    let OptimizerConfig::AdamW(AdamWConfig { weight_decay, beta1, .. }) = run.optimizer else {
        panic!("{:?}", run.optimizer)
    };
    assert_eq!((weight_decay, beta1, run.train.clip), (0.0, 0.9, None));
    assert_eq!((run.stages[0].steps, run.stages[2].steps, run.stages[2].tokens), (Some(7), Some(8), None));
    assert_eq!(run.stages[1].lr, LrAtGrowth::RewindPublished);
    assert_eq!(run.init.as_ref().unwrap().from, PathBuf::from("runs/other/step-100"));
}

#[test]
fn an_override_that_leads_nowhere_is_refused() {
    for (given, text) in [
        ("lr.peak", "--set: lr.peak: expected table.key=value, got no `=`"),
        ("peak=1", "--set: peak: expected table.key=value, got `peak=1`"),
        ("lr..peak=1", "--set: lr..peak: expected table.key=value, got `lr..peak=1`"),
        ("stage.4.steps=1", "--set: stage: expected a number from 1 to 3 after it, got `4`"),
        ("stage.0.steps=1", "--set: stage: expected a number from 1 to 3 after it, got `0`"),
        ("stage.last.steps=1", "--set: stage: expected a number from 1 to 3 after it, got `last`"),
        ("lr.peak.high=1", "--set: lr.peak: expected a table, got a value"),
        ("lr.peak=[1", "--set: lr.peak: expected a TOML value or a bare word, got [1"),
    ] {
        assert_eq!(refusal(&[given]), text);
    }
}

#[test]
fn a_resolved_run_holds_every_default_and_survives_its_text() {
    for run in [tiny(&[]), tiny(&["train.clip=off", "model.dropout=0.1", "train.micro_batch=2"])] {
        let text = run.to_toml().unwrap();
        assert_eq!(parse(&text, &[]).unwrap(), run, "{text}");
        assert_eq!(registry::resolve(run.written().clone()).unwrap(), run);
    }
    let run = tiny(&[]);
    let (model, sizes) = (run.model(), run.stages()[2].sizes);
    assert_eq!((model.positions, model.eps, model.dropout), (32, Some(1e-5), 0.0));
    assert_eq!((sizes.hidden, sizes.heads, run.lr().r#final), (12, 2, Some(0.0)));
    let bytes = ["data.tokenizer={kind = \"bytes\"}", "model.family=bert"];
    assert_eq!([run.vocab(), tiny(&bytes[..1]).vocab(), tiny(&bytes).vocab()], [300, 257, 261].map(Some));
    assert!(tiny(&["model.dropout=0.1"]).to_toml().unwrap().contains("dropout = 0.1\n"));
}

#[test]
fn the_keys_that_differ_are_those_whose_meaning_differs() {
    let run = tiny(&[]);
    assert_eq!(differing_keys(&run, &tiny(&["model.positions=32", "data.held_out=0.02"])), [""; 0]);
    let other = tiny(&["train.clip=off", "stage.2.ramp=3", "model.dropout=0.5", "data.sources=[\"b\"]"]);
    assert_eq!(differing_keys(&run, &other), ["data.sources", "model.dropout", "stage.2.ramp", "train.clip"]);
    let mut fewer = run.written().clone();
    fewer.stages.pop();
    let fewer = registry::resolve(fewer).unwrap();
    assert_eq!(differing_keys(&run, &fewer), ["stage.3"]);
    assert_eq!(differing_keys(&run, &tiny(&["init.from=x"])), ["init"]);
}

#[test]
fn every_config_of_the_repository_reads_plans_and_survives_its_text() {
    let files = configs();
    assert!(files.len() >= 3, "{files:?}");
    for path in files {
        let run = registry::read(&path, &[]).unwrap();
        assert_eq!(registry::parse(&run.to_toml().unwrap(), "again", &[]).unwrap(), run, "{path:?}");
        let plan = Plan::new(&run);
        assert!(plan.total_steps() > 0);
        assert_eq!(run.run().name, path.file_stem().unwrap().to_str().unwrap());
        let cost = registry::cost_of(&run, run.vocab().unwrap_or(30_000)).unwrap();
        let table = plan_table(&run, &plan, &cost);
        assert!(table.lines().count() > plan.stages().len(), "{table}");
    }
}

#[test]
fn the_published_schedules_save_what_they_are_said_to() {
    // With token logits at all positions, and at 15 % of them.
    for (name, everywhere, labelled) in [("bert-base", 2.0, 2.4), ("bert-large", 2.4, 2.6)] {
        let run = config(name);
        let plan = Plan::new(&run);
        for (logits, said) in [(Logits::Everywhere, everywhere), (run.logits(), labelled)] {
            let factor = Savings::new(&plan, &registry::cost_of(&run, 30522).unwrap(), logits).factor();
            assert!((factor - said).abs() <= 0.06, "{name} {logits:?}: {factor}");
        }
    }
}

#[test]
fn the_table_of_a_plan_is_aligned_and_says_what_is_saved() {
    let run = config("bert-base");
    let table = plan_table(&run, &Plan::new(&run), &registry::cost_of(&run, 30522).unwrap());
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[..7].iter().all(|line| line.len() == lines[0].len()), "{table}");
    assert!(lines[0].trim_start().starts_with("stage") && lines[6].trim_start().starts_with('6'), "{table}");
    assert!(lines[6].contains("110M") && lines[6].contains("5000"), "{table}");
    assert!(table.contains("300000 steps, 9.83G tokens, 2.28E FLOPs: 2.35x fewer FLOPs"), "{table}");
}

#[test]
fn what_is_left_out_has_its_default() {
    let gpt = |key: &str| tiny(&["model.head_dim=", "lr.shape=", key]);
    let run = gpt("lr.warmup=0");
    // The last stage has 12 units and 2 heads.
    assert_eq!((run.model().head_dim, run.lr().shape, run.lr().r#final), (6, LrShape::Cosine, Some(0.0)));
    // 106 steps.
    assert_eq!((run.eval_every(), run.checkpoint_every()), (6, 11));
    assert_eq!(
        (gpt("data.held_out=0").eval_every(), gpt("train.checkpoint_every=0").checkpoint_every()),
        (0, 0)
    );
    let text = run.to_toml().unwrap();
    for line in ["head_dim = 6", "shape = \"cosine\"", "eval_every = 6", "checkpoint_every = 11"] {
        assert!(text.contains(&format!("\n{line}\n")), "{text}");
    }
    assert_eq!(
        refusal(&["model.head_dim=", "stage.3.heads=5"]),
        "run.toml: model.head_dim: expected a size: the hidden size of the last stage, 12, is no multiple of its 5 \
         heads, got none"
    );
}

#[test]
fn starters_say_their_defaults() {
    for text in [
        include_str!("../../msg-cli/src/starter/gpt.toml"),
        include_str!("../../msg-cli/src/starter/bert.toml"),
    ] {
        // Every key behind a `#` but that of [init].
        let (keys, _) = text.split_once("# Start from a checkpoint").unwrap();
        let line = |line: &str| match line
            .strip_prefix("# ")
            .and_then(|key| Some((key, key.split_once(" = ")?.0)))
        {
            Some((key, name)) if name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_') => {
                key.to_owned()
            }
            _ => line.to_owned(),
        };
        let said: Vec<String> = keys.lines().map(line).collect();
        let (run, said) = (parse(text, &[]).unwrap(), parse(&said.join("\n"), &[]).unwrap());
        assert_eq!(differing_keys(&run, &said), ["run.dir", "train.micro_batch"]);
    }
}
