//! From a module into files: written beside their place, then renamed.

use crate::hf::{
    error::{Error, Result},
    format::Format,
    layout::{Naming, Planned, plan},
    read::{INDEX, WEIGHTS, io_error},
    shards::{Entry, Shard, entries, header, split},
};
use msg_core::{
    Backend,
    axis::NamedShape,
    params::{Module, Param, ParamName, Role, Visitor},
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

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
    let (shards, total) = split(&plan, format, folder);
    let paths: Vec<PathBuf> = shards.iter().map(|shard| shard.path.clone()).collect();
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let tensors =
        shards.iter().flat_map(|shard| shard.entries.iter().map(|entry| (&entry.name, &shard.path)));
    let places: BTreeMap<String, String> =
        tensors.map(|(tensor, path)| (tensor.clone(), name(path))).collect();
    write(module, &plan, shards, format)?;
    if paths.len() > 1 {
        let path = folder.join(INDEX);
        let index = serde_json::json!({"metadata": {"total_size": total}, "weight_map": places});
        let text = format!("{index:#}\n");
        std::fs::write(&path, text).map_err(|e| io_error(&path, "write it", &e))?;
    }
    Ok(paths)
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
