//! What is imported and exported again is the same in every byte, however it was published.

use super::*;
use msg_models::hf::TensorFile;
use msg_train::families::family::Family;

/// Tensors of a folder by name: type and bytes.
fn raw(folder: &Path) -> BTreeMap<String, (String, Vec<u8>)> {
    let file = TensorFile::open_folder(folder).unwrap();
    let tensors = file.tensors();
    let one = |name: String| {
        let (of, bytes) = tensors.raw(&name).unwrap();
        (name, (of, bytes.to_vec()))
    };
    tensors.names().into_iter().map(one).collect()
}

fn bare<M: Publishable>(name: &str) -> Option<String> {
    name.strip_prefix(M::NAMING.prefix).map(str::to_owned)
}

fn whole_round<M: Publishable>(ways: &[(&str, &dyn Fn(&str) -> Option<String>)]) {
    let mixed = |name: &str| StoredType::ALL[name.len() % StoredType::ALL.len()];
    for (way, named) in ways {
        for (largest, size) in [(u64::MAX, "5GB"), (500, "500")] {
            let place = Place::new();
            publish(&M::tiny(), &place.path("there"), &mixed, named, largest);
            let told = place.done(&["import", "there", "--out", "here"]);
            assert_eq!(told.matches("without a tokenizer").count(), 1, "{told}");
            place.done(&["export", "here", "back", "--max-shard-size", size]);
            let (there, back) = (raw(&place.path("there")), raw(&place.path("back")));
            assert!(!there.is_empty() && there == back, "{} {way} {size}", M::NAME);
            assert_eq!(place.path("back/model.safetensors.index.json").exists(), largest < u64::MAX);
            // Types that were asked for are what is written.
            place.done(&["export", "here", "half", "--dtype", "bf16"]);
            assert!(raw(&place.path("half")).values().all(|(of, _)| of == "BF16"));
            let config: serde_json::Value =
                serde_json::from_slice(&fs::read(place.path("half/config.json")).unwrap()).unwrap();
            assert_eq!(config["dtype"], "bfloat16");
        }
    }
}

#[test]
fn a_gpt_comes_back_in_the_same_bytes_with_and_without_its_prefix() {
    whole_round::<Gpt<Cpu>>(&[("whole", &|name| Some(name.to_owned())), ("bare", &bare::<Gpt<Cpu>>)]);
}

#[test]
fn a_bert_comes_back_in_the_same_bytes_with_the_heads_that_it_had() {
    let masked = |name: &str| {
        let lacks = ["bert.pooler.", "cls.seq_relationship."];
        (!lacks.iter().any(|group| name.starts_with(group))).then(|| name.to_owned())
    };
    whole_round::<Bert<Cpu>>(&[
        ("whole", &|name| Some(name.to_owned())),
        ("masked", &masked),
        ("bare", &bare::<Bert<Cpu>>),
    ]);
}

/// A family that transformers knows and that is not here wants a test like those above.
#[test]
fn every_family_that_transformers_knows_makes_the_round() {
    let known = [<Gpt<Cpu> as Family<Cpu>>::MODEL_TYPE, <Bert<Cpu> as Family<Cpu>>::MODEL_TYPE];
    assert_eq!(known.map(Option::unwrap).to_vec(), msg_train::families::registry::model_types());
}

#[test]
fn configuration_and_tokenizer_come_back_and_what_is_not_ours_is_kept() {
    let place = Place::new();
    published::<Gpt<Cpu>>(&place, "there");
    let mut config: serde_json::Value =
        serde_json::from_slice(&fs::read(place.path("there/config.json")).unwrap()).unwrap();
    config["task_specific_params"] = serde_json::json!({"text-generation": {"max_length": 50}});
    config["resid_pdrop"] = 0.25.into();
    place.write("there/config.json", config.to_string());
    place.write("there/generation_config.json", r#"{"eos_token_id": 5, "top_k": 7}"#);
    let told = place.done(&["import", "there", "--out", "here"]);
    assert!(told.contains("dropout 0.25, as resid_pdrop"), "{told}");
    place.done(&["export", "here", "back"]);
    let read = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(place.path(name)).unwrap()).unwrap()
    };
    let mut back = read("back/config.json");
    assert_eq!(back["dtype"], "float32");
    back.as_object_mut().unwrap().remove("dtype");
    assert_eq!(back, config);
    assert_eq!(read("back/generation_config.json"), read("there/generation_config.json"));
    assert_eq!(read("back/tokenizer.json"), read("here/tokenizer.json"));
    let card = fs::read_to_string(place.path("back/README.md")).unwrap();
    assert!(card.contains("- `import` of there (BLAKE3 "), "{card}");
    // A model without a run can be looked at and used.
    assert!(place.done(&["inspect", "here"]).contains("as marked"));
    assert!(place.done(&["generate", "here", "--prompt", "ab", "--tokens", "2"]).starts_with("ab"));
    assert!(place.done(&["verify", "here"]).contains("holds to the bit"));
    place.refused(&["eval", "here"], &["data: expected a folder of prepared data"]);
}

#[test]
fn a_run_comes_out_with_a_card_of_its_schedule_figures_and_receipts() {
    let place = Place::new();
    runs::corpus(place.0.path());
    for family in ["gpt", "bert"] {
        let config = runs::config(place.0.path(), family, family);
        runs::run(config, msg_train::run::Resume::Never).unwrap_or_else(|error| panic!("{error}"));
        let out = format!("{family}-out");
        place.done(&["export", family, &out]);
        let card = fs::read_to_string(place.path(&out).join("README.md")).unwrap();
        for part in [
            "## Schedule",
            "## Figures",
            "## Receipts",
            "perplexity",
            "preserved",
            "after step 12, in stage 3",
        ] {
            assert!(card.contains(part), "{part}: {card}");
        }
        let files = runs::bytes(&place.path(&out));
        let last = runs::bytes(&place.path(family).join("final"));
        for name in ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"] {
            assert_eq!(files[Path::new(name)], last[Path::new(name)], "{name}");
        }
        assert_eq!(files.contains_key(Path::new("generation_config.json")), family == "gpt");
        assert_eq!(raw(&place.path(&out)), raw(&place.path(family).join("final")));
        // What was exported is imported again.
        place.done(&["import", &out, "--out", &format!("{family}-in")]);
        // Inside a ramp of the residual stream there is nothing that transformers could load.
        let inside = format!("{family}/{}", runs::checkpoint(6));
        for words in [&["export", &inside, "never"][..], &["export", &inside, "never", "--fold"]] {
            place.refused(words, &["a ramp has not ended", "masks of the residual stream cannot be folded"]);
        }
        assert!(place.done(&["inspect", &inside]).contains("mask    Hidden: 3 units from 6 at 0.33333334"));
    }
}
