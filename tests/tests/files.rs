//! Files: what is written is read to the bit; whatever else a file holds is refused, in words that
//! name it, and changes nothing.

// clippy.toml allows it inside test functions; what stands here beside them serves only them.
#![allow(clippy::unwrap_used)]

use dfdx::{
    shapes::{Axes2, HasShape},
    tensor::{Cpu, TensorFromVec},
    tensor_ops::PermuteTo,
};
use msg_core::{
    Result,
    axis::{Ffn, Hidden, Inner, NamedShape, Qkv, Vocab},
    device::Backend,
    params::{Init, Module, Param, ParamName, Role, Visitor, init},
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
    split: Param<(Qkv, Inner, Hidden), Cpu>,
    split_bias: Param<(Qkv, Inner), Cpu>,
    turned: Param<(Qkv, Inner, Hidden), Cpu>,
    merged: Param<(Qkv, Inner), Cpu>,
    stacked: Param<(Qkv, Inner, Hidden), Cpu>,
    up: Param<(Ffn, Hidden), Cpu>,
    gain: Param<(Hidden,), Cpu>,
}

const VOCAB: Vocab = Vocab(7);
const HIDDEN: Hidden = Hidden(5);
const QKV: Qkv = Qkv(3);
const INNER: Inner = Inner(4);
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
        visitor.visit(&at.join("norm.weight"), Role::gain(), gain)
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

#[test]
fn a_saved_module_comes_back_to_the_bit_and_the_given_one_stays_as_it_was() {
    let (_folder, path) = place();
    let (saved, other) = (Tiny::new(1), Tiny::new(2));
    let before = bits(&other);
    assert_ne!(bits(&saved), before);
    save(&saved, &NAMES, &notes(&[]), &path).unwrap();
    let loaded = read(&other, &path, &NAMES).unwrap();
    assert_eq!(bits(&loaded), bits(&saved));
    assert_eq!(bits(&other), before);
}

#[test]
fn extreme_values_come_back_to_the_bit() {
    const VALUES: [f32; 6] = [-0.0, f32::MIN_POSITIVE, f32::MAX, f32::MIN, f32::EPSILON, f32::from_bits(1)];
    let (_folder, path) = place();
    let mut saved = Tiny::new(1);
    for at in 0..each(&mut saved).len() {
        overwrite(&mut saved, at, |i, _| VALUES[i % VALUES.len()]);
    }
    save(&saved, &NAMES, &notes(&[]), &path).unwrap();
    assert_eq!(bits(&read(&Tiny::new(2), &path, &NAMES).unwrap()), bits(&saved));
}

#[test]
fn a_file_has_the_names_and_shapes_of_its_layouts() {
    let (_folder, path) = place();
    save(&Tiny::new(1), &NAMES, &notes(&[]), &path).unwrap();
    let tensors = raw(&path);
    let got: Vec<_> = tensors.iter().map(|(name, (_, shape, _))| (name.as_str(), shape.as_slice())).collect();
    assert_eq!(got, FILE);
    assert!(tensors.values().all(|(dtype, ..)| *dtype == Dtype::F32));
}

#[test]
fn every_layout_puts_each_value_where_its_definition_says() {
    let (_folder, path) = place();
    let tiny = Tiny::new(1);
    save(&tiny, &NAMES, &notes(&[]), &path).unwrap();
    let file = TensorFile::open(&path).unwrap();
    let read = |name: &str| file.tensors().f32s(name).unwrap();
    let (inner, hidden, ffn) = (INNER.0, HIDDEN.0, FFN.0);

    let (split, split_bias) = (tiny.split.as_vec(), tiny.split_bias.as_vec());
    for (unit, part) in ["query", "key", "value"].into_iter().enumerate() {
        let weight = read(&format!("tiny.h.0.self.{part}.weight"));
        assert_eq!(weight, split[unit * inner * hidden..][..inner * hidden]);
        assert_eq!(read(&format!("tiny.h.0.self.{part}.bias")), split_bias[unit * inner..][..inner]);
    }
    let (turned, in_file) = (tiny.turned.as_vec(), read("tiny.h.0.c_attn.weight"));
    for row in 0..QKV.0 * inner {
        for column in 0..hidden {
            assert_eq!(in_file[column * QKV.0 * inner + row], turned[row * hidden + column]);
        }
    }
    let (up, in_file) = (tiny.up.as_vec(), read("tiny.h.0.c_fc.weight"));
    for row in 0..ffn {
        for column in 0..hidden {
            assert_eq!(in_file[column * ffn + row], up[row * hidden + column]);
        }
    }
    assert_eq!(read("tiny.h.0.c_attn.bias"), tiny.merged.as_vec());
    assert_eq!(read("tiny.h.0.stacked.weight"), tiny.stacked.as_vec());
    assert_eq!(read("tiny.table.weight"), tiny.table.as_vec());
    assert_eq!(read("tiny.norm.weight"), tiny.gain.as_vec());
}

#[test]
fn a_tensor_that_is_not_contiguous_is_saved_in_its_own_order() {
    let (_folder, path) = place();
    let mut tiny = Tiny::new(1);
    let device = Cpu::default();
    let values: Vec<f32> = (0..35).map(|i| i as f32).collect();
    let columns: Param<(Hidden, Vocab), Cpu> = device.tensor_from_vec(values, (HIDDEN, VOCAB));
    tiny.table = columns.permute::<(Vocab, Hidden), Axes2<1, 0>>();
    save(&tiny, &NAMES, &notes(&[]), &path).unwrap();
    let read = TensorFile::open(&path).unwrap().tensors().f32s("tiny.table.weight").unwrap();
    assert_eq!(read[..7], [0.0, 7.0, 14.0, 21.0, 28.0, 1.0, 8.0]);
    assert_eq!(read, tiny.table.as_vec());
}

#[test]
fn the_same_module_and_notes_give_the_same_bytes_and_the_values_begin_aligned() {
    let (_folder, path) = place();
    let all = notes(&[("b", "2"), ("a", "\"quoted\"\n"), ("c", "3"), ("d", "4"), ("e", "5")]);
    let bytes = || {
        save(&Tiny::new(1), &NAMES, &all, &path).unwrap();
        fs::read(&path).unwrap()
    };
    let first = bytes();
    assert_eq!(u64::from_le_bytes(*first.first_chunk().unwrap()) % 8, 0);
    for _ in 0..8 {
        assert_eq!(bytes(), first);
    }
    let mut expected = all.clone();
    expected.insert("format".to_owned(), "pt".to_owned());
    assert_eq!(TensorFile::open(&path).unwrap().metadata(), expected);
    let own = notes(&[("format", "mine")]);
    save(&Tiny::new(1), &NAMES, &own, &path).unwrap();
    assert_eq!(TensorFile::open(&path).unwrap().metadata(), own);
}

#[test]
fn a_new_save_replaces_the_file_leaves_nothing_beside_it_and_an_open_reader_keeps_the_old_one() {
    let (folder, path) = place();
    save(&Tiny::new(1), &NAMES, &notes(&[]), &path).unwrap();
    let old = TensorFile::open(&path).unwrap();
    save(&Tiny::new(2), &NAMES, &notes(&[]), &path).unwrap();
    let name = "tiny.table.weight";
    assert_eq!(old.tensors().f32s(name).unwrap(), Tiny::new(1).table.as_vec());
    assert_eq!(TensorFile::open(&path).unwrap().tensors().f32s(name).unwrap(), Tiny::new(2).table.as_vec());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_missing_tensor_is_named() {
    let text = refusal_of(|tensors| drop(tensors.remove("tiny.h.0.self.key.weight")));
    assert_eq!(text, r#"FILE: tensor "tiny.h.0.self.key.weight" is missing"#);
}

#[test]
fn an_extra_tensor_is_named() {
    let text = refusal_of(|tensors| {
        tensors.insert("tiny.h.1.norm.weight".to_owned(), (Dtype::F32, vec![1], f32s(&[1.0])));
    });
    assert_eq!(text, r#"FILE: tensor "tiny.h.1.norm.weight" is not one of the module's"#);
}

#[test]
fn a_tensor_of_another_shape_is_named_with_both_shapes() {
    // As many values, other axes: what a file without the transpose would hold.
    let text = refusal_of(|tensors| tensors.get_mut("tiny.h.0.c_fc.weight").unwrap().1 = vec![6, 5]);
    assert_eq!(text, r#"FILE: tensor "tiny.h.0.c_fc.weight": expected shape [5, 6], got [6, 5]"#);
    let text = refusal_of(|tensors| tensors.get_mut("tiny.norm.weight").unwrap().1 = vec![1, 5]);
    assert_eq!(text, r#"FILE: tensor "tiny.norm.weight": expected shape [5], got [1, 5]"#);
}

#[test]
fn a_tensor_of_another_type_is_named_with_both_types() {
    let text = refusal_of(|tensors| {
        tensors.insert("tiny.norm.weight".to_owned(), (Dtype::I64, vec![5], vec![0; 40]));
    });
    assert_eq!(text, r#"FILE: tensor "tiny.norm.weight": expected type F32, F16 or BF16, got I64"#);
    let (_folder, path) = place();
    save(&Tiny::new(1), &NAMES, &notes(&[]), &path).unwrap();
    let file = TensorFile::open(&path).unwrap();
    let text = file.tensors().i64s("tiny.norm.weight").unwrap_err().to_string();
    let expected = r#"tensor "tiny.norm.weight": expected type I64, got F32"#;
    assert_eq!(text, format!("{}: {expected}", path.display()));
}

#[test]
fn a_value_that_is_not_finite_is_named_with_its_place() {
    for (value, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let text = refusal_of(|tensors| {
            let data = &mut tensors.get_mut("tiny.h.0.self.value.weight").unwrap().2;
            data[4 * 13..4 * 14].copy_from_slice(&value.to_le_bytes());
        });
        assert_eq!(
            text,
            format!(
                r#"FILE: tensor "tiny.h.0.self.value.weight": expected finite values, got {shown} at index 13"#
            )
        );
    }
}

#[test]
fn half_precision_loads_exactly_and_its_infinity_is_refused() {
    let (_folder, path) = place();
    save(&Tiny::new(1), &NAMES, &notes(&[]), &path).unwrap();
    let mut tensors = raw(&path);
    let mut put = |dtype, bits: [u16; 5]| {
        let bytes = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        tensors.insert("tiny.norm.weight".to_owned(), (dtype, vec![5], bytes));
        write_raw(&tensors, &path);
    };
    put(Dtype::F16, [0x3c00, 0xc000, 0x0001, 0x7bff, 0x8000]);
    let loaded = read(&Tiny::new(2), &path, &NAMES).unwrap();
    assert_eq!(loaded.gain.as_vec(), [1.0, -2.0, 2f32.powi(-24), 65504.0, -0.0]);
    put(Dtype::BF16, [0x3f80, 0xc000, 0x3e80, 0x4380, 0x8000]);
    let loaded = read(&Tiny::new(2), &path, &NAMES).unwrap();
    assert_eq!(loaded.gain.as_vec(), [1.0, -2.0, 0.25, 256.0, -0.0]);
    put(Dtype::F16, [0, 0, 0x7c00, 0, 0]);
    let expected = r#"FILE: tensor "tiny.norm.weight": expected finite values, got inf at index 2"#;
    assert_eq!(refusal(&path, &NAMES), expected);
    put(Dtype::BF16, [0, 0, 0, 0, 0xff80]);
    let expected = r#"FILE: tensor "tiny.norm.weight": expected finite values, got -inf at index 4"#;
    assert_eq!(refusal(&path, &NAMES), expected);
}

#[test]
fn an_alias_may_repeat_its_tensor_and_must_do_so_to_the_bit() {
    let (_folder, path) = place();
    let saved = Tiny::new(1);
    save(&saved, &NAMES, &notes(&[]), &path).unwrap();
    let mut tensors = raw(&path);
    assert!(!tensors.contains_key("head.weight"));
    let repeated = tensors["tiny.table.weight"].clone();
    tensors.insert("head.weight".to_owned(), repeated);
    write_raw(&tensors, &path);
    assert_eq!(bits(&read(&Tiny::new(2), &path, &NAMES).unwrap()), bits(&saved));

    let mut table = saved.table.as_vec();
    table[33] = 1.5;
    tensors.insert("head.weight".to_owned(), (Dtype::F32, vec![7, 5], f32s(&table)));
    table[33] = -0.25;
    tensors.insert("tiny.table.weight".to_owned(), (Dtype::F32, vec![7, 5], f32s(&table)));
    write_raw(&tensors, &path);
    assert_eq!(
        refusal(&path, &NAMES),
        r#"FILE: tensor "head.weight" repeats "tiny.table.weight": expected -0.25 at index 33, got 1.5"#
    );
    tensors.insert("head.weight".to_owned(), (Dtype::F32, vec![5, 7], f32s(&table)));
    write_raw(&tensors, &path);
    let expected = r#"FILE: tensor "head.weight": expected shape [7, 5], got [5, 7]"#;
    assert_eq!(refusal(&path, &NAMES), expected);
    tensors.remove("tiny.table.weight");
    write_raw(&tensors, &path);
    assert_eq!(refusal(&path, &NAMES), r#"FILE: tensor "tiny.table.weight" is missing"#);
}

#[test]
fn other_spellings_load_buffers_are_passed_over_and_two_spellings_of_one_name_are_refused() {
    fn spelling(name: &str) -> Option<Cow<'_, str>> {
        match name.strip_suffix(".gamma") {
            _ if name.ends_with(".mask") => None,
            Some(stem) => Some(Cow::Owned(format!("{stem}.weight"))),
            None => Some(Cow::Borrowed(name)),
        }
    }
    let naming = NAMES.with_spelling(spelling);
    let (_folder, path) = place();
    let saved = Tiny::new(1);
    save(&saved, &naming, &notes(&[]), &path).unwrap();
    let mut tensors = raw(&path);
    let gain = tensors.remove("tiny.norm.weight").unwrap();
    tensors.insert("tiny.norm.gamma".to_owned(), gain.clone());
    tensors.insert("tiny.h.0.mask".to_owned(), (Dtype::BOOL, vec![2], vec![1, 0]));
    write_raw(&tensors, &path);
    assert_eq!(bits(&read(&Tiny::new(2), &path, &naming).unwrap()), bits(&saved));

    let wrong = (Dtype::F32, vec![1], f32s(&[1.0]));
    tensors.insert("tiny.norm.gamma".to_owned(), wrong);
    write_raw(&tensors, &path);
    let expected = r#"FILE: tensor "tiny.norm.gamma": expected shape [5], got [1]"#;
    assert_eq!(refusal(&path, &naming), expected);
    tensors.insert("tiny.norm.weight".to_owned(), gain);
    write_raw(&tensors, &path);
    assert_eq!(refusal(&path, &naming), r#"FILE: the name "tiny.norm.weight" is used twice"#);
}

#[test]
fn a_subset_strips_its_prefix_leaves_names_out_and_names_tensors_in_full() {
    let (_folder, path) = place();
    let (first, second) = (Tiny::new(1), Tiny::new(2));
    let mut both = Raw::new();
    for (prefix, module) in [("one/", &first), ("two/", &second)] {
        save(module, &NAMES, &notes(&[]), &path).unwrap();
        both.extend(raw(&path).into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)));
    }
    both.insert("two/loss".to_owned(), (Dtype::F32, vec![1], f32s(&[0.5])));
    write_raw(&both, &path);
    let file = TensorFile::open(&path).unwrap();
    assert_eq!(bits(&load(&second, &file.subset("one/"), &NAMES).unwrap()), bits(&first));
    let two = file.subset("two/");
    let text = load(&first, &two, &NAMES).unwrap_err().to_string();
    let expected = r#"tensor "two/loss" is not one of the module's"#;
    assert_eq!(text, format!("{}: {expected}", path.display()));
    assert_eq!(bits(&load(&first, &two.without(&["loss"]), &NAMES).unwrap()), bits(&second));
    assert!(two.contains("loss") && !two.without(&["loss"]).contains("loss"));
    assert_eq!(two.without(&["loss"]).names(), FILE.map(|(name, _)| name));
    assert_eq!(two.subset("tiny.h.0.c_").names(), ["attn.bias", "attn.weight", "fc.weight"]);
    assert_eq!(two.subset("tiny.").shape("norm.weight").unwrap(), [5]);
    let text = load(&first, &file.subset("three/"), &NAMES).unwrap_err().to_string();
    let expected = r#"tensor "three/tiny.table.weight" is missing"#;
    assert_eq!(text, format!("{}: {expected}", path.display()));
}

#[test]
fn a_path_that_cannot_be_opened_is_named_with_the_reason() {
    let (folder, path) = place();
    let text = TensorFile::open(&path).unwrap_err().to_string();
    let reason = fs::read(&path).unwrap_err();
    assert_eq!(text, format!("{}: cannot open it: {reason}", path.display()));
    let text = TensorFile::open(folder.path()).unwrap_err().to_string();
    assert_eq!(text, format!("{}: cannot open it: it is not a regular file", folder.path().display()));
}

#[test]
fn a_file_cut_at_any_length_is_refused_with_both_lengths() {
    let (_folder, path) = place();
    save(&Tiny::new(1), &NAMES, &notes(&[]), &path).unwrap();
    let whole = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let needed = match length {
            0..8 => 8,
            _ if length < header => header,
            _ => whole.len(),
        };
        let expected = format!("FILE: cut off or overlong: expected {needed} bytes, got {length}");
        assert_eq!(refusal(&path, &NAMES), expected);
    }
    fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
    let (needed, length) = (whole.len(), whole.len() + 1);
    let expected = format!("FILE: cut off or overlong: expected {needed} bytes, got {length}");
    assert_eq!(refusal(&path, &NAMES), expected);
}

/// A file of this header and so many bytes of values.
fn write_header(path: &Path, header: &str, values: usize) {
    let length = header.len() as u64;
    fs::write(path, [&length.to_le_bytes()[..], header.as_bytes(), &vec![0; values]].concat()).unwrap();
}

#[test]
fn a_malformed_header_is_refused_in_one_line() {
    let (_folder, path) = place();
    let refused = |header: &str, values| {
        write_header(&path, header, values);
        refusal(&path, &NAMES)
    };
    assert_eq!(refused("", 0), "FILE: malformed header: EOF while parsing a value at line 1 column 0");
    assert_eq!(
        refused(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#, 12),
        "FILE: malformed header: invalid offset for tensor `a`"
    );
    assert_eq!(
        refused(r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8),
        "FILE: malformed header: invalid shape, data type, or offset for tensor"
    );
    assert_eq!(
        refused(r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}"#, 8),
        "FILE: malformed header: overflow computing buffer size from shape and/or element type"
    );
    assert!(
        refused(r#"{"a":{"dtype":"F\n32","shape":[2],"data_offsets":[0,8]}}"#, 8)
            .starts_with("FILE: malformed header: unknown variant `F?32`, expected one of `BOOL`")
    );
    let long = format!(r#"{{"a":{{"dtype":"{}","shape":[2],"data_offsets":[0,8]}}}}"#, "x".repeat(100_000));
    assert!(refused(&long, 8).len() < 300);
    assert!(refused(&"[".repeat(100_000), 0).starts_with("FILE: malformed header: "));
    fs::write(&path, [&1u64.to_le_bytes()[..], &[0xff]].concat()).unwrap();
    assert_eq!(
        refusal(&path, &NAMES),
        "FILE: malformed header: invalid utf-8 sequence of 1 bytes from index 0"
    );
}

#[test]
fn a_header_that_promises_more_than_memory_holds_is_refused_by_its_numbers() {
    let (_folder, path) = place();
    for length in [100_000_001, u64::MAX] {
        fs::write(&path, [length.to_le_bytes(), [b'{'; 8]].concat()).unwrap();
        let expected = format!("FILE: malformed header: expected at most 100000000 bytes, got {length}");
        assert_eq!(refusal(&path, &NAMES), expected);
    }
    fs::write(&path, [100_000_000u64.to_le_bytes(), [b'{'; 8]].concat()).unwrap();
    let expected = "FILE: cut off or overlong: expected 100000008 bytes, got 16";
    assert_eq!(refusal(&path, &NAMES), expected);

    // Nine tensors whose ends add up to the largest number there is.
    let mut tensors = Vec::new();
    let mut at = 0u64;
    for (name, size) in ('a'..='h').zip([u64::MAX >> 3; 8]).chain([('i', 7)]) {
        let end = at + size;
        tensors.push(format!(r#""{name}":{{"dtype":"U8","shape":[{size}],"data_offsets":[{at},{end}]}}"#));
        at = end;
    }
    assert_eq!(at, u64::MAX);
    write_header(&path, &format!("{{{}}}", tensors.join(",")), 0);
    let got = fs::metadata(&path).unwrap().len();
    let expected = format!("FILE: cut off or overlong: expected {} bytes, got {got}", u64::MAX);
    assert_eq!(refusal(&path, &NAMES), expected);
}

#[test]
fn a_damaged_header_never_panics_and_never_promises_more_values_than_the_file_has_bytes() {
    const FILES: u32 = 2000;
    let (_folder, path) = place();
    save(&Tiny::new(1), &NAMES, &notes(&[("a", "b")]), &path).unwrap();
    let whole = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(*whole.first_chunk().unwrap()) as usize;
    let module = Tiny::new(2);
    let before = bits(&module);
    let key = Key::new(7, "damage", 0);
    let (mut refused, mut opened) = (0, 0);
    for file in 0..FILES {
        let draw = |at: u32, limit: usize| bits_at(key, [file, at, 0, 0]) as usize % limit;
        let mut bytes = whole.clone();
        for change in 0..1 + draw(0, 4) as u32 {
            let at = draw(1 + 3 * change, header);
            // Half of the changes are digits and marks, which keep the header a header more often.
            bytes[at] = match draw(2 + 3 * change, 2) {
                0 => b"0123456789[]{},:\""[draw(3 + 3 * change, 17)],
                _ => draw(3 + 3 * change, 256) as u8,
            };
        }
        fs::write(&path, &bytes).unwrap();
        if let Ok(file) = TensorFile::open(&path) {
            opened += 1;
            let tensors = file.tensors();
            for name in tensors.names() {
                let values: usize = tensors.shape(&name).unwrap().iter().product();
                assert!(values <= whole.len());
                if let Ok(read) = tensors.f32s(&name) {
                    assert_eq!(read.len(), values);
                }
            }
        }
        refused += u32::from(read(&module, &path, &NAMES).is_err());
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    assert_eq!(bits(&module), before);
    // The loop reaches both sides of the check.
    assert!(refused > FILES / 2 && opened > FILES / 20, "{refused} refused, {opened} opened");
}

#[test]
fn a_save_that_fails_leaves_the_old_file_whole_and_nothing_beside_it() {
    let (folder, path) = place();
    save(&Tiny::new(1), &NAMES, &notes(&[]), &path).unwrap();
    let old = fs::read(&path).unwrap();
    let refused = |module: &Tiny, naming: &Naming| {
        let text = save(module, naming, &notes(&[]), &path).unwrap_err().to_string();
        assert_eq!(fs::read(&path).unwrap(), old);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        text.replace(&path.display().to_string(), "FILE")
    };

    let mut broken = Tiny::new(2);
    overwrite(&mut broken, 1, |i, value| if i == 27 { f32::NAN } else { value });
    assert_eq!(
        refused(&broken, &NAMES),
        r#"FILE: tensor "tiny.h.0.self.key.weight": expected finite values, got NaN at index 7"#
    );
    let module = Tiny::new(2);
    assert_eq!(
        refused(&module, &Naming::new(|_| FileLayout::AsIs)),
        r#"tensor "tiny.h.0.self.{query,key,value}.weight": the layout as is makes 1 file tensors, the name stands for 3"#
    );
    assert_eq!(
        refused(&module, &Naming::new(|_| FileLayout::Split)),
        r#"tensor "tiny.table.weight": the layout split makes 7 file tensors, the name stands for 1"#
    );
    fn turn_the_norm(name: &ParamName) -> FileLayout {
        if name.to_string().contains("norm") { FileLayout::Transposed } else { layout(name) }
    }
    assert_eq!(
        refused(&module, &Naming::new(turn_the_norm)),
        r#"tensor "tiny.norm.weight": the layout transposed needs at least 2 axes, got shape [5]"#
    );
}

#[test]
fn a_save_to_a_place_that_cannot_be_written_says_why_and_leaves_it_as_it_was() {
    let (folder, path) = place();
    let module = Tiny::new(1);
    let nowhere = folder.path().join("no/such/folder/model.safetensors");
    let text = save(&module, &NAMES, &notes(&[]), &nowhere).unwrap_err().to_string();
    let start = format!("{}: cannot create a temporary file beside it: ", nowhere.display());
    assert!(text.starts_with(&start), "{text}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    fs::create_dir(&path).unwrap();
    fs::write(path.join("inside"), "kept").unwrap();
    let text = save(&module, &NAMES, &notes(&[]), &path).unwrap_err().to_string();
    assert!(text.starts_with(&format!("{}: cannot put it in place: ", path.display())), "{text}");
    assert_eq!(fs::read_to_string(path.join("inside")).unwrap(), "kept");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn two_tensors_of_one_name_and_the_name_of_the_notes_are_refused() {
    #[derive(Clone)]
    struct Named(&'static str, Param<(Hidden,), Cpu>);
    impl Module<Cpu> for Named {
        fn walk<V: Visitor<Cpu>>(&mut self, at: &ParamName, visitor: &mut V) -> Result<()> {
            visitor.visit(&at.join("a"), Role::gain(), &mut self.1)?;
            visitor.visit(&at.join(self.0), Role::gain(), &mut self.1)
        }
    }
    let (_folder, path) = place();
    let naming = Naming::new(|_| FileLayout::AsIs);
    let save = |name| save(&Named(name, Tiny::new(1).gain), &naming, &notes(&[]), &path);
    assert_eq!(save("b"), Ok(()));
    for name in ["a", "__metadata__"] {
        let expected = format!("{}: the name {name:?} is used twice", path.display());
        assert_eq!(save(name).unwrap_err().to_string(), expected);
    }
}

#[cfg(unix)]
#[test]
fn a_saved_file_has_the_rights_of_an_ordinary_one() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, path) = place();
    save(&Tiny::new(1), &NAMES, &notes(&[]), &path).unwrap();
    let ordinary = folder.path().join("ordinary");
    fs::write(&ordinary, "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&ordinary));
}

#[test]
fn the_golden_files_open_and_describe_themselves() {
    let mut cases = 0;
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "safetensors") {
            continue;
        }
        cases += 1;
        let file = TensorFile::open(&path).unwrap();
        let dims: serde_json::Value = serde_json::from_str(&file.metadata()["dims"]).unwrap();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        assert_eq!(stem, format!("{}_{}", dims["family"].as_str().unwrap(), dims["case"].as_str().unwrap()));

        let table = match dims["family"].as_str().unwrap() {
            "bert" => "bert.embeddings.word_embeddings.weight",
            _ => "transformer.wte.weight",
        };
        let size = |value: &serde_json::Value| value.as_u64().unwrap() as usize;
        for (model, sizes) in [("small/", "old"), ("grown/", "new")] {
            let tensors = file.subset(model);
            assert_eq!(tensors.shape(table).unwrap(), [size(&dims["vocab"]), size(&dims[sizes]["hidden"])]);
            assert!(tensors.f32s(table).unwrap().iter().all(|value| value.is_finite()));
        }
        let ids = file.subset("input/").i64s("ids").unwrap();
        assert!(ids.iter().all(|&id| (id as usize) < size(&dims["vocab"])));
        assert_eq!(file.subset("small/").f32s("loss").unwrap().len(), 1);
    }
    assert_eq!(cases, 10);
}

/// The bound on devices is the core's; nothing here asks for the Cpu.
#[test]
fn saving_and_loading_compile_for_every_device() {
    fn _generic<D: Backend, M: Module<D>>(module: &M, path: &Path) -> hf::Result<M> {
        save(module, &NAMES, &BTreeMap::new(), path)?;
        load(module, &TensorFile::open(path)?.tensors(), &NAMES)
    }
}
