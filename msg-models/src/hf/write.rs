//! From a module into files: written beside their place, then renamed.

use super::{
    Error, INDEX, InFile, Naming, Result, StoredType, WEIGHTS,
    header::{MAX_HEADER, PREFIX},
    layout::{Planned, plan},
    read::io_error,
};
use msg_core::{
    Backend,
    axis::NamedShape,
    params::{Module, Param, ParamName, Role, Visitor},
};
use safetensors::tensor::TensorInfo;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

/// What of a module's files can be chosen.
#[derive(Clone, Copy)]
pub struct Format<'a> {
    /// The files' own notes. Without a `format` they get `format: pt`, which Hugging Face's loader asks for.
    pub notes: &'a BTreeMap<String, String>,
    /// How a tensor is stored, by its name in the file.
    pub stored: &'a dyn Fn(&str) -> StoredType,
    /// The name that a tensor gets instead of its own; `None` leaves it out.
    pub named: &'a dyn Fn(&str) -> Option<String>,
    /// Bytes of the values of one file at most; a larger tensor has a file to itself.
    pub largest: u64,
    /// The values, where they lie in a file; the module then says shapes and what the file lacks.
    pub values: Option<&'a InFile<'a>>,
}

impl std::fmt::Debug for Format<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Format")
            .field("notes", self.notes)
            .field("largest", &self.largest)
            .finish_non_exhaustive()
    }
}

impl<'a> Format<'a> {
    /// One file of f32 under the module's own names.
    pub fn plain(notes: &'a BTreeMap<String, String>) -> Self {
        Format {
            notes,
            stored: &|_| StoredType::F32,
            named: &|name| Some(name.to_owned()),
            largest: u64::MAX,
            values: None,
        }
    }
}

/// Writes the module's tensors as F32, in the order of its walk; the same module and metadata give
/// the same bytes. Where `metadata` has no `format`, the file gets `format: pt`, which Hugging Face's
/// own loader asks for.
///
/// The file appears whole or not at all: a file that was there stays as it was on any error. Tensors
/// are brought from the device one at a time.
///
/// # Errors
/// [`Error::Io`] where the system refuses; [`Error::NotFinite`] rather than a file that [`load`](super::load)
/// would refuse; [`Error::Layout`], [`Error::Parts`] and [`Error::Twice`] where `naming` does not fit
/// the module; [`Error::Core`] where the device fails.
pub fn save<D: Backend, M: Module<D>>(
    module: &M,
    naming: &Naming,
    metadata: &BTreeMap<String, String>,
    path: impl AsRef<Path>,
) -> Result<()> {
    let path = path.as_ref();
    let format = Format::plain(metadata);
    let plan = plan(module, naming, path)?;
    let entries = entries(&plan, &format);
    write(module, &plan, vec![Shard { path: path.to_owned(), entries }], &format)
}

/// As [`save`], into [`WEIGHTS`] in `folder`, or, where one file would be too large, into several with
/// [`INDEX`], which is written last. Returns the paths of the files of values.
///
/// # Errors
/// As [`save`].
pub fn save_folder<D: Backend, M: Module<D>>(
    module: &M,
    naming: &Naming,
    format: &Format<'_>,
    folder: &Path,
) -> Result<Vec<PathBuf>> {
    let plan = plan(module, naming, &folder.join(WEIGHTS))?;
    let mut groups: Vec<(Vec<Entry>, u64)> = Vec::new();
    for entry in entries(&plan, format) {
        let bytes = entry.bytes(&plan) as u64;
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
    let shards: Vec<Shard> = shards.collect();
    let paths: Vec<PathBuf> = shards.iter().map(|shard| shard.path.clone()).collect();
    let places: BTreeMap<String, String> = (1..)
        .zip(&shards)
        .flat_map(|(number, shard)| shard.entries.iter().map(move |entry| (entry.name.clone(), number)))
        .map(|(tensor, number)| (tensor, name(number)))
        .collect();
    write(module, &plan, shards, format)?;
    if count > 1 {
        let path = folder.join(INDEX);
        let index = serde_json::json!({"metadata": {"total_size": total}, "weight_map": places});
        let text = format!("{index:#}\n");
        std::fs::write(&path, text).map_err(|e| io_error(&path, "write it", &e))?;
    }
    Ok(paths)
}

/// One file tensor that is written.
struct Entry {
    /// The tensor of the walk, by its place there, and which of its file tensors this is.
    at: (usize, usize),
    name: String,
    stored: StoredType,
}

impl Entry {
    fn bytes(&self, plan: &[Planned]) -> usize {
        plan[self.at.0].file_shape.iter().product::<usize>() * self.stored.size()
    }
}

/// One file and what it holds.
struct Shard {
    path: PathBuf,
    entries: Vec<Entry>,
}

/// Every file tensor that is not left out, in the order of the walk.
fn entries(plan: &[Planned], format: &Format<'_>) -> Vec<Entry> {
    let all = plan.iter().enumerate().flat_map(|(planned, tensor)| {
        tensor.files.iter().enumerate().map(move |(part, name)| ((planned, part), name))
    });
    all.filter_map(|(at, name)| {
        Some(Entry { at, stored: (format.stored)(name), name: (format.named)(name)? })
    })
    .collect()
}

fn write<D: Backend, M: Module<D>>(
    module: &M,
    plan: &[Planned],
    shards: Vec<Shard>,
    format: &Format<'_>,
) -> Result<()> {
    let folder = shards.first().and_then(|shard| shard.path.parent()).unwrap_or(Path::new("")).to_owned();
    let mut writing = Writing {
        plan,
        walked: 0,
        shards: shards.into_iter(),
        current: None,
        done: Vec::new(),
        format,
        refused: None,
    };
    writing.refused = writing.next_shard().err();
    module.inspect(&mut writing)?;
    for (temporary, path) in writing.finished()? {
        temporary.persist(&path).map_err(|e| io_error(&path, "put it in place", &e.error))?;
    }
    // A rename is atomic only within one folder.
    sync_folder(place(&folder)).map_err(|e| io_error(&folder, "make its place durable", &e))
}

/// The folder as the system names it.
fn place(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// Bytes gathered between two calls of the system.
const BUFFER: usize = 1 << 20;
/// Numbers converted at a time.
const CHUNK: usize = 1 << 14;

/// A temporary file with the rights of an ordinary one (the crate's default shuts others out).
fn new_file(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(<std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// Makes a rename in this folder survive a power cut.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Elsewhere folders cannot be opened; the rename is as durable as the system makes it.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// The bytes before the values. Not built by the safetensors crate, which keeps metadata in a hash
/// map, so that the same notes would give other bytes in every run.
fn header(plan: &[Planned], shard: &Shard, notes: &BTreeMap<String, String>) -> Result<Vec<u8>> {
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

/// The file under way.
struct Current {
    out: BufWriter<NamedTempFile>,
    path: PathBuf,
    entries: std::iter::Peekable<std::vec::IntoIter<Entry>>,
}

/// Writes every tensor. A walk can carry only the core's errors, so ours waits in `refused`.
struct Writing<'a> {
    plan: &'a [Planned],
    /// Tensors of the walk that are done.
    walked: usize,
    shards: std::vec::IntoIter<Shard>,
    current: Option<Current>,
    done: Vec<(NamedTempFile, PathBuf)>,
    format: &'a Format<'a>,
    refused: Option<Error>,
}

impl Writing<'_> {
    /// Ends the file under way and begins the next one, where there is one.
    fn next_shard(&mut self) -> Result<()> {
        if let Some(Current { out, path, .. }) = self.current.take() {
            let failed = |e: &io::Error| io_error(&path, "write it", e);
            let temporary = out.into_inner().map_err(|e| failed(e.error()))?;
            temporary.as_file().sync_all().map_err(|e| failed(&e))?;
            self.done.push((temporary, path));
        }
        let Some(shard) = self.shards.next() else { return Ok(()) };
        let header = header(self.plan, &shard, self.format.notes)?;
        let Shard { path, entries } = shard;
        let folder = place(path.parent().unwrap_or(Path::new("")));
        let temporary =
            new_file(folder).map_err(|e| io_error(&path, "create a temporary file beside it", &e))?;
        let mut out = BufWriter::with_capacity(BUFFER, temporary);
        out.write_all(&header).map_err(|e| io_error(&path, "write it", &e))?;
        self.current = Some(Current { out, path, entries: entries.into_iter().peekable() });
        Ok(())
    }

    /// The files with everything in them, or what was refused.
    fn finished(mut self) -> Result<Vec<(NamedTempFile, PathBuf)>> {
        match self.refused.take() {
            None => self.next_shard().map(|()| self.done),
            Some(refused) => Err(refused),
        }
    }

    /// Writes the file tensors of one tensor of the walk, from a file where its values lie in one.
    fn write<S: NamedShape, D: Backend>(&mut self, at: usize, tensor: &Param<S, D>) -> Result<()> {
        let planned = &self.plan[at];
        if let Some((file, parts)) = self.format.values.and_then(|file| Some((file, file.parts(at)?))) {
            return parts.iter().enumerate().try_for_each(|(part, (name, values))| {
                self.part((at, part), values.values())?;
                file.release(name);
                Ok(())
            });
        }
        D::with_host_slice(tensor, |values| {
            let values = planned.layout.to_file(&planned.shape, values);
            let length = values.len() / planned.files.len();
            let mut parts = values.chunks_exact(length.max(1)).enumerate();
            parts.try_for_each(|(part, values)| self.part((at, part), values.iter().copied()))
        })?
    }

    /// Writes one file tensor where it belongs, if it is to be written.
    fn part(&mut self, at: (usize, usize), values: impl Iterator<Item = f32>) -> Result<()> {
        if self.current.as_mut().is_some_and(|current| current.entries.peek().is_none()) {
            self.next_shard()?;
        }
        let Some(current) = &mut self.current else { return Ok(()) };
        match current.entries.next_if(|entry| entry.at == at) {
            Some(entry) => current.write(&entry, values),
            None => Ok(()),
        }
    }
}

impl Current {
    fn write(&mut self, entry: &Entry, mut values: impl Iterator<Item = f32>) -> Result<()> {
        let mut bytes = Vec::with_capacity(CHUNK * entry.stored.size());
        for first in (0..).step_by(CHUNK) {
            bytes.clear();
            for (index, value) in (first..).zip(values.by_ref().take(CHUNK)) {
                let value = entry.stored.rounded(value);
                if !value.is_finite() {
                    let (file, tensor) = (self.path.clone(), entry.name.clone());
                    return Err(Error::NotFinite { file, tensor, index, value });
                }
                entry.stored.push(value, &mut bytes);
            }
            if bytes.is_empty() {
                break;
            }
            self.out.write_all(&bytes).map_err(|e| io_error(&self.path, "write it", &e))?;
        }
        Ok(())
    }
}

/// A tensor's values, row-major.
pub(crate) fn values<S: NamedShape, D: Backend>(tensor: &Param<S, D>) -> msg_core::Result<Vec<f32>> {
    D::with_host_slice(tensor, <[f32]>::to_vec)
}

impl<D: Backend> Visitor<D> for Writing<'_> {
    fn visit<S: NamedShape>(
        &mut self,
        _: &ParamName,
        _: Role,
        tensor: &mut Param<S, D>,
    ) -> msg_core::Result<()> {
        if self.refused.is_none() {
            self.refused = self.write(self.walked, tensor).err();
        }
        self.walked += 1;
        Ok(())
    }
}
