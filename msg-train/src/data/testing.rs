//! What tests that need text share.

use super::{CargoFolders, Prepare, Prepared, prepare};
use crate::config::{DataConfig, SpecialTokens, TokenizerConfig, TokenizerKind};
use std::{fs, path::Path, sync::Arc};

/// Writes a file and the folders above it.
pub(super) fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A configuration with one source and a tokenizer of bytes.
pub(super) fn config(source: &Path) -> DataConfig {
    let text = "[tokenizer]\nkind = \"bytes\"\n";
    let config: DataConfig = toml::from_str(text).unwrap();
    DataConfig {
        sources: vec![source.to_owned()],
        tokenizer: TokenizerConfig { kind: TokenizerKind::Bytes, vocab: None, path: None },
        ..config
    }
}

/// The request of tests: small shards, so that reads cross them.
pub(super) fn request<'a>(config: &'a DataConfig, specials: SpecialTokens, folder: &'a Path) -> Prepare<'a> {
    let cargo = CargoFolders::default();
    Prepare { config, specials, folder, replace: false, cargo, shard_tokens: 1000 }
}

/// `documents` documents of unequal length, a file each.
pub(super) fn corpus(folder: &Path, documents: usize) {
    for document in 0..documents {
        let words = 5 + (document * 37) % 90;
        let text: String = (0..words).map(|word| format!("w{}d{document} ", word * word % 97)).collect();
        write(&folder.join(format!("{document:04}.txt")), text.as_bytes());
    }
}

/// A prepared corpus of that many documents.
pub(crate) fn prepared(
    folder: &Path,
    specials: SpecialTokens,
    documents: usize,
    held_out: f64,
) -> Arc<Prepared> {
    corpus(&folder.join("text"), documents);
    let config = DataConfig { held_out, ..config(&folder.join("text")) };
    let out = folder.join("data");
    prepare(&request(&config, specials, &out), &mut |_| ()).unwrap();
    Arc::new(Prepared::open(&out).unwrap())
}
