//! Preparing and opening: what holds together, and every refusal with its text.

use super::{
    Dtype, MANIFEST, Manifest, Part, Phase, Prepare, Prepared, prepare,
    testing::{config, corpus, prepared, request, write},
    writer::ShardWriter,
};
use crate::{
    Error,
    config::{DataConfig, InvalidUtf8, SpecialTokens, TokenizerConfig, TokenizerKind},
};
use std::{collections::BTreeMap, fs, path::Path};

fn bpe(source: &Path, vocab: usize) -> DataConfig {
    let tokenizer = TokenizerConfig { kind: TokenizerKind::Bpe, vocab: Some(vocab), path: None };
    DataConfig { tokenizer, ..config(source) }
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

fn refusal<T>(result: crate::Result<T>) -> String {
    match result {
        Ok(_) => panic!("accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn one_thread_and_two_prepare_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    corpus(&text, 200);
    let sources = concat!(include_str!("prepare.rs"), include_str!("mod.rs"));
    write(&text.join("long.txt"), sources.repeat(40).as_bytes());
    let word_piece = TokenizerConfig { kind: TokenizerKind::WordPiece, vocab: Some(600), path: None };
    for (family, config) in [
        (SpecialTokens::EndOfText, bpe(&text, 500)),
        (SpecialTokens::Bert, DataConfig { tokenizer: word_piece, ..config(&text) }),
    ] {
        // Every shard is synced to the disk, which takes its time: fewer of them here.
        let results = [1, 2, 2].map(|threads| {
            let out = tempfile::tempdir().unwrap();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let request = Prepare { shard_tokens: 50_000, ..request(&config, family, out.path()) };
            pool.install(|| prepare(&request, &mut |_| ()).unwrap());
            Prepared::open(out.path()).unwrap();
            contents(out.path())
        });
        assert!(results[0].len() > 4);
        assert!(results[0] == results[1] && results[1] == results[2]);
    }
}

#[test]
fn documents_keep_their_text_and_their_ends() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    corpus(&text, 50);
    write(&text.join("9999.txt"), b"");
    let out = folder.path().join("data");
    let config = DataConfig { held_out: 0.2, ..bpe(&text, 400) };
    let manifest = prepare(&request(&config, SpecialTokens::EndOfText, &out), &mut |_| ()).unwrap();
    let prepared = Prepared::open(&out).unwrap();
    assert_eq!(prepared.manifest(), &manifest);
    assert_eq!((manifest.dtype, manifest.counts.documents, manifest.counts.boundaries), (Dtype::U16, 50, 50));
    let mut decoded = Vec::new();
    for part in [Part::Train, Part::HeldOut] {
        let documents = prepared.documents(part);
        for document in 0..documents.count() {
            let (start, end) = documents.bounds(document);
            let mut ids = vec![0; (end - start) as usize];
            prepared.read(part, start, &mut ids).unwrap();
            assert_eq!(
                ids.pop().and_then(|id| prepared.tokenizer().token(id)).as_deref(),
                Some("<|endoftext|>")
            );
            decoded.push(prepared.tokenizer().decode(&ids).unwrap());
        }
    }
    let mut expected: Vec<String> = contents(&text)
        .into_values()
        .map(|bytes| String::from_utf8(bytes).unwrap())
        .filter(|t| !t.is_empty())
        .collect();
    assert_eq!(manifest.counts.bytes, expected.iter().map(|text| text.len() as u64).sum::<u64>());
    decoded.sort();
    expected.sort();
    assert_eq!(decoded, expected, "each document is in exactly one part");
    let share = manifest.counts.held_out_tokens as f64 / manifest.counts.tokens as f64;
    assert!((share - 0.2).abs() < 0.01, "{share}");
}

#[test]
fn one_large_document_is_cut_for_the_held_out_part() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.txt");
    write(&text, "word and ".repeat(1000).as_bytes());
    let out = folder.path().join("data");
    let config = DataConfig { held_out: 0.02, ..config(&text) };
    let counts = prepare(&request(&config, SpecialTokens::EndOfText, &out), &mut |_| ()).unwrap().counts;
    assert_eq!(
        (counts.documents, counts.boundaries, counts.tokens, counts.held_out_tokens),
        (1, 2, 9001, 180)
    );
}

#[test]
fn wide_ids_take_four_bytes_and_are_read_across_shards() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = ShardWriter::new(folder.path(), Dtype::of(1 << 16), 10);
    let ids: Vec<u32> = (0..25).map(|id| id * 3000).collect();
    writer.push(&ids[..7]).unwrap();
    writer.push(&ids[7..]).unwrap();
    let shards = writer.finish().unwrap();
    assert_eq!(shards.iter().map(|shard| shard.tokens).collect::<Vec<_>>(), [10, 10, 5]);
    assert_eq!(fs::read(folder.path().join(&shards[2].file)).unwrap().len(), 20);
    assert_eq!((Dtype::of((1 << 16) - 1), Dtype::of(1 << 16)), (Dtype::U16, Dtype::U32));
}

#[test]
fn an_identical_preparation_is_left_alone_and_another_is_refused_or_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (text, out) = (folder.path().join("text"), folder.path().join("data"));
    corpus(&text, 30);
    let first = config(&text);
    let mut phases = Vec::new();
    let manifest =
        prepare(&request(&first, SpecialTokens::EndOfText, &out), &mut |at| phases.push(at.phase)).unwrap();
    assert_eq!(phases, [Phase::Scan, Phase::Learn, Phase::Tokenize]);
    let before = contents(&out);
    let mut phases = Vec::new();
    let again =
        prepare(&request(&first, SpecialTokens::EndOfText, &out), &mut |at| phases.push(at.phase)).unwrap();
    assert_eq!((again, phases), (manifest, vec![Phase::Scan]));
    let other = DataConfig { held_out: 0.1, ..bpe(&text, 300) };
    let error = refusal(prepare(&request(&other, SpecialTokens::EndOfText, &out), &mut |_| ()));
    assert_eq!(
        error,
        format!(
            "{}: holds another preparation: data.tokenizer.kind (Bytes there, Bpe now), data.tokenizer.vocab \
             (None there, Some(300) now), data.held_out (0.02 there, 0.1 now); replace it or choose another folder",
            out.display()
        )
    );
    assert_eq!(contents(&out), before);
    let mut replacing = request(&other, SpecialTokens::EndOfText, &out);
    replacing.replace = true;
    prepare(&replacing, &mut |_| ()).unwrap();
    assert_eq!(Prepared::open(&out).unwrap().manifest().recipe.vocab, Some(300));
    // What was changed on disk is replaced as well.
    fs::write(out.join(MANIFEST), b"{").unwrap();
    assert!(prepare(&request(&other, SpecialTokens::EndOfText, &out), &mut |_| ()).is_err());
    prepare(&replacing, &mut |_| ()).unwrap();
    Prepared::open(&out).unwrap();
}

#[test]
fn a_preparation_that_was_cut_short_is_no_preparation() {
    let folder = tempfile::tempdir().unwrap();
    let (text, out) = (folder.path().join("text"), folder.path().join("data"));
    corpus(&text, 30);
    write(&out.join("tokens-00000.bin.tmp"), b"rest of a run that was killed");
    write(&out.join("tokens-00042.bin"), b"and a shard of it");
    write(&out.join("notes.txt"), b"not ours");
    let error = refusal(Prepared::open(&out));
    let path = out.join("manifest.json");
    assert_eq!(
        error,
        format!("{}: expected a finished preparation, got none; run msg data prepare", path.display())
    );
    prepare(&request(&config(&text), SpecialTokens::EndOfText, &out), &mut |_| ()).unwrap();
    let names: Vec<String> = contents(&out).into_keys().collect();
    assert!(names.contains(&"notes.txt".into()) && !names.contains(&"tokens-00042.bin".into()));
    assert!(names.iter().all(|name| !name.ends_with(".tmp")), "{names:?}");
}

#[test]
fn two_that_prepare_one_folder_at_once_leave_it_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (text, out) = (folder.path().join("text"), folder.path().join("data"));
    corpus(&text, 60);
    let config = bpe(&text, 300);
    for _ in 0..4 {
        let _ = fs::remove_dir_all(&out);
        let results = std::thread::scope(|scope| {
            let run = || prepare(&request(&config, SpecialTokens::EndOfText, &out), &mut |_| ());
            [0; 3].map(|_| scope.spawn(run)).map(|thread| thread.join().unwrap().unwrap())
        });
        assert!(results.iter().all(|manifest| *manifest == results[0]));
        Prepared::open(&out).unwrap();
    }
}

#[test]
fn texts_that_cannot_be_used_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (text, out) = (folder.path().join("text"), folder.path().join("data"));
    write(&text.join("a.txt"), b"");
    let shown = text.join("a.txt").display().to_string();
    let run =
        |config: &DataConfig| refusal(prepare(&request(config, SpecialTokens::EndOfText, &out), &mut |_| ()));
    assert_eq!(run(&config(&text)), format!("{shown}: expected text, got none"));
    write(&text.join("a.txt"), b"ab\xFF");
    let refuse = DataConfig { invalid_utf8: InvalidUtf8::Refuse, ..config(&text) };
    assert_eq!(run(&refuse), format!("{shown}: expected UTF-8, got an invalid sequence at byte 2"));
    let expecting = DataConfig { expect_hash: Some("00".into()), ..config(&text) };
    let hash =
        blake3::hash("ab\u{FFFD}".as_bytes().iter().chain(&[255]).copied().collect::<Vec<u8>>().as_slice());
    assert_eq!(
        run(&expecting),
        format!("{shown}: expected all text from here on to have the BLAKE3 hash 00, got {}", hash.to_hex())
    );
    let share = DataConfig { held_out: 1.0, ..config(&text) };
    assert_eq!(run(&share), "configuration: data.held_out: expected a share from 0 to 0.5, got 1");
    let mut file = config(&text);
    file.tokenizer.kind = TokenizerKind::File;
    assert_eq!(
        run(&file),
        "configuration: data.tokenizer.path: expected a tokenizer.json for kind = \"file\", got none"
    );
    file.tokenizer.path = Some("no/tokenizer.json".into());
    assert_eq!(run(&file), "no/tokenizer.json: No such file or directory (os error 2)");
    assert!(!out.exists(), "nothing was written");
    let counted = prepare(&request(&config(&text), SpecialTokens::EndOfText, &out), &mut |_| ()).unwrap();
    assert_eq!(counted.counts.invalid, 1);
}

#[test]
fn a_given_tokenizer_is_used_and_kept_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let data = prepared(folder.path(), SpecialTokens::Bert, 20, 0.1);
    let json = folder.path().join("given.json");
    write(&json, data.tokenizer().json());
    let out = folder.path().join("again");
    let tokenizer = TokenizerConfig { kind: TokenizerKind::File, vocab: None, path: Some(json) };
    let config = DataConfig { tokenizer, held_out: 0.1, ..config(&folder.path().join("text")) };
    let manifest = prepare(&request(&config, SpecialTokens::Bert, &out), &mut |_| ()).unwrap();
    assert_eq!(manifest.shards, data.manifest().shards);
    assert_eq!(fs::read(out.join("tokenizer.json")).unwrap(), data.tokenizer().json());
}

/// Changes a file of a fresh preparation and opens it.
fn broken(name: &str, change: impl Fn(&mut Vec<u8>)) -> (String, Manifest) {
    let folder = tempfile::tempdir().unwrap();
    let manifest = prepared(folder.path(), SpecialTokens::EndOfText, 30, 0.1).manifest().clone();
    let path = folder.path().join("data").join(name);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
    let error = refusal(Prepared::open(&folder.path().join("data")));
    let shown = path.display().to_string();
    (error.strip_prefix(&format!("{shown}: ")).unwrap_or(&error).to_owned(), manifest)
}

/// The hash of a file after the change that [`flip`] makes.
fn flip(bytes: &mut [u8], at: usize) -> String {
    bytes[at] ^= 4;
    blake3::hash(bytes).to_hex().to_string()
}

#[test]
fn changed_bytes_of_any_file_are_found_by_their_hash() {
    for name in ["tokens-00000.bin", "documents.bin", "tokenizer.json"] {
        let got = std::cell::RefCell::new(String::new());
        let (error, manifest) = broken(name, |bytes| *got.borrow_mut() = flip(bytes, 8));
        let expected = match name {
            "tokens-00000.bin" => &manifest.shards[0].blake3,
            "documents.bin" => &manifest.documents_blake3,
            _ => &manifest.tokenizer_blake3,
        };
        assert_eq!(error, format!("expected BLAKE3 {expected}, got {}", got.borrow()), "{name}");
    }
}

#[test]
fn any_changed_byte_of_a_manifest_is_found() {
    let folder = tempfile::tempdir().unwrap();
    prepared(folder.path(), SpecialTokens::EndOfText, 10, 0.1);
    let data = folder.path().join("data");
    let whole = fs::read(data.join("manifest.json")).unwrap();
    for at in (0..whole.len()).step_by(3) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(data.join("manifest.json"), bytes).unwrap();
        assert!(matches!(Manifest::read(&data), Err(Error::Data { .. })), "byte {at}");
    }
    fs::write(data.join("manifest.json"), whole).unwrap();
    Manifest::read(&data).unwrap();
}

#[test]
fn cut_files_are_found_by_their_size() {
    let (error, manifest) = broken("tokens-00001.bin", |bytes| bytes.truncate(100));
    assert_eq!(error, format!("expected {} bytes, got 100", manifest.shards[1].tokens * 2));
    let (error, manifest) = broken("documents.bin", |bytes| bytes.truncate(100));
    assert_eq!(error, format!("expected {} bytes, got 100", manifest.counts.boundaries * 8));
    let (error, _) = broken("manifest.json", |bytes| bytes.truncate(100));
    assert_eq!(error, "expected a manifest, got EOF while parsing an object at line 4 column 2");
    let folder = tempfile::tempdir().unwrap();
    prepared(folder.path(), SpecialTokens::EndOfText, 30, 0.1);
    let shard = folder.path().join("data/tokens-00000.bin");
    fs::remove_file(&shard).unwrap();
    assert_eq!(
        refusal(Prepared::open(&folder.path().join("data"))),
        format!("{}: No such file or directory (os error 2)", shard.display())
    );
}

#[test]
fn a_manifest_whose_numbers_disagree_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = prepared(folder.path(), SpecialTokens::EndOfText, 30, 0.1).manifest().clone();
    let data = folder.path().join("data");
    let open = |change: &dyn Fn(&mut Manifest)| {
        let mut changed = manifest.clone();
        change(&mut changed);
        changed.write(&data).unwrap();
        refusal(Prepared::open(&data)).replace(&format!("{}/", data.display()), "")
    };
    let (tokens, held_out) = (manifest.counts.tokens, manifest.counts.held_out_tokens);
    assert_eq!(
        open(&|changed| changed.vocab = 100),
        format!("tokens-00000.bin: expected token ids below 100, got {} at token {}", 119, 0)
    );
    assert_eq!(
        open(&|changed| changed.counts.held_out_tokens += 1),
        format!(
            "documents.bin: expected {tokens} tokens of which {} held out, got {tokens} and {held_out}",
            held_out + 1
        )
    );
    assert_eq!(
        open(&|changed| drop(changed.shards.pop())),
        format!(
            "manifest.json: expected {tokens} tokens in shards of 1000, got {}",
            tokens - manifest.shards[manifest.shards.len() - 1].tokens
        )
    );
    assert_eq!(open(&|changed| changed.version = 9), "manifest.json: expected version 1, got 9");
}

#[test]
fn tokens_past_the_end_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = prepared(folder.path(), SpecialTokens::EndOfText, 10, 0.1);
    let tokens = data.documents(Part::Train).tokens();
    let error = refusal(data.read(Part::Train, tokens - 1, &mut [0; 2]));
    assert_eq!(error, format!("documents.bin: expected a token below {tokens}, got {tokens}"));
}
