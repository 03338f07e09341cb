//! From a module into a file: written beside its place, then renamed.

use super::{
    Error, Naming, Result,
    layout::{Planned, plan},
    read::{MAX_HEADER, PREFIX, io_error},
};
use dfdx::{shapes::HasShape, tensor_ops::ReshapeTo};
use msg_core::{
    axis::NamedShape,
    device::Backend,
    error::Context,
    params::{Module, Param, ParamName, Role, Visitor},
};
use safetensors::tensor::{Dtype, TensorInfo};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

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
    let plan = plan(module, naming, path)?;
    let header = header(&plan, metadata, path)?;

    // A rename is atomic only within one folder.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = new_file(folder).map_err(|e| io_error(path, "create a temporary file beside it", &e))?;
    let mut out = BufWriter::with_capacity(BUFFER, temporary.as_file());
    let failed = |e: io::Error| io_error(path, "write it", &e);
    out.write_all(&header).map_err(failed)?;
    let mut writing = Writing { out, plan: plan.iter(), path, refused: None };
    module.inspect(&mut writing)?;
    writing.finished().and_then(|file| file.sync_all().map_err(failed))?;
    temporary.persist(path).map_err(|e| io_error(path, "put it in place", &e.error))?;
    sync_folder(folder).map_err(|e| io_error(path, "make its place durable", &e))
}

/// Bytes gathered between two calls of the system.
const BUFFER: usize = 1 << 20;

/// A temporary file with the rights of an ordinary one (the crate's default shuts others out).
fn new_file(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
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
fn header(plan: &[Planned], metadata: &BTreeMap<String, String>, path: &Path) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Header<'a> {
        #[serde(rename = "__metadata__")]
        metadata: BTreeMap<&'a str, &'a str>,
        #[serde(flatten)]
        tensors: BTreeMap<&'a str, TensorInfo>,
    }
    let mut notes = BTreeMap::from([("format", "pt")]);
    notes.extend(metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let mut tensors = BTreeMap::new();
    let mut offset = 0;
    for planned in plan {
        let bytes = planned.file_shape.iter().product::<usize>() * size_of::<f32>();
        for name in &planned.files {
            let info = TensorInfo {
                dtype: Dtype::F32,
                shape: planned.file_shape.clone(),
                data_offsets: (offset, offset + bytes),
            };
            offset += bytes;
            tensors.insert(name.as_str(), info);
        }
    }
    let malformed = |e: serde_json::Error| Error::Header { file: path.to_owned(), message: e.to_string() };
    let mut text = serde_json::to_vec(&Header { metadata: notes, tensors }).map_err(malformed)?;
    // Spaces, so that the values begin at a multiple of 8 bytes.
    text.resize(text.len().next_multiple_of(PREFIX), b' ');
    let length = text.len() as u64;
    if length > MAX_HEADER {
        return Err(Error::HeaderSize { file: path.to_owned(), limit: MAX_HEADER, got: length });
    }
    Ok([&length.to_le_bytes(), text.as_slice()].concat())
}

/// Writes every tensor. A walk can carry only the core's errors, so ours waits in `refused`.
struct Writing<'a> {
    out: BufWriter<&'a File>,
    plan: std::slice::Iter<'a, Planned>,
    path: &'a Path,
    refused: Option<Error>,
}

impl<'a> Writing<'a> {
    /// The file with everything in it, or what was refused.
    fn finished(self) -> Result<&'a File> {
        let Writing { out, path, refused, .. } = self;
        match refused {
            None => out.into_inner().map_err(|e| io_error(path, "write it", e.error())),
            Some(refused) => Err(refused),
        }
    }

    fn write(&mut self, planned: &Planned, values: Vec<f32>) -> Result<()> {
        let values = planned.layout.to_file(&planned.shape, values);
        if let Some((at, &value)) = values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            let part = values.len() / planned.files.len();
            let (tensor, index) = (planned.files[at / part].clone(), at % part);
            return Err(Error::NotFinite { file: self.path.to_owned(), tensor, index, value });
        }
        for value in values {
            self.out.write_all(&value.to_le_bytes()).map_err(|e| io_error(self.path, "write it", &e))?;
        }
        Ok(())
    }
}

impl<D: Backend> Visitor<D> for Writing<'_> {
    fn visit<S: NamedShape>(
        &mut self,
        name: &ParamName,
        _: Role,
        tensor: &mut Param<S, D>,
    ) -> msg_core::Result<()> {
        if self.refused.is_some() {
            return Ok(());
        }
        let missing = || msg_core::Error::Missing { op: "save", name: name.to_string() };
        let planned = self.plan.next().ok_or_else(missing)?;
        // `copy_into` gives the storage as it lies; `as_vec` would ask for each element by its index.
        let contiguous = tensor.clone().try_contiguous().during("save")?;
        let mut values = vec![0.0; contiguous.shape().num_elements()];
        contiguous.copy_into(&mut values);
        self.refused = self.write(planned, values).err();
        Ok(())
    }
}
