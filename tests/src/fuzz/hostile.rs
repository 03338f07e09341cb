//! Files made by hand to lie: about lengths, offsets, sizes, and what they unpack to.

use std::{fs, io::Write, path::Path};

/// `aaaa` and a line's end in a frame of the Zstandard format, uncompressed.
pub(super) const ZSTD: &[u8] = &[0x28, 0xB5, 0x2F, 0xFD, 0x20, 5, 0x29, 0, 0, b'a', b'a', b'a', b'a', b'\n'];

/// A file of this header and so many zeros.
fn tensors(folder: &Path, header: &str, values: usize) {
    let length = header.len() as u64;
    let bytes = [&length.to_le_bytes()[..], header.as_bytes(), &vec![0; values]].concat();
    fs::write(folder.join("model.safetensors"), bytes).unwrap();
}

pub(super) fn length_beyond_all(folder: &Path) {
    fs::write(folder.join("model.safetensors"), u64::MAX.to_le_bytes()).unwrap();
}

pub(super) fn length_of_a_header_that_is_not_there(folder: &Path) {
    fs::write(folder.join("model.safetensors"), (8u64 << 20).to_le_bytes()).unwrap();
}

pub(super) fn overlapping(folder: &Path) {
    let one = |name: &str| format!(r#""{name}":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#);
    tensors(folder, &format!("{{{},{}}}", one("a"), one("b")), 8);
}

pub(super) fn huge_offsets(folder: &Path) {
    let (from, to) = (u64::MAX - 8, u64::MAX);
    tensors(folder, &format!(r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":[{from},{to}]}}}}"#), 8);
}

pub(super) fn huge_shape(folder: &Path) {
    let size = 1u64 << 62;
    tensors(
        folder,
        &format!(r#"{{"a":{{"dtype":"F32","shape":[{size},{size},0],"data_offsets":[0,0]}}}}"#),
        0,
    );
}

pub(super) fn many_axes(folder: &Path) {
    let ones = vec!["1"; 3 << 20].join(",");
    tensors(folder, &format!(r#"{{"a":{{"dtype":"U8","shape":[{ones}],"data_offsets":[0,1]}}}}"#), 1);
}

pub(super) fn many_tensors(folder: &Path) {
    let one = |at: usize| format!(r#""{at}":{{"dtype":"U8","shape":[],"data_offsets":[{at},{}]}}"#, at + 1);
    let all: Vec<String> = (0..40_000).map(one).collect();
    tensors(folder, &format!("{{{}}}", all.join(",")), all.len());
}

pub(super) fn long_name(folder: &Path) {
    let name = format!("\\n{}", "n".repeat((8 << 20) - 100));
    tensors(folder, &format!(r#"{{"{name}":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}}"#), 1);
}

pub(super) fn long_note(folder: &Path) {
    let note = format!("\\n{}", "n".repeat((8 << 20) - 100));
    tensors(folder, &format!(r#"{{"__metadata__":{{"a":"{note}"}}}}"#), 0);
}

pub(super) fn deep(folder: &Path) {
    tensors(folder, &"[".repeat((8 << 20) - 1), 0);
}

pub(super) fn index_elsewhere(folder: &Path) {
    let text = r#"{"weight_map": {"a": "/dev/zero.safetensors", "b": "../../x.safetensors"}}"#;
    fs::write(folder.join("model.safetensors.index.json"), text).unwrap();
}

pub(super) fn index_of_many(folder: &Path) {
    let all: Vec<String> = (0..200_000).map(|at| format!(r#""{at}":"a.safetensors""#)).collect();
    let text = format!(r#"{{"weight_map": {{{}}}}}"#, all.join(","));
    fs::write(folder.join("model.safetensors.index.json"), text).unwrap();
}

pub(super) fn index_too_long(folder: &Path) {
    fs::write(folder.join("model.safetensors.index.json"), vec![b' '; 8 << 20]).unwrap();
}

/// Sizes that would fill any memory, over a file of one number.
pub(super) fn sizes_of_gpt(folder: &Path) {
    let text = r#"{"model_type": "gpt2", "vocab_size": 16777216, "n_positions": 16777216, "n_embd": 16777216,
        "n_layer": 16777216, "n_head": 1}"#;
    fs::write(folder.join("config.json"), text).unwrap();
    tensors(folder, r#"{"wte.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}"#, 4);
}

pub(super) fn sizes_of_bert(folder: &Path) {
    let text = r#"{"model_type": "bert", "vocab_size": 16777216, "hidden_size": 16777216, "num_attention_heads": 1}"#;
    fs::write(folder.join("config.json"), text).unwrap();
    tensors(
        folder,
        r#"{"bert.embeddings.word_embeddings.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}"#,
        4,
    );
}

/// Tables as wide as they say, but nothing else of the width.
pub(super) fn width_without_matrices(folder: &Path) {
    let wide = 1 << 20;
    let text = format!(
        r#"{{"model_type": "gpt2", "vocab_size": 1, "n_positions": 1, "n_embd": {wide}, "n_layer": 1, "n_head": 1, "n_inner": 1}}"#
    );
    fs::write(folder.join("config.json"), text).unwrap();
    let bytes = wide * 2;
    let one = |name: &str, at: usize| {
        format!(
            r#""{name}":{{"dtype":"F16","shape":[1,{wide}],"data_offsets":[{},{}]}}"#,
            at * bytes,
            (at + 1) * bytes
        )
    };
    tensors(folder, &format!("{{{},{}}}", one("wte.weight", 0), one("wpe.weight", 1)), 2 * bytes);
}

/// A configuration of a million numbers.
pub(super) fn config_of_many(folder: &Path) {
    fs::write(folder.join("config.json"), format!("{{\"a\":[{}]}}", vec!["1"; 4 << 20].join(","))).unwrap();
}

/// What a zip archive is: the pickles of PyTorch are.
pub(super) fn pickle(folder: &Path) {
    fs::write(folder.join("config.json"), r#"{"model_type": "gpt2"}"#).unwrap();
    fs::write(folder.join("pytorch_model.bin"), b"PK\x03\x04").unwrap();
}

/// Bytes in the gzip format.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A line of 128 MB in an eighth of one.
pub(super) fn line_bomb(folder: &Path) {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(b"{\"text\": \"").unwrap();
    let block = vec![b'a'; 1 << 20];
    (0..128).for_each(|_| encoder.write_all(&block).unwrap());
    fs::write(folder.join("bomb.jsonl.gz"), encoder.finish().unwrap()).unwrap();
}

/// A line of numbers that take many times their text.
pub(super) fn line_of_many(folder: &Path) {
    let line = format!("{{\"text\": \"a\", \"n\": [{}]}}\n", vec!["1"; 7 << 20].join(","));
    fs::write(folder.join("many.jsonl"), line).unwrap();
}

/// A text of 9 MB in a few kilobytes: long, but nothing to hold.
pub(super) fn text_bomb(folder: &Path) {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let block = "words and spaces ".repeat(1 << 16);
    (0..8).for_each(|_| encoder.write_all(block.as_bytes()).unwrap());
    fs::write(folder.join("bomb.txt.gz"), encoder.finish().unwrap()).unwrap();
}
