//! Whatever is wrong: one line, exit code 2, and nothing is made.

use super::*;

/// A changed copy of a published folder.
fn changed(place: &Place, name: &str, change: impl FnOnce(&Path)) -> String {
    runs::copy_folder(&place.path("there"), &place.path(name));
    change(&place.path(name));
    name.to_owned()
}

fn set(folder: &Path, key: &str, value: serde_json::Value) {
    let path = folder.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config[key] = value;
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn folders_that_are_not_supported_or_damaged_are_refused_by_name() {
    let place = Place::new();
    published::<Gpt<Cpu>>(&place, "there");
    place.write("taken/file", "mine");
    let import = |folder: &str, parts: &[&str]| place.refused(&["import", folder, "--out", "never"], parts);
    import("nowhere", &["nowhere: expected a published folder with config.json, got none"]);
    for (key, value, part) in [
        (
            "activation_function",
            "relu".into(),
            "activation_function: expected gelu_new or gelu_pytorch_tanh or gelu, got relu",
        ),
        ("add_cross_attention", true.into(), "add_cross_attention: expected false, got true"),
        ("n_head", 4.into(), "n_head: expected a divisor of 6, n_embd, got 4"),
        ("n_embd", 12.into(), "\"wte.weight\""),
        ("n_layer", 3.into(), "h.2."),
        ("vocab_size", 3.into(), "wte"),
        ("sliding_window", 128.into(), "sliding_window: expected no key that this importer does not know"),
        ("model_type", "llama".into(), "model_type: expected gpt2 or bert, got llama"),
        ("n_inner", "many".into(), "config.json: invalid type"),
        ("odd\nkey", 1.into(), "odd?key: expected no key"),
        ("model_type", "odd\nkind".into(), "model_type: expected gpt2 or bert, got odd?kind"),
    ] {
        let folder = changed(&place, &format!("with-{key}"), |folder| set(folder, key, value));
        let part = part.trim_matches('"').replace("wte.weight", "wte");
        import(&folder, &[&part]);
    }
    let weights = "model.safetensors";
    let cut = changed(&place, "cut", |folder| {
        let bytes = fs::read(folder.join(weights)).unwrap();
        fs::write(folder.join(weights), &bytes[..bytes.len() - 5]).unwrap();
    });
    import(&cut, &["cut/model.safetensors: cut off or overlong"]);
    let pickle = changed(&place, "pickle", |folder| {
        fs::rename(folder.join(weights), folder.join("pytorch_model.bin")).unwrap()
    });
    import(&pickle, &["expected model.safetensors or model.safetensors.index.json, got pytorch_model.bin"]);
    let nothing = changed(&place, "nothing", |folder| fs::write(folder.join("config.json"), "{").unwrap());
    import(&nothing, &["nothing/config.json: EOF"]);
    let index = changed(&place, "index", |folder| {
        fs::remove_file(folder.join(weights)).unwrap();
        let text = r#"{"weight_map": {"a": "../there/model.safetensors"}}"#;
        fs::write(folder.join("model.safetensors.index.json"), text).unwrap();
    });
    import(&index, &["expected names of .safetensors files, got \"../there/model.safetensors\""]);
    let shards = |changed: &Path| {
        let model = Gpt::<Cpu>::tiny();
        fs::remove_file(changed.join(weights)).unwrap();
        publish(&model, changed, &|_| StoredType::F32, &|name| Some(name.to_owned()), 300);
    };
    let lost = changed(&place, "lost", |folder| {
        shards(folder);
        let second =
            names(folder).into_iter().find(|path| path.to_string_lossy().contains("model-00002-of-"));
        fs::remove_file(second.unwrap()).unwrap();
    });
    import(&lost, &["lost/model-00002-of-", "cannot open it: No such file"]);
    let swapped = changed(&place, "swapped", |folder| {
        shards(folder);
        let path = folder.join("model.safetensors.index.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replace("model-00002", "model-00003")).unwrap();
    });
    import(
        &swapped,
        &["swapped/model.safetensors.index.json: says that model-00003-of-", "which it does not"],
    );
    let spelling =
        changed(&place, "spelling", |folder| fs::write(folder.join("tokenizer.json"), "{\"a\": 1}").unwrap());
    import(&spelling, &["spelling/tokenizer.json: expected a tokenizer.json, got"]);
    let special = changed(&place, "special", |folder| {
        fs::write(folder.join("vocab.json"), r#"{"a": 0}"#).unwrap();
    });
    import(&special, &["special/vocab.json: expected one of the special tokens <|endoftext|>"]);
    for words in [
        &["import", "there", "--out", "taken"][..],
        &["grow", "--from", "there", "--to", "ffn=9", "--out", "taken"],
    ] {
        place.refused(words, &["out: expected a folder that is not there yet, or is empty, got taken"]);
    }
    assert_eq!(fs::read_to_string(place.path("taken/file")).unwrap(), "mine");
}

#[test]
fn options_that_cannot_be_are_refused_in_one_line() {
    let place = Place::new();
    published::<Bert<Cpu>>(&place, "there");
    place.write("empty.txt", "");
    let grow = |words: &[&str], parts: &[&str]| {
        let all = [&["grow", "--from", "there", "--out", "never"], words].concat();
        place.refused(&all, parts);
    };
    grow(&["--to", "hiden=9"], &["--to: unknown key `hiden`: did you mean `hidden`?"]);
    grow(&["--to", "ffn=3"], &["--to: ffn: expected at least 8, the present size, got 3"]);
    let immense = "hidden=16777216,layers=16777216,heads=16777216,ffn=16777216";
    grow(&["--to", immense], &["to: expected sizes that fit into memory, got ", " parameters"]);
    grow(&["--to", "ffn=9", "--ramp", "0"], &["ramp: expected at least 1 step"]);
    grow(&["--to", "ffn=9", "--ids", "1,x"], &["ids: expected token ids separated by commas, got \"x\""]);
    grow(
        &["--to", "ffn=9", "--ids", "1,2,3,4,5,6,7,8,9"],
        &["ids: expected 1 to 8 ids, the model's positions, got 9"],
    );
    grow(&["--to", "ffn=9", "--ids", "99"], &["99 at 0 is out of range: the table has 10 entries"]);
    grow(&["--to", "ffn=9", "--text", "none.txt"], &["none.txt: No such file"]);
    grow(&["--to", "ffn=9", "--text", "empty.txt"], &["empty.txt: expected text, got none"]);
    grow(&["--to", "ffn=9", "--text", "empty.txt", "--ids", "1"], &["cannot be used with"]);
    grow(&["--to", "ffn=9", "--units", "ones"], &["invalid value 'ones'"]);
    grow(&["--to", "ffn=9", "--exact", "--ramp", "5"], &["cannot be used with"]);
    for (to, units, part) in [
        ("hidden=9", "normal", "hidden: expected a whole multiple of 6 for a post-norm model, got 9"),
        ("heads=4", "normal", "heads: expected a divisor of 6"),
        ("heads=6", "normal", "grow hidden with heads"),
        ("ffn=9", "zero", "units: expected normal, copy or matched_std, got zero"),
    ] {
        grow(&["--to", to, "--units", units, "--exact"], &[part]);
    }
    place.refused(
        &["grow", "--from", "empty.txt", "--to", "ffn=9", "--out", "never"],
        &["expected a checkpoint, a run's folder"],
    );
    place.refused(&["export", "there", "never"], &["got a published folder: `msg import` makes"]);
    place.refused(&["inspect", "nowhere"], &["nowhere: expected a checkpoint, a run, a published folder"]);
    place.refused(&["inspect", "empty.txt"], &["empty.txt: cut off or overlong: expected 8 bytes, got 0"]);
    place.done(&["import", "there", "--out", "here"]);
    place.refused(&["export", "here", "never", "--dtype", "f8"], &["expected f32, f16 or bf16, got \"f8\""]);
    place
        .refused(&["export", "here", "never", "--max-shard-size", "0"], &["expected a number of at least 1"]);
    place.refused(
        &["convert", "here", "--stage", "2", "--out", "never"],
        &["stage: expected none: the model has no run"],
    );
    // Without a tokenizer ids serve, text does not.
    fs::remove_file(place.path("there/vocab.txt")).unwrap();
    grow(&["--to", "ffn=9", "--text", "empty.txt"], &["text: expected a model with a tokenizer"]);
    place.done(&["import", "there", "--out", "dumb"]);
    place.refused(
        &["generate", "dumb", "--prompt", "[MASK]"],
        &["expected a checkpoint with a tokenizer, got none"],
    );
}

#[test]
fn a_damaged_checkpoint_is_refused_and_inspected() {
    let place = Place::new();
    published::<Gpt<Cpu>>(&place, "there");
    place.done(&["import", "there", "--out", "here"]);
    let path = place.path("here/state.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"step\": 0", "\"step\": 1")).unwrap();
    for words in
        [&["export", "here", "never"][..], &["grow", "--from", "here", "--to", "ffn=9", "--out", "never"]]
    {
        place.refused(words, &["here: state.json is damaged: expected hash"]);
    }
    assert!(place.done(&["inspect", "here"]).contains("file    state.json: "));
    fs::write(&path, text.replace("\"layers\": 2", "\"layers\": 14294967296")).unwrap();
    assert!(place.done(&["inspect", "here"]).contains("sizes   14294967296 layers"));
    assert!(place.done(&["inspect", "here"]).contains("DAMAGED: checkpoint.json says "));
}
