//! Which tensor goes into which file, and the header of each file.

use crate::hf::{
    error::{Error, Result},
    format::Format,
    header::{MAX_HEADER, PREFIX},
    layout::Planned,
    numbers::StoredType,
    read::WEIGHTS,
};
use safetensors::tensor::TensorInfo;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// One file tensor that is written.
pub(super) struct Entry {
    /// The tensor of the walk, by its place there, and which of its file tensors this is.
    pub(super) at: (usize, usize),
    pub(super) name: String,
    pub(super) stored: StoredType,
}

impl Entry {
    fn bytes(&self, plan: &[Planned]) -> usize {
        plan[self.at.0].file_shape.iter().product::<usize>() * self.stored.size()
    }
}

/// One file and what it holds.
pub(super) struct Shard {
    pub(super) path: PathBuf,
    pub(super) entries: Vec<Entry>,
}

/// Every file tensor that is not left out, in the order of the walk.
pub(super) fn entries(plan: &[Planned], format: &Format<'_>) -> Vec<Entry> {
    let all = plan.iter().enumerate().flat_map(|(planned, tensor)| {
        tensor.files.iter().enumerate().map(move |(part, name)| ((planned, part), name))
    });
    all.filter_map(|(at, name)| {
        Some(Entry { at, stored: (format.stored)(name), name: (format.named)(name)? })
    })
    .collect()
}

/// The files of a folder: one, or several where one would be larger than the format allows; and the bytes of all values.
pub(super) fn split(plan: &[Planned], format: &Format<'_>, folder: &Path) -> (Vec<Shard>, u64) {
    let mut groups: Vec<(Vec<Entry>, u64)> = Vec::new();
    for entry in entries(plan, format) {
        let bytes = entry.bytes(plan) as u64;
        match groups.last_mut() {
            Some((entries, sum)) if sum.saturating_add(bytes) <= format.largest => {
                entries.push(entry);
                *sum += bytes;
            }
            _ => groups.push((vec![entry], bytes)),
        }
    }
    let (count, total) = (groups.len(), groups.iter().map(|(_, sum)| sum).sum::<u64>());
    let name = |number: usize| match count {
        1 => WEIGHTS.to_owned(),
        _ => format!("model-{number:05}-of-{count:05}.safetensors"),
    };
    let shards = (1..).zip(groups);
    let shards = shards.map(|(number, (entries, _))| Shard { path: folder.join(name(number)), entries });
    (shards.collect(), total)
}

/// The bytes before the values. Not built by the safetensors crate, which keeps metadata in a hash
/// map, so that the same notes would give other bytes in every run.
pub(super) fn header(plan: &[Planned], shard: &Shard, notes: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Header<'a> {
        #[serde(rename = "__metadata__")]
        metadata: BTreeMap<&'a str, &'a str>,
        #[serde(flatten)]
        tensors: BTreeMap<&'a str, TensorInfo>,
    }
    let mut metadata = BTreeMap::from([("format", "pt")]);
    metadata.extend(notes.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let mut tensors = BTreeMap::new();
    let mut offset = 0;
    for entry in &shard.entries {
        let bytes = entry.bytes(plan);
        let info = TensorInfo {
            dtype: entry.stored.dtype(),
            shape: plan[entry.at.0].file_shape.clone(),
            data_offsets: (offset, offset + bytes),
        };
        offset += bytes;
        tensors.insert(entry.name.as_str(), info);
    }
    let malformed = |e: serde_json::Error| Error::Header { file: shard.path.clone(), message: e.to_string() };
    let mut text = serde_json::to_vec(&Header { metadata, tensors }).map_err(malformed)?;
    // Spaces, so that the values begin at a multiple of 8 bytes.
    text.resize(text.len().next_multiple_of(PREFIX), b' ');
    let length = text.len() as u64;
    if length > MAX_HEADER {
        return Err(Error::HeaderSize { file: shard.path.clone(), limit: MAX_HEADER, got: length });
    }
    Ok([&length.to_le_bytes(), text.as_slice()].concat())
}
