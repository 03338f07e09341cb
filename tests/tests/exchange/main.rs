//! Models from elsewhere and to elsewhere: import, export, growth of what is there, conversion, inspection.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod exact;
mod folds;
mod masked;
mod refusals;
mod round_trips;
#[path = "../runs.rs"]
#[allow(dead_code, reason = "shared with the main binary, which uses all of it")]
mod runs;
mod stages;

use dfdx::tensor::Cpu;
use msg_core::growth::Init;
use msg_models::{
    Sizes,
    bert::{Bert, BertConfig},
    gpt::{Gpt, GptConfig},
    hf::{self, Format, StoredType},
    sizes,
};
use msg_tests::families::{drawn, loss};
use msg_train::families::registry::Listed;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

const SIZES: Sizes = sizes! { layers: 2, hidden: 6, ffn: 8, heads: 3 };
const HEAD_DIM: usize = 2;
/// Entries of the token tables, one more than the tokenizers have.
const VOCAB: usize = 10;

/// A folder in which the command works.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn msg(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_msg-under-test"));
        command.args(words).current_dir(self.0.path()).stdin(Stdio::null());
        command.env("RAYON_NUM_THREADS", "1").env_remove("MSG_LOG").env_remove("MSG_TEST_FAULT");
        command.output().unwrap()
    }

    /// What the command says when it does what it is told.
    fn done(&self, words: &[&str]) -> String {
        let output = self.msg(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && said.is_empty(), "{words:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Asserts a refusal: exit code 2, one line that has all of `parts`, and nothing that was made.
    fn refused(&self, words: &[&str], parts: &[&str]) {
        let before = names(self.0.path());
        let output = self.msg(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.starts_with("msg: ") && said.lines().count() == 1, "{words:?}: {said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{words:?}: expected {parts:?} in {said}");
        assert_eq!(names(self.0.path()), before, "{words:?}");
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }
}

fn names(folder: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names
}

/// A family as it is published.
trait Publishable: Listed<Cpu> {
    const NAME: &'static str;

    fn tiny() -> Self;
    fn tokenizer(place: &Place, folder: &str);
}

impl Publishable for Gpt<Cpu> {
    const NAME: &'static str = "gpt";

    fn tiny() -> Self {
        let config = GptConfig {
            vocab: VOCAB,
            positions: 8,
            head_dim: HEAD_DIM,
            sizes: SIZES,
            ..GptConfig::default()
        };
        scattered(Gpt::new(&Cpu::default(), config, Init { seed: 3, std: 0.3 }).unwrap())
    }

    fn tokenizer(place: &Place, folder: &str) {
        let vocab = r#"{"a": 0, "b": 1, "ab": 2, "Ġ": 3, "Ġab": 4, "<|endoftext|>": 5}"#;
        place.write(&format!("{folder}/vocab.json"), vocab);
        place.write(&format!("{folder}/merges.txt"), "#version: 0.2\na b\nĠ ab\n");
    }
}

impl Publishable for Bert<Cpu> {
    const NAME: &'static str = "bert";

    fn tiny() -> Self {
        let config = BertConfig {
            vocab: VOCAB,
            positions: 8,
            head_dim: HEAD_DIM,
            sizes: SIZES,
            ..BertConfig::default()
        };
        scattered(Bert::new(&Cpu::default(), config, Init { seed: 3, std: 0.3 }).unwrap())
    }

    fn tokenizer(place: &Place, folder: &str) {
        let pieces = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n##a\n##b\n";
        place.write(&format!("{folder}/vocab.txt"), pieces);
    }
}

/// The model with random numbers in every tensor, biases and norms included.
fn scattered<M: Listed<Cpu>>(model: M) -> M {
    use msg_core::{
        axis::NamedShape,
        growth::{Fill, Growth, NewEntries},
        params::{Kind, Param, ParamName, Role, Visitor},
    };
    struct Scatter;
    impl Visitor<Cpu> for Scatter {
        fn visit<S: NamedShape>(
            &mut self,
            name: &ParamName,
            role: Role,
            tensor: &mut Param<S, Cpu>,
        ) -> msg_core::Result<()> {
            use dfdx::{shapes::HasShape, tensor_ops::TryAdd};
            use msg_core::{error::Context, growth::GrowKernel};
            let new = NewEntries { key: Growth::new(9, 9).key(name), fill: Fill::Normal { std: 0.3 } };
            let random: Param<S, Cpu> = tensor.device().fresh(tensor.shape(), new)?;
            let one = if role.kind == Kind::NormWeight { 1.0 } else { 0.0 };
            *tensor = random.try_add(one).during("scatter")?;
            Ok(())
        }
    }
    let mut model = model;
    model.walk(&ParamName::root(), &mut Scatter).unwrap();
    model
}

/// Writes a model as it would lie on the hub: `named` says what each tensor is called, or leaves it out.
fn publish<M: Publishable>(
    model: &M,
    folder: &Path,
    stored: &dyn Fn(&str) -> StoredType,
    named: &dyn Fn(&str) -> Option<String>,
    largest: u64,
) {
    fs::create_dir_all(folder).unwrap();
    let notes = BTreeMap::new();
    hf::save_folder(
        model,
        &M::NAMING,
        &Format { notes: &notes, stored, named, largest, values: None },
        folder,
    )
    .unwrap();
    let config = serde_json::to_string_pretty(&model.hugging_face(None).unwrap().config).unwrap();
    fs::write(folder.join("config.json"), config).unwrap();
}

/// The published folder `name` with its tokenizer, whole and in f32.
fn published<M: Publishable>(place: &Place, name: &str) -> M {
    let model = M::tiny();
    publish(&model, &place.path(name), &|_| StoredType::F32, &|name| Some(name.to_owned()), u64::MAX);
    M::tokenizer(place, name);
    model
}
