//! The readers: how whole files of each are made, what is repaired after a change, and how they are read.

use super::{corpus, hostile};
use dfdx::tensor::Cpu;
use msg_core::optim::AdamWConfig;
use msg_models::hf::TensorFile;
use msg_train::{
    checkpoint::{self, MARKER},
    config::SpecialTokens,
    data::{Part, Prepare, Prepared, Tokenizer, prepare},
    families::registry::{self, ForFamily, Listed, with_family},
    interop::{
        inspect,
        source::{Place, Source},
    },
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A reader under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Makes folders of whole files in a place.
    pub(super) make: fn(&Path) -> Vec<PathBuf>,
    /// Makes hashes fit again, so that a change comes further than to them.
    pub(super) repair: fn(&Path),
    /// Reads a folder; gives the refusal's text.
    pub(super) read: fn(&Path) -> Result<(), String>,
    /// Makes a folder of a hostile file.
    pub(super) hostile: &'static [fn(&Path)],
}

/// All readers.
pub const TARGETS: [Target; 10] = [
    Target {
        name: "safetensors",
        make: corpus::tensors,
        repair: nothing,
        read: |folder| values(&TensorFile::open(folder.join("model.safetensors")).map_err(text)?),
        hostile: &[
            hostile::length_beyond_all,
            hostile::length_of_a_header_that_is_not_there,
            hostile::overlapping,
            hostile::huge_offsets,
            hostile::huge_shape,
            hostile::many_axes,
            hostile::many_tensors,
            hostile::long_name,
            hostile::long_note,
            hostile::deep,
        ],
    },
    Target {
        name: "index",
        make: corpus::shards,
        repair: nothing,
        read: |folder| values(&TensorFile::open_folder(folder).map_err(text)?),
        hostile: &[hostile::index_elsewhere, hostile::index_of_many, hostile::index_too_long],
    },
    Target {
        name: "published-gpt",
        make: corpus::published_gpts,
        repair: nothing,
        read: published,
        hostile: &[
            hostile::sizes_of_gpt,
            hostile::width_without_matrices,
            hostile::config_of_many,
            hostile::pickle,
        ],
    },
    Target {
        name: "published-bert",
        make: corpus::published_berts,
        repair: nothing,
        read: published,
        hostile: &[hostile::sizes_of_bert],
    },
    Target { name: "model", make: corpus::models, repair: marker, read: model, hostile: &[] },
    Target {
        name: "checkpoint",
        make: corpus::checkpoints,
        repair: marker,
        read: whole_checkpoint,
        hostile: &[],
    },
    Target { name: "tokenizer", make: corpus::tokenizers, repair: nothing, read: tokenizer, hostile: &[] },
    Target { name: "prepared", make: corpus::prepared, repair: manifest, read: prepared, hostile: &[] },
    Target {
        name: "text",
        make: corpus::texts,
        repair: nothing,
        read: sources,
        hostile: &[hostile::line_bomb, hostile::line_of_many, hostile::text_bomb],
    },
    Target { name: "config", make: corpus::configs, repair: nothing, read: config, hostile: &[] },
];

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn nothing(_: &Path) {}

/// All values of all tensors, one after another.
fn values(file: &TensorFile) -> Result<(), String> {
    let tensors = file.tensors();
    file.metadata();
    for name in tensors.names() {
        tensors.raw(&name).map_err(text)?;
        tensors.f32s(&name).map_err(text)?;
    }
    Ok(())
}

fn published(folder: &Path) -> Result<(), String> {
    inspected(folder);
    let place = Place::find(folder).map_err(text)?;
    opened(place)
}

fn opened(place: Place) -> Result<(), String> {
    struct Open(Place);
    impl ForFamily<Cpu> for Open {
        type Out = Result<(), msg_train::Error>;
        fn with<M: Listed<Cpu>>(self) -> Self::Out {
            Source::<M>::open(&Cpu::default(), self.0, 0).map(drop)
        }
    }
    let (family, path) = (place.family().map_err(text)?, place.path().to_owned());
    with_family(&family, &path, Open(place)).and_then(|opened| opened).map_err(text)
}

/// What inspects a folder must do with any.
fn inspected(folder: &Path) {
    let _ = inspect(folder);
}

fn model(folder: &Path) -> Result<(), String> {
    inspected(folder);
    opened(Place::find(folder).map_err(text)?)
}

fn whole_checkpoint(folder: &Path) -> Result<(), String> {
    inspected(folder);
    let device = Cpu::default();
    struct Load<'a>(&'a Path);
    impl ForFamily<Cpu> for Load<'_> {
        type Out = Result<(), msg_train::Error>;
        fn with<M: Listed<Cpu>>(self) -> Self::Out {
            checkpoint::load::<Cpu, M>(self.0, &Cpu::default(), AdamWConfig::default()).map(drop)
        }
    }
    let family = checkpoint::family_of(folder).map_err(text)?;
    with_family(&family, folder, Load(folder)).and_then(|loaded| loaded).map_err(text)?;
    checkpoint::open(folder, &device).map(drop).map_err(text)
}

/// Writes the hashes of the files into a checkpoint's marker, where it is still one.
fn marker(folder: &Path) {
    let path = folder.join(MARKER);
    let Ok(Ok(mut value)) = fs::read(&path).map(|text| serde_json::from_slice::<Value>(&text)) else {
        return;
    };
    let Some(files) = value.get_mut("files").and_then(Value::as_object_mut) else { return };
    for (name, hash) in files.iter_mut().filter(|(name, _)| !name.starts_with('/')) {
        if let Ok(bytes) = fs::read(folder.join(name)) {
            *hash = blake3::hash(&bytes).to_hex().to_string().into();
        }
    }
    fs::write(path, value.to_string()).unwrap();
}

fn tokenizer(folder: &Path) -> Result<(), String> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let bert = name.contains("bert") || name.contains("pieces");
    let specials = if bert { SpecialTokens::Bert } else { SpecialTokens::EndOfText };
    let tokenizer = Tokenizer::published(folder, specials).map_err(text)?;
    let Some(tokenizer) = tokenizer else { return Err("none".into()) };
    let ids = tokenizer.encode("ab ab, <|endoftext|> [MASK] \u{e9}\u{301}\n\n xyz").map_err(text)?;
    tokenizer.decode(&ids).map_err(text)?;
    tokenizer.word_parts();
    Ok(())
}

fn prepared(folder: &Path) -> Result<(), String> {
    let data = Prepared::open(folder).map_err(text)?;
    for part in [Part::Train, Part::HeldOut] {
        let tokens = data.documents(part).tokens().min(64);
        data.read(part, 0, &mut vec![0; tokens as usize]).map_err(text)?;
    }
    Ok(())
}

/// Writes hashes into a manifest: those of the files it names, then its own.
fn manifest(folder: &Path) {
    let path = folder.join(msg_train::data::MANIFEST);
    let Ok(Ok(mut value)) = fs::read(&path).map(|text| serde_json::from_slice::<Value>(&text)) else {
        return;
    };
    let hash_of = |name: &str| {
        let bytes =
            if name.starts_with('/') { Vec::new() } else { fs::read(folder.join(name)).unwrap_or_default() };
        Value::from(blake3::hash(&bytes).to_hex().to_string())
    };
    if let Some(manifest) = value.get_mut("manifest").and_then(Value::as_object_mut) {
        manifest.insert("tokenizer_blake3".into(), hash_of("tokenizer.json"));
        manifest.insert("documents_blake3".into(), hash_of("documents.bin"));
        for shard in manifest.get_mut("shards").and_then(Value::as_array_mut).into_iter().flatten() {
            let name = shard.get("file").and_then(Value::as_str).unwrap_or_default().to_owned();
            if let Some(shard) = shard.as_object_mut() {
                shard.insert("blake3".into(), hash_of(&name));
            }
        }
    }
    let zeros = "0".repeat(64);
    if let Some(value) = value.as_object_mut() {
        value.insert("blake3".into(), zeros.clone().into());
    }
    let text = format!("{value:#}");
    let hash = blake3::hash(text.as_bytes()).to_hex().to_string();
    fs::write(path, text.replacen(&zeros, &hash, 1)).unwrap();
}

fn sources(folder: &Path) -> Result<(), String> {
    let config = registry::parse(&corpus::run_config("gpt", folder), "tiny.toml", &[]).map_err(text)?;
    let out = tempfile::tempdir().map_err(text)?;
    let request = Prepare::new(config.data(), config.model().family.specials, out.path());
    prepare(&request, &mut |_| {}).map(drop).map_err(text)
}

fn config(folder: &Path) -> Result<(), String> {
    let config = registry::read(folder.join("tiny.toml"), &[]).map_err(text)?;
    msg_train::Plan::new(&config);
    config.to_toml().map(drop).map_err(text)
}
