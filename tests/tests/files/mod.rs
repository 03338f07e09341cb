//! Files: what is written is read to the bit; whatever else a file holds is refused, in words that
//! name it, and changes nothing.

mod damage;
mod refusals;
mod round_trip;
mod saving;

use dfdx::{
    shapes::{Axes2, HasShape},
    tensor::{Cpu, TensorFromVec},
    tensor_ops::PermuteTo,
};
use msg_core::{
    Backend, Result,
    axis::{AttnDim, Ffn, Hidden, NamedShape, Qkv, Vocab},
    growth::{Init, init},
    params::{Module, Param, ParamName, Role, Visitor},
    random::{Key, bits_at},
};
use msg_models::hf::{self, FileLayout, Naming, TensorFile, load, save};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// A module with every rank and layout; all sizes differ.
#[derive(Clone, Debug)]
struct Tiny {
    table: Param<(Vocab, Hidden), Cpu>,
    split: Param<(Qkv, AttnDim, Hidden), Cpu>,
    split_bias: Param<(Qkv, AttnDim), Cpu>,
    turned: Param<(Qkv, AttnDim, Hidden), Cpu>,
    merged: Param<(Qkv, AttnDim), Cpu>,
    stacked: Param<(Qkv, AttnDim, Hidden), Cpu>,
    up: Param<(Ffn, Hidden), Cpu>,
    gain: Param<(Hidden,), Cpu>,
}

const VOCAB: Vocab = Vocab(7);
const HIDDEN: Hidden = Hidden(5);
const QKV: Qkv = Qkv(3);
const INNER: AttnDim = AttnDim(4);
const FFN: Ffn = Ffn(6);

impl Tiny {
    fn new(seed: u64) -> Self {
        let device = Cpu::default();
        let mut tiny = Tiny {
            table: zeros(&device, (VOCAB, HIDDEN)),
            split: zeros(&device, (QKV, INNER, HIDDEN)),
            split_bias: zeros(&device, (QKV, INNER)),
            turned: zeros(&device, (QKV, INNER, HIDDEN)),
            merged: zeros(&device, (QKV, INNER)),
            stacked: zeros(&device, (QKV, INNER, HIDDEN)),
            up: zeros(&device, (FFN, HIDDEN)),
            gain: zeros(&device, (HIDDEN,)),
        };
        init(&mut tiny, Init { seed, std: 0.5 }).unwrap();
        // No two values of a tensor are alike, biases included, so that any wrong place shows.
        for (at, (_, values)) in each(&mut tiny).into_iter().enumerate() {
            assert!(!values.is_empty());
            overwrite(&mut tiny, at, |i, value| value + (i + 1) as f32 / 64.0);
        }
        tiny
    }
}

fn zeros<S: NamedShape>(device: &Cpu, shape: S) -> Param<S, Cpu> {
    device.tensor_from_vec(vec![0.0; shape.num_elements()], shape)
}

impl Module<Cpu> for Tiny {
    fn walk<V: Visitor<Cpu>>(&mut self, at: &ParamName, visitor: &mut V) -> Result<()> {
        let Tiny { table, split, split_bias, turned, merged, stacked, up, gain } = self;
        let at = at.join("tiny");
        visitor.visit(&at.join("table.weight"), Role::embedding(), table)?;
        let layer = at.layer_of("h", 0);
        visitor.visit(&layer.join("self.{query,key,value}.weight"), Role::weights(), split)?;
        visitor.visit(&layer.join("self.{query,key,value}.bias"), Role::biases(), split_bias)?;
        visitor.visit(&layer.join("c_attn.weight"), Role::weights(), turned)?;
        visitor.visit(&layer.join("c_attn.bias"), Role::biases(), merged)?;
        visitor.visit(&layer.join("stacked.weight"), Role::weights(), stacked)?;
        visitor.visit(&layer.join("c_fc.weight"), Role::weight(), up)?;
        visitor.visit(&at.join("norm.weight"), Role::norm_weight(), gain)
    }
}

/// What the file of a [`Tiny`] holds.
const FILE: [(&str, &[usize]); 12] = [
    ("tiny.h.0.c_attn.bias", &[12]),
    ("tiny.h.0.c_attn.weight", &[5, 12]),
    ("tiny.h.0.c_fc.weight", &[5, 6]),
    ("tiny.h.0.self.key.bias", &[4]),
    ("tiny.h.0.self.key.weight", &[4, 5]),
    ("tiny.h.0.self.query.bias", &[4]),
    ("tiny.h.0.self.query.weight", &[4, 5]),
    ("tiny.h.0.self.value.bias", &[4]),
    ("tiny.h.0.self.value.weight", &[4, 5]),
    ("tiny.h.0.stacked.weight", &[12, 5]),
    ("tiny.norm.weight", &[5]),
    ("tiny.table.weight", &[7, 5]),
];

fn layout(name: &ParamName) -> FileLayout {
    let name = name.to_string();
    match name.rsplit_once('.') {
        _ if name.contains('{') => FileLayout::Split,
        Some((at, "weight")) if at.ends_with("c_attn") || at.ends_with("c_fc") => FileLayout::Transposed,
        Some((at, _)) if at.ends_with("c_attn") || at.ends_with("stacked") => FileLayout::Merged,
        _ => FileLayout::AsIs,
    }
}

const NAMES: Naming = Naming::new(layout).with_aliases(&[("head.weight", "tiny.table.weight")]);

/// Names and values in walk order.
fn each<M: Module<Cpu>>(module: &mut M) -> Vec<(String, Vec<f32>)> {
    struct Each(Vec<(String, Vec<f32>)>);
    impl Visitor<Cpu> for Each {
        fn visit<S: NamedShape>(&mut self, name: &ParamName, _: Role, t: &mut Param<S, Cpu>) -> Result<()> {
            self.0.push((name.to_string(), t.as_vec()));
            Ok(())
        }
    }
    let mut all = Each(Vec::new());
    module.walk(&ParamName::root(), &mut all).unwrap();
    all.0
}

/// Replaces the tensor that the walk visits as number `at`.
fn overwrite<M: Module<Cpu>>(module: &mut M, at: usize, value: impl Fn(usize, f32) -> f32) {
    struct Overwrite<F>(usize, F);
    impl<F: Fn(usize, f32) -> f32> Visitor<Cpu> for Overwrite<F> {
        fn visit<S: NamedShape>(&mut self, _: &ParamName, _: Role, t: &mut Param<S, Cpu>) -> Result<()> {
            if self.0 == 0 {
                let values = t.as_vec().into_iter().enumerate().map(|(i, old)| (self.1)(i, old)).collect();
                *t = t.device().tensor_from_vec(values, *t.shape());
            }
            self.0 = self.0.wrapping_sub(1);
            Ok(())
        }
    }
    module.walk(&ParamName::root(), &mut Overwrite(at, value)).unwrap();
}

fn bits(module: &Tiny) -> Vec<(String, Vec<u32>)> {
    let to_bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    each(&mut module.clone()).into_iter().map(|(name, values)| (name, to_bits(values))).collect()
}

fn notes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A folder that goes away with the test, and a path in it.
fn place() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.safetensors");
    (folder, path)
}

/// File tensors by name: type, shape, bytes. Read and written by the safetensors crate, so that our
/// writer and reader are each held against another one.
type Raw = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn raw(path: &Path) -> Raw {
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors
        .iter()
        .map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect()
}

fn write_raw(tensors: &Raw, path: &Path) {
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Opens and loads.
fn read(module: &Tiny, path: &Path, naming: &Naming) -> hf::Result<Tiny> {
    load(module, &TensorFile::open(path)?.tensors(), naming)
}

/// Loads a file that must be refused: the module and the file stay as they were. Gives the text, with
/// FILE for the path.
fn refusal(path: &Path, naming: &Naming) -> String {
    let module = Tiny::new(2);
    let (values, file) = (bits(&module), fs::read(path).unwrap());
    let refused = read(&module, path, naming).unwrap_err().to_string();
    assert_eq!(bits(&module), values);
    assert_eq!(fs::read(path).unwrap(), file);
    refused.replace(&path.display().to_string(), "FILE")
}

/// As [`refusal`], of a saved file whose tensors `change` spoils.
fn refusal_of(change: impl FnOnce(&mut Raw)) -> String {
    let (_folder, path) = place();
    save(&Tiny::new(1), &NAMES, &notes(&[]), &path).unwrap();
    let mut tensors = raw(&path);
    change(&mut tensors);
    write_raw(&tensors, &path);
    refusal(&path, &NAMES)
}
