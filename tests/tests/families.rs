//! What every family of the registry must have: a place in the tests' list, a round trip through files in the same bits,
//! the cost that its parameters say, golden cases. Strict growth and resume are in `strict.rs` and `resume.rs`.

use dfdx::tensor::Cpu;
use msg_core::ops::Precision;
use msg_models::{
    Sizes,
    hf::{self, TensorFile},
    sizes,
};
use msg_tests::{
    every_family,
    families::{Family, Spec},
};
use msg_train::families::registry;
use std::{collections::BTreeMap, fs, path::Path};

const SPEC: Spec = Spec {
    vocab: 17,
    head_dim: 3,
    sizes: sizes! { layers: 2, hidden: 8, ffn: 10, heads: 2 },
    batch: (2, 5),
    seed: 5,
    precision: Precision::F32,
};

#[test]
fn every_family_of_the_registry_is_in_the_tests_list() {
    let mut names = Vec::new();
    every_family!(Cpu, M => names.push(<M as Family<Cpu>>::NAME));
    assert_eq!(names, registry::names(), "every_family! in tests/src/families.rs");
}

fn comes_back<M: Family<Cpu>>() {
    let name = <M as Family<Cpu>>::NAME;
    let device = Cpu::default();
    let (model, batch) = (M::small(&device, &SPEC), M::host(&SPEC));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    hf::save(&model, &M::NAMING, &BTreeMap::new(), &path).unwrap();
    let file = TensorFile::open(&path).unwrap();
    let config = model.config_now();
    hf::check_outline(&file.tensors(), &M::NAMING, &[], M::outline(&config)).unwrap();

    let written = serde_json::to_string(&config).unwrap();
    let config = serde_json::from_str::<M::Config>(&written).unwrap();
    assert_eq!(serde_json::to_string(&config).unwrap(), written, "{name}");
    let other = M::build(&device, config, msg_core::growth::Init { seed: 9, std: 0.1 }).unwrap();
    let bits = |model: &M| {
        let outputs = model.outputs_at(&batch, 0).unwrap();
        outputs.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    assert_ne!(bits(&model), bits(&other), "{name}");
    let back = hf::load(&other, &file.tensors(), &M::NAMING).unwrap();
    assert_eq!(bits(&model), bits(&back), "{name}");
}

#[test]
fn every_family_comes_back_from_a_file_in_the_same_bits() {
    every_family!(Cpu, M => comes_back::<M>());
}

fn costs_what_it_has<M: Family<Cpu>>() {
    let name = <M as Family<Cpu>>::NAME;
    let model = M::small(&Cpu::default(), &SPEC);
    let cost = M::cost(&model.config_now());
    let parameters = |sizes: Sizes| u128::from(cost.parameters(sizes));
    assert_eq!(parameters(SPEC.sizes), model.num_params() as u128, "{name}");
    let larger = sizes! { layers: 5, hidden: 13, ffn: 29, heads: 4 };
    assert_eq!(parameters(larger), model.params_at(larger), "{name}");
}

#[test]
fn the_cost_of_every_family_counts_its_parameters() {
    every_family!(Cpu, M => costs_what_it_has::<M>());
}

/// The names of golden files begin with transformers' name of the family, or ours where it has none.
#[test]
fn every_family_has_golden_cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let files: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".safetensors"))
        .collect();
    let has = |family: &str| files.iter().any(|file| file.starts_with(&format!("{family}_")));
    every_family!(Cpu, M => {
        let family = <M as msg_train::families::family::Family<Cpu>>::MODEL_TYPE;
        let family = family.unwrap_or(<M as Family<Cpu>>::NAME);
        assert!(has(family), "tests/fixtures/{family}_*.safetensors");
    });
}
