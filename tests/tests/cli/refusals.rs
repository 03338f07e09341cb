//! Whatever is wrong with the input: one line, exit code 2, and nothing that was saved is lost.

use super::*;

/// A mistake on the command line or in the configuration, and what the refusal must say.
type Mistake<'a> = (&'a [&'a str], &'a [&'a str]);

fn refused(place: &Place, mistakes: &[Mistake<'_>]) {
    for (words, parts) in mistakes {
        assert_refused(&place.msg(words), parts, true);
    }
}

/// `train tiny.toml` with changes.
fn with<'a>(changes: &[&'a str]) -> Vec<&'a str> {
    let sets = changes.iter().flat_map(|change| ["--set", change]);
    ["train", "tiny.toml"].into_iter().chain(sets).collect()
}

#[test]
fn mistakes_on_the_command_line_take_one_line() {
    let place = Place::new("gpt", 1);
    refused(
        &place,
        &[
            (&["trian", "tiny.toml"], &["unrecognized subcommand 'trian'", "'train'"]),
            (&["train"], &["<CONFIG>"]),
            (&["train", "tiny.toml", "--resum", "auto"], &["unexpected argument '--resum'", "'--resume'"]),
            (&["train", "tiny.toml", "--resume", "yes"], &["invalid value 'yes'", "auto"]),
            (
                &["train", "tiny.toml", "--device", "cuda:x"],
                &["expected cpu, cuda or cuda:N, got \"cuda:x\""],
            ),
            (
                &["train", "tiny.toml", "--device", "cuda:99999999999999999999"],
                &["expected cpu, cuda or cuda:N"],
            ),
            (&["train", "tiny.toml", "--device", "gpu"], &["expected cpu, cuda or cuda:N, got \"gpu\""]),
            (&["train", "none.toml"], &["msg: none.toml: No such file or directory"]),
            (&["plan", "text"], &["msg: text: "]),
            (&["report", "none"], &["msg: none"]),
            (&["report", "text"], &["msg: text"]),
        ],
    );
    assert_eq!(place.msg(&[]).status.code(), Some(2));
    for words in [&["--help"][..], &["--version"], &["train", "--help"]] {
        assert!(place.done(words).stderr.is_empty());
    }
    #[cfg(not(feature = "cuda"))]
    for device in ["cuda", "cuda:1"] {
        let output = place.msg(&["train", "tiny.toml", "--device", device]);
        assert_refused(&output, &["cuda"], false);
    }
}

#[test]
fn mistakes_in_the_configuration_take_one_line_and_name_the_key() {
    let place = Place::new("gpt", 1);
    let change = |from: &str, to: &str| {
        let text = config("gpt", 1).replacen(from, to, 1);
        assert!(text != config("gpt", 1), "{from} is not in it");
        fs::write(place.path("wrong.toml"), text).unwrap();
    };
    for (from, to, parts) in [
        ("micro_batch", "micro_bach", &["unknown key `train.micro_bach`", "`micro_batch`"][..]),
        ("[train]", "[trian]", &["unknown key `trian`", "`train`"]),
        ("steps = 1", "step = 1", &["unknown key `stage.1.step`", "`steps`"]),
        ("seed = 5", "seed = \"five\"", &["run.seed", "five"]),
        ("seed = 5", "seed = -1", &["run.seed", "-1"]),
        ("held_out = 0.2", "held_out = 2", &["data.held_out: expected a share from 0 to 0.5, got 2"]),
        ("family = \"gpt\"", "family = \"gtp\"", &["model.family", "gtp"]),
        ("family = \"gpt\"", "", &["missing key `model.family`"]),
        ("peak = 1e-2", "peak = ", &["wrong.toml:"]),
        ("[lr]", "[lr", &["wrong.toml:"]),
        ("hidden = 9", "hidden = 5", &["stage.2.hidden: expected at least 6, as in stage 1, got 5"]),
    ] {
        change(from, to);
        for command in ["plan", "train"] {
            let output = place.msg(&[command, "wrong.toml"]);
            assert_refused(&output, parts, true);
            assert!(stderr(&output).starts_with("msg: wrong.toml:"), "{}", stderr(&output));
        }
    }
    fs::write(place.path("wrong.toml"), b"[run]\nname = \"\xFF\"").unwrap();
    assert_refused(&place.msg(&["plan", "wrong.toml"]), &["msg: wrong.toml: ", "UTF-8"], true);
    for (change, parts) in [
        ("lr.peak", &["--set: lr.peak: expected table.key=value, got no `=`"][..]),
        ("lr.peek=1", &["unknown key `lr.peek`", "`peak`"]),
        ("stage.9.steps=1", &["--set: stage: expected a number from 1 to 3 after it, got `9`"]),
        ("lr.peak=high", &["lr.peak", "high"]),
        ("lr.peak=[1", &["--set: lr.peak: expected a TOML value or a bare word"]),
    ] {
        assert_refused(&place.msg(&["plan", "tiny.toml", "--set", change]), parts, true);
        assert_refused(&place.msg(&with(&[change])), parts, true);
    }
    assert!(!place.path("runs").exists(), "nothing was begun");
}

#[test]
fn texts_that_cannot_be_used_take_one_line_and_name_the_file() {
    let place = Place::new("gpt", 1);
    let write = |name: &str, bytes: &[u8]| {
        fs::create_dir_all(place.path(name).parent().unwrap()).unwrap();
        fs::write(place.path(name), bytes).unwrap();
    };
    write("empty/a.txt", b"");
    write("short/a.txt", b"too short");
    write("invalid/a.txt", &[b"ab\xFFcd ".as_slice(), &b"more text. ".repeat(40)].concat());
    write("image/a.png", b"x");
    write("lines/a.jsonl", b"{\"text\": \"one\"}\n{\"txt\": 1}\n");
    write("packed/a.txt.gz", b"no archive");
    write("wrong.json", b"{\"model\": 1}");
    let file = "data.tokenizer={kind=\"file\", path=";
    let (folder, none, wrong) =
        (format!("{file}\"text\"}}"), format!("{file}\"none.json\"}}"), format!("{file}\"wrong.json\"}}"));
    for (changes, parts) in [
        (&["data.sources=[\"none.txt\"]"][..], &["msg: none.txt: No such file or directory"][..]),
        (
            &["data.sources=[\"image\"]"],
            &["msg: image: expected files ending in txt, md, rs, jsonl, got none"],
        ),
        (&["data.sources=[\"empty\"]"], &["empty/a.txt: expected text, got none"]),
        (
            &["data.sources=[\"invalid\"]", "data.invalid_utf8=refuse"],
            &["invalid/a.txt: expected UTF-8, got an invalid sequence at byte 2"],
        ),
        (
            &["data.sources=[\"lines\"]"],
            &["lines/a.jsonl: line 2: expected a JSON object with text in \"text\""],
        ),
        (&["data.sources=[\"packed\"]"], &["packed/a.txt.gz: invalid gzip header"]),
        (
            &["data.expect_hash=00"],
            &["text/00.txt: expected all text from here on to have the BLAKE3 hash 00"],
        ),
        (&[folder.as_str()], &["msg: text: "]),
        (&[none.as_str()], &["msg: none.json: No such file or directory"]),
        (&[wrong.as_str()], &["msg: wrong.json: "]),
        (&["data.sources=", "data.crates=[\"no-such-crate\"]"], &["Cargo.lock"]),
        (&["model.vocab=100"], &["model.vocab: expected at least 257, the tokenizer's, got 100"]),
        (&["data.shards=tiny.toml"], &["msg: tiny.toml"]),
        (&["run.dir=tiny.toml"], &["msg: tiny.toml"]),
    ] {
        let output = place.msg(&with(changes));
        assert_refused(&output, parts, true);
        // Each attempt starts from the beginning.
        let _ = fs::remove_dir_all(place.path("runs"));
    }
    // The plan is shown before the batches of it are made.
    let output = place.msg(&with(&["data.sources=[\"short\"]"]));
    assert_refused(&output, &["stage.sequence: expected from 1 to the 8 tokens", "got 12"], false);
    fs::remove_dir_all(place.path("runs")).unwrap();
    // By default invalid sequences are replaced, and said.
    let output = place.done(&["data", "prepare", "tiny.toml", "--set", "data.sources=[\"invalid\"]"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("1 invalid UTF-8 sequence replaced"), "{said}");
    let manifest = fs::read_to_string(place.path("runs/tiny/data/manifest.json")).unwrap();
    assert!(manifest.contains("\"invalid\": 1"), "{manifest}");
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_read_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new("gpt", 1);
    let path = place.path("text/00.txt");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&path).is_ok() {
        println!("passed over: root may read everything");
        return;
    }
    assert_refused(&place.msg(&["train", "tiny.toml"]), &["text/00.txt: Permission denied"], true);
}

/// Every way in which this test damages a file.
fn damages(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut all = vec![("emptied".to_owned(), Vec::new())];
    for cut in [1, bytes.len() / 2] {
        all.push((format!("cut by {cut}"), bytes[..bytes.len() - cut].to_vec()));
    }
    for at in [0, bytes.len() / 3, bytes.len() - 1] {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1;
        all.push((format!("flipped at {at}"), flipped));
    }
    all
}

/// Damages each file of a folder in every way, and asserts that each damage is refused, with the folder
/// named, by `train --resume auto`. Afterwards all is as it was.
fn every_damage_is_refused(place: &Place, folder: &str, passed_over: &[&str]) {
    let before = bytes(&place.path(folder));
    assert!(before.len() > passed_over.len() + 3);
    for (name, whole) in &before {
        if passed_over.contains(&name.to_str().unwrap()) {
            continue;
        }
        let path = place.path(folder).join(name);
        let refuse = |what: &str| {
            let output = place.msg(&["train", "tiny.toml", "--resume", "auto"]);
            println!("{}, {what}: {}", name.display(), stderr(&output).lines().last().unwrap_or_default());
            assert_refused(&output, &[folder], false);
        };
        for (what, damaged) in damages(whole) {
            fs::write(&path, &damaged).unwrap();
            refuse(&what);
            assert_eq!(fs::read(&path).unwrap(), damaged, "left as it is: {}, {what}", path.display());
        }
        fs::write(&path, whole).unwrap();
    }
    assert_eq!(bytes(&place.path(folder)), before, "nothing else was touched");
}

#[test]
fn damaged_data_is_refused() {
    let place = Place::new("gpt", 1);
    place.done(&["data", "prepare", "tiny.toml"]);
    every_damage_is_refused(&place, "runs/tiny/data", &["lock"]);
    let data = place.path("runs/tiny/data");
    for name in ["tokens-00000.bin", "documents.bin", "tokenizer.json"] {
        fs::rename(data.join(name), place.path("away")).unwrap();
        let output = place.msg(&["train", "tiny.toml"]);
        assert_refused(&output, &[&format!("runs/tiny/data/{name}: No such file")], true);
        fs::rename(place.path("away"), data.join(name)).unwrap();
    }
    place.done(&["train", "tiny.toml"]);
}

#[test]
fn a_token_beyond_the_vocabulary_is_refused_even_where_all_hashes_agree() {
    let place = Place::new("gpt", 1);
    place.done(&["data", "prepare", "tiny.toml"]);
    let data = place.path("runs/tiny/data");
    let mut tokens = fs::read(data.join("tokens-00000.bin")).unwrap();
    let before = blake3::hash(&tokens).to_hex().to_string();
    tokens[10..12].copy_from_slice(&300_u16.to_le_bytes());
    fs::write(data.join("tokens-00000.bin"), &tokens).unwrap();
    let manifest = fs::read_to_string(data.join("manifest.json")).unwrap();
    assert!(manifest.contains(&before));
    let manifest = manifest.replace(&before, blake3::hash(&tokens).to_hex().as_str());
    // The manifest's own hash is taken with zeros in its place.
    let own = manifest.split('"').nth(3).unwrap().to_owned();
    let zeros = manifest.replacen(&own, &"0".repeat(64), 1);
    let manifest = manifest.replacen(&own, blake3::hash(zeros.as_bytes()).to_hex().as_str(), 1);
    fs::write(data.join("manifest.json"), manifest).unwrap();
    let parts = ["runs/tiny/data/tokens-00000.bin: expected token ids below 257, got 300 at token 5"];
    assert_refused(&place.msg(&["train", "tiny.toml"]), &parts, true);
}

#[test]
fn a_damaged_checkpoint_is_refused_and_the_others_stay() {
    let place = Place::new("gpt", 1);
    place.done(&["train", "tiny.toml"]);
    let expected = place.results("runs/tiny");
    let last = "runs/tiny/checkpoints/step-00000003";
    every_damage_is_refused(&place, last, &[]);
    for name in ["model.safetensors", "first_moment.safetensors", "state.json", "config.toml"] {
        fs::rename(place.path(last).join(name), place.path("away")).unwrap();
        let output = place.msg(&["train", "tiny.toml", "--resume", "auto"]);
        assert_refused(&output, &[last, name], false);
        fs::rename(place.path("away"), place.path(last).join(name)).unwrap();
    }
    let output = place.msg(&["train", "tiny.toml", "--resume", "auto", "--set", "lr.peak=2e-2"]);
    assert_refused(&output, &[last, "was saved under another configuration: lr.peak differ"], false);
    assert_same(&place.results("runs/tiny"), &expected, "after all refusals");
    // Without the damaged one the run resumes from the one before.
    fs::write(place.path(last).join("state.json"), "{}").unwrap();
    fs::remove_dir_all(place.path(last)).unwrap();
    place.done(&["train", "tiny.toml", "--resume", "auto"]);
    assert_same(&place.results("runs/tiny"), &expected, "from the checkpoint before");
}

#[test]
fn damaged_metrics_are_refused_by_line() {
    let place = Place::new("gpt", 1);
    place.done(&["train", "tiny.toml"]);
    let path = place.path("runs/tiny/metrics.jsonl");
    let whole = fs::read(&path).unwrap();
    let mut damaged = whole.clone();
    damaged[2] = 0;
    fs::write(&path, &damaged).unwrap();
    for words in [&["train", "tiny.toml", "--resume", "auto"][..], &["report", "runs/tiny"]] {
        assert_refused(&place.msg(words), &["runs/tiny/metrics.jsonl: line 1: expected"], false);
    }
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let output = place.msg(&["train", "tiny.toml", "--resume", "auto"]);
    assert_refused(&output, &["runs/tiny/metrics.jsonl: "], false);
}
