//! Opening files of tensors and reading their values.

use crate::hf::{
    error::{Error, Result},
    header::header,
    map::{map, release},
    numbers::{Floats, StoredType},
};
use memmap2::Mmap;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::{Deserialize, de::IgnoredAny};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// Weights in one file, as transformers calls it.
pub const WEIGHTS: &str = "model.safetensors";
/// The list of files where weights are split, as transformers calls it.
pub const INDEX: &str = "model.safetensors.index.json";
/// The longest such list. An entry is larger in memory than in the text.
const MAX_INDEX: u64 = 4 << 20;

/// An open file of tensors, or several that hold the parts of one model. Only headers are in memory; values
/// are read as they are asked for.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    path: PathBuf,
    bytes: Mmap,
    header: Metadata,
    /// Where the values begin.
    start: usize,
}

impl TensorFile {
    /// Opens a file and checks its header: every tensor lies inside the file, and together they fill it.
    ///
    /// The file must not be cut or edited in place while it is open (replacing it by a rename, as
    /// [`save`](super::save) does, is safe).
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Length`], [`Error::HeaderSize`] or [`Error::Header`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Ok(TensorFile { path: path.to_owned(), parts: vec![Part::open(path)?] })
    }

    /// Opens the files that a list ([`INDEX`]) names, which must hold exactly the tensors that it says.
    ///
    /// # Errors
    /// As [`TensorFile::open`]; [`Error::Index`] for a list that is none or says what is not so.
    pub fn open_sharded(index: impl AsRef<Path>) -> Result<Self> {
        let path = index.as_ref();
        let refused = |message: String| Error::Index { file: path.to_owned(), message };
        let folder = path.parent().unwrap_or(Path::new(""));
        let places = read_index(path)?;
        let names: BTreeSet<&String> = places.values().collect();
        let mut parts = Vec::new();
        for name in names {
            let plain = Path::new(name).file_name().is_some_and(|last| last == name.as_str());
            if !plain || name.contains(char::is_control) || !name.ends_with(".safetensors") {
                return Err(refused(format!("expected names of .safetensors files, got {name:?}")));
            }
            let part = Part::open(&folder.join(name))?;
            for tensor in part.header.offset_keys() {
                if places.get(&tensor) != Some(name) {
                    return Err(refused(format!("does not say that {name} holds the tensor {tensor:?}")));
                }
            }
            let listed = places.iter().filter(|(_, place)| *place == name);
            for (tensor, _) in listed {
                if part.header.info(tensor).is_none() {
                    return Err(refused(format!(
                        "says that {name} holds the tensor {tensor:?}, which it does not"
                    )));
                }
            }
            parts.push(part);
        }
        Ok(TensorFile { path: path.to_owned(), parts })
    }

    /// Opens the weights of a folder: [`WEIGHTS`], or what [`INDEX`] lists.
    ///
    /// # Errors
    /// As [`TensorFile::open_sharded`]; [`Error::NoWeights`] where there are none, or pickles alone.
    pub fn open_folder(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let (single, index) = (folder.join(WEIGHTS), folder.join(INDEX));
        if single.exists() {
            return Self::open(single);
        }
        if index.exists() {
            return Self::open_sharded(index);
        }
        let others =
            ["pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack"];
        let got = others.into_iter().find(|name| folder.join(name).exists()).unwrap_or("neither");
        Err(Error::NoWeights { folder: folder.to_owned(), got })
    }

    /// The file's path, or that of the list, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The paths of the files that hold the tensors.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().map(|part| part.path.as_path())
    }

    /// The files' own notes.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let notes = self.parts.iter().filter_map(|part| part.header.metadata().as_ref()).flatten();
        notes.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// All its tensors.
    pub fn tensors(&self) -> Subset<'_> {
        Subset { file: self, prefix: String::new(), left_out: BTreeSet::new() }
    }

    /// Its tensors under `prefix` (`small/`, say), which goes off their names.
    pub fn subset(&self, prefix: &str) -> Subset<'_> {
        self.tensors().subset(prefix)
    }
}

impl Part {
    fn open(path: &Path) -> Result<Self> {
        let bytes = open(path).map_err(|e| io_error(path, "open it", &e))?;
        let (start, header) = header(path, &bytes)?;
        Ok(Part { path: path.to_owned(), bytes, header, start })
    }
}

/// Which file each tensor lies in.
fn read_index(path: &Path) -> Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Index {
        #[serde(default, rename = "metadata")]
        _metadata: IgnoredAny,
        weight_map: BTreeMap<String, String>,
    }
    let refused = |message: String| Error::Index { file: path.to_owned(), message };
    let read = fs::metadata(path).map(|facts| facts.len());
    let length = read.map_err(|e| io_error(path, "open it", &e))?;
    if length > MAX_INDEX {
        return Err(refused(format!("expected at most {MAX_INDEX} bytes, got {length}")));
    }
    let text = fs::read(path).map_err(|e| io_error(path, "read it", &e))?;
    let index: Index = serde_json::from_slice(&text).map_err(|e| refused(e.to_string()))?;
    if index.weight_map.is_empty() {
        return Err(refused("expected tensors, got none".into()));
    }
    Ok(index.weight_map)
}

/// Maps the file at `path`.
fn open(path: &Path) -> io::Result<Mmap> {
    // Asked before opening, since opening a pipe would wait for its other end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    map(&File::open(path)?)
}

/// An error of the system, in our words.
pub(super) fn io_error(file: &Path, doing: &'static str, error: &io::Error) -> Error {
    Error::Io { file: file.to_owned(), doing, message: error.to_string() }
}

/// Some tensors of a file under shorter names.
#[derive(Clone, Debug)]
pub struct Subset<'f> {
    file: &'f TensorFile,
    prefix: String,
    /// Full names of tensors that are not part of it.
    left_out: BTreeSet<String>,
}

impl<'f> Subset<'f> {
    /// Those under a further prefix.
    #[must_use]
    pub fn subset(&self, prefix: &str) -> Self {
        Subset { prefix: self.full_name(prefix), ..self.clone() }
    }

    /// All but these.
    #[must_use]
    pub fn without(&self, names: &[&str]) -> Self {
        let mut rest = self.clone();
        rest.left_out.extend(names.iter().map(|name| self.full_name(name)));
        rest
    }

    /// The file that they lie in.
    pub fn file(&self) -> &'f TensorFile {
        self.file
    }

    /// The path of the file that holds a tensor; of the whole where none does.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.info(name).map_or(&self.file.path, |(part, _)| &part.path).clone()
    }

    /// Their names in order, without the prefix.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.file.parts.iter().flat_map(|part| part.header.offset_keys()).collect();
        names.retain(|name| !self.left_out.contains(name));
        names.sort_unstable();
        names.iter().filter_map(|name| name.strip_prefix(&self.prefix)).map(str::to_owned).collect()
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.info(name).is_ok()
    }

    /// A tensor's shape.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn shape(&self, name: &str) -> Result<&'f [usize]> {
        Ok(&self.info(name)?.1.shape)
    }

    /// How a tensor is stored.
    ///
    /// # Errors
    /// [`Error::Missing`], or [`Error::Dtype`] where it holds other numbers.
    pub fn stored(&self, name: &str) -> Result<StoredType> {
        Ok(self.floats(name)?.stored)
    }

    /// A tensor's type as the file names it, and its bytes as they lie there.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn raw(&self, name: &str) -> Result<(String, &'f [u8])> {
        let (part, info) = self.info(name)?;
        Ok((info.dtype.to_string(), part.bytes(info)))
    }

    /// A tensor's values, row-major. F16 and BF16 become f32, which holds each of them exactly.
    ///
    /// # Errors
    /// [`Error::Missing`], or [`Error::Dtype`] where it holds other numbers.
    pub fn f32s(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.floats(name)?.values().collect())
    }

    /// A tensor's values, row-major, where they are I64.
    ///
    /// # Errors
    /// As [`Subset::f32s`].
    pub fn i64s(&self, name: &str) -> Result<Vec<i64>> {
        match self.info(name)? {
            (part, info @ TensorInfo { dtype: Dtype::I64, .. }) => {
                let (chunks, _) = part.bytes(info).as_chunks();
                Ok(chunks.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect())
            }
            (_, info) => Err(self.wrong_type(name, "I64", info.dtype)),
        }
    }

    /// A tensor of floating point numbers, not read yet.
    pub(super) fn floats(&self, name: &str) -> Result<Floats<'f>> {
        let (part, info) = self.info(name)?;
        match StoredType::of(info.dtype) {
            Some(stored) => Ok(Floats { stored, bytes: part.bytes(info) }),
            None => Err(self.wrong_type(name, "F32, F16 or BF16", info.dtype)),
        }
    }

    /// Gives back the memory of a tensor's bytes, which come from the file again where they are used again.
    pub(super) fn release(&self, name: &str) {
        if let Ok((part, info)) = self.info(name) {
            let (from, to) = info.data_offsets;
            release(&part.bytes, part.start + from, to - from);
        }
    }

    /// The name in the file.
    pub(super) fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn info(&self, name: &str) -> Result<(&'f Part, &'f TensorInfo)> {
        let tensor = self.full_name(name);
        let mut parts = self.file.parts.iter();
        let found = parts.find_map(|part| Some((part, part.header.info(&tensor)?)));
        let found = found.filter(|_| !self.left_out.contains(&tensor));
        found.ok_or_else(|| Error::Missing { file: self.file.path.clone(), tensor })
    }

    fn wrong_type(&self, name: &str, expected: &'static str, got: Dtype) -> Error {
        let (file, tensor) = (self.place(name), self.full_name(name));
        Error::Dtype { file, tensor, expected, got: got.to_string() }
    }
}

impl Part {
    fn bytes(&self, info: &TensorInfo) -> &[u8] {
        // In range: the header was checked against the file's length when it was opened.
        let (from, to) = info.data_offsets;
        &self.bytes[self.start + from..self.start + to]
    }
}
