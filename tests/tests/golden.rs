//! Golden cases of both families, computed in float64 by an independent implementation.
//!
//! The folder is that of the environment variable MSG_FIXTURES where it is set, else tests/fixtures;
//! every file found there runs, whatever its sizes. Files hold `small/`, `grown/`, `input/`, `P/` for P
//! in small, m0, m0.3, m1, and `grad/` at m = 0.3; the metadata `dims` gives family, case and sizes.

use dfdx::tensor::{Cpu, Gradients, OwnedTape};

use msg_core::{
    Backend, Result,
    axis::NamedShape,
    growth::{Init, Masked, Ramp},
    params::{Module, Param, ParamName, Role, TensorMap, Visitor},
};
use msg_models::{
    GrowthSpec, Masks, Sizes,
    bert::Bert,
    gpt::Gpt,
    hf::{self, Subset, TensorFile},
};
use msg_tests::{entries::visit_entries, families::Family};
use msg_train::families::family::HostOf;
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Dims {
    family: String,
    case: String,
    vocab: usize,
    positions: usize,
    head_dim: usize,
    old: Sizes,
    new: Sizes,
}

/// How far results may be from the golden ones.
const LOGITS: f32 = 2e-5;
const GRADIENTS: f32 = 1e-4;

/// m = step / 10 in the steps 0, 3 and 10.
const RAMP: Ramp = Ramp { start: 0, length: 10 };

fn files() -> Vec<PathBuf> {
    let given = std::env::var_os("MSG_FIXTURES").map(PathBuf::from);
    let folder = given.clone().unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures").into());
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect();
    files.sort();
    assert!(!files.is_empty(), "no golden files in {}", folder.display());
    assert!(given.is_some() || files.len() == 10, "{} holds {} files", folder.display(), files.len());
    files
}

/// The number of parameters by the architectures' definitions, not by any walk.
fn count(dims: &Dims, sizes: Sizes) -> usize {
    let Sizes { layers, hidden: h, ffn: f, heads, .. } = sizes;
    let (inner, norm) = (heads * dims.head_dim, 2 * h);
    let linear = |inputs, outputs| inputs * outputs + outputs;
    let block = 3 * linear(h, inner) + linear(inner, h) + linear(h, f) + linear(f, h) + 2 * norm;
    let tables = (dims.vocab + dims.positions) * h;
    match dims.family.as_str() {
        "gpt2" => tables + layers * block + norm,
        _ => tables + 2 * h + norm + layers * block + 2 * linear(h, h) + norm + dims.vocab + linear(h, 2),
    }
}

fn assert_close(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}: number of values");
    for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
        let close = (got - expected).abs() <= tolerance;
        assert!(close, "{what}: value {at}: expected {expected}, got {got} (tolerance {tolerance:e})");
    }
}

/// Holds logits, next-sentence logits and loss against those under `part/`.
fn outputs_match<D: Backend, M: Family<D>>(
    model: &M,
    batch: &HostOf<D, M>,
    masks: &Masks<D>,
    file: &TensorFile,
    part: &str,
) {
    let golden = file.subset(&format!("{part}/"));
    let mut expected = golden.f32s("logits").unwrap();
    if golden.contains("nsp_logits") {
        expected.extend(golden.f32s("nsp_logits").unwrap());
    }
    let what = format!("{} {part}", file.path().display());
    assert_close(
        &format!("{what} logits"),
        &Family::outputs(model, batch, masks).unwrap(),
        &expected,
        LOGITS,
    );
    let loss = model.mean_loss(batch, masks, dfdx::tensor::NoneTape).unwrap().as_vec();
    assert_close(&format!("{what} loss"), &loss, &golden.f32s("loss").unwrap(), LOGITS);
}

/// Puts a parameter's gradient in its place.
struct ToGradients<'a, D: Backend>(&'a mut Gradients<f32, D>);

impl<D: Backend> Visitor<D> for ToGradients<'_, D> {
    fn visit<S: NamedShape>(&mut self, _: &ParamName, _: Role, tensor: &mut Param<S, D>) -> Result<()> {
        self.0.get_or_alloc_mut(tensor).unwrap();
        *tensor = self.0.get(tensor);
        Ok(())
    }
}

fn values(tensors: &Subset<'_>) -> BTreeMap<String, Vec<f32>> {
    tensors.names().into_iter().map(|name| (name.clone(), tensors.f32s(&name).unwrap())).collect()
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()))
}

/// All gradients at m = 0.3, in the file's names and layouts.
fn gradients_match<D: Backend, M: Family<D>>(model: &M, batch: &HostOf<D, M>, file: &TensorFile) {
    let tape = OwnedTape::<f32, D>::default();
    let loss = model.mean_loss(batch, &model.masks(3).unwrap(), tape).unwrap();
    let mut gradients = dfdx::tensor_ops::Backward::backward(loss);
    let mut as_model = model.clone();
    as_model.walk(&ParamName::root(), &mut ToGradients(&mut gradients)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gradients.safetensors");
    hf::save(&as_model, &M::NAMING, &BTreeMap::new(), &path).unwrap();
    let saved = TensorFile::open(&path).unwrap();
    let (got, expected) = (values(&saved.tensors()), values(&file.subset("grad/")));
    assert_eq!(got.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    let overall = expected.values().map(|g| largest(g)).fold(0.0, f32::max);
    for (name, expected) in &expected {
        let tolerance = GRADIENTS * largest(expected).max(1e-3 * overall);
        assert_close(&format!("{} grad {name}", file.path().display()), &got[name], expected, tolerance);
    }
}

/// The tensor values of a model by walk name.
fn tensor_values<D: Backend, M: Module<D>>(model: &M) -> BTreeMap<String, Vec<f32>> {
    struct Values(BTreeMap<String, Vec<f32>>);
    impl<D: Backend> Visitor<D> for Values {
        fn visit<S: NamedShape>(
            &mut self,
            name: &ParamName,
            _: Role,
            tensor: &mut Param<S, D>,
        ) -> Result<()> {
            assert!(self.0.insert(name.to_string(), tensor.as_vec()).is_none(), "{name} twice");
            Ok(())
        }
    }
    let mut values = Values(BTreeMap::new());
    model.inspect(&mut values).unwrap();
    values.0
}

fn assert_same_bits(got: &BTreeMap<String, Vec<f32>>, expected: &BTreeMap<String, Vec<f32>>) {
    assert_eq!(got.keys().collect::<BTreeSet<_>>(), expected.keys().collect::<BTreeSet<_>>());
    for (name, expected) in expected {
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&got[name]), bits(expected), "{name}");
    }
}

/// Loads the tensors of one part of the file into a model of these sizes.
fn load<D: Backend, M: Family<D>>(device: &D, file: &TensorFile, part: &str, dims: &Dims, sizes: Sizes) -> M {
    let table = (dims.vocab, dims.positions);
    let config = M::golden_config(table, dims.head_dim, sizes);
    let empty = M::build(device, config, Init::default()).unwrap();
    assert_eq!(empty.num_params(), count(dims, sizes), "parameters of {part}");
    let results = ["logits", "loss", "nsp_logits"];
    let tensors = file.subset(&format!("{part}/")).without(&results);
    hf::load(&empty, &tensors, &M::NAMING).unwrap_or_else(|error| panic!("{error}"))
}

fn golden_case<D: Backend, M: Family<D>>(device: &D, file: &TensorFile, dims: &Dims) {
    let small: M = load(device, file, "small", dims, dims.old);
    let target: M = load(device, file, "grown", dims, dims.new);
    let batch = M::golden_host(&file.subset("input/"));
    outputs_match(&small, &batch, &small.masks(0).unwrap(), file, "small");

    // Old layers come first in the files; every new layer is fresh there.
    let growth = small.growth_to(dims.new, &GrowthSpec::default()).unwrap();
    let mut grown = small.grown(&growth, &Masked::default(), RAMP).unwrap();
    let old: TensorMap<D> = small.tensors();
    let goal = tensor_values(&target);
    let census =
        visit_entries(&old, &mut grown, &growth, |name, at| Some(goal[&name.to_string()][at])).unwrap();
    let (old_count, new_count) = (count(dims, dims.old), count(dims, dims.new));
    assert_eq!((census.changed, census.inherited, census.new), (0, old_count, new_count - old_count));
    assert_same_bits(&tensor_values(&grown), &goal);

    for (step, part) in [(0, "m0"), (3, "m0.3"), (10, "m1")] {
        outputs_match(&grown, &batch, &grown.masks_kept(step).unwrap(), file, part);
    }
    assert!(grown.clone().retire_ramps(10));
    gradients_match(&grown, &batch, file);
}

fn golden_files<D: Backend>(device: &D) {
    for path in files() {
        let file = TensorFile::open(&path).unwrap();
        let dims: Dims = serde_json::from_str(&file.metadata()["dims"]).unwrap();
        println!("{} ({} {})", path.display(), dims.family, dims.case);
        match dims.family.as_str() {
            "gpt2" => golden_case::<D, Gpt<D>>(device, &file, &dims),
            "bert" => golden_case::<D, Bert<D>>(device, &file, &dims),
            other => panic!("{}: unknown family {other}", path.display()),
        }
    }
}

#[test]
fn golden_on_cpu() {
    golden_files(&Cpu::default());
}

#[cfg(all(feature = "cuda", not(feature = "ci-check")))]
#[test]
fn golden_cuda() {
    golden_files(&msg_core::device::open_cuda(0).unwrap());
}
