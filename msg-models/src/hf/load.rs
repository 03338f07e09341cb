//! From a file into a module: everything is checked, then everything is built.

use crate::hf::{
    error::{Error, Result},
    file_layout::FileLayout,
    layout::{Naming, Planned, plan},
    numbers::Floats,
    read::Subset,
};
use dfdx::shapes::HasShape;
use msg_core::{
    Backend,
    axis::NamedShape,
    error::Context,
    params::{Module, Param, ParamName, Role, Visitor},
};
use std::collections::BTreeMap;

/// A copy of `module` that holds the file's values; `module` stays as it was. The file must hold
/// exactly the module's tensors, besides aliases and buffers that `naming` knows.
///
/// # Errors
/// Those of [`InFile::check`]; [`Error::Core`] where the device fails.
pub fn load<D: Backend, M: Module<D>>(module: &M, tensors: &Subset<'_>, naming: &Naming) -> Result<M> {
    InFile::check(module, tensors, naming, &[])?.into(module.clone())
}

/// Refuses a file that lacks one of these tensors or has it in another shape, before a module is made. Of the
/// groups in `optional` it may lack any as a whole.
///
/// # Errors
/// [`Error::Missing`], [`Error::Twice`] or [`Error::Shape`].
pub fn check_outline(
    tensors: &Subset<'_>,
    naming: &Naming,
    optional: &[&'static str],
    outline: impl IntoIterator<Item = (String, Vec<usize>)>,
) -> Result<()> {
    let found = spelled(tensors, naming)?;
    let absent = without(&found, optional);
    let needed = outline.into_iter().filter(|(name, _)| !absent.iter().any(|group| name.starts_with(group)));
    needed.into_iter().try_for_each(|(name, shape)| {
        let name = found.get(&name).unwrap_or(&name);
        same_shape(tensors, name, &shape)
    })
}

/// The values of a module in a file that was checked to hold them.
#[derive(Debug)]
pub struct InFile<'f> {
    tensors: Subset<'f>,
    /// For each tensor of the walk; none for those that the file lacks.
    sources: Vec<Option<Source<'f>>>,
}

/// Where the values of one tensor of the walk come from.
#[derive(Debug)]
struct Source<'f> {
    /// Each under its name in the file.
    parts: Vec<(String, Floats<'f>)>,
    layout: FileLayout,
}

impl<'f> InFile<'f> {
    /// Checks that the file holds exactly the tensors of a module of the shapes of `module`, besides aliases and
    /// buffers that `naming` knows. Of the groups in `optional` it may lack any as a whole.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Dtype`], [`Error::Shape`], [`Error::Extra`], [`Error::Twice`],
    /// [`Error::NotFinite`] and [`Error::Alias`] for the file, looked for in this order;
    /// [`Error::Layout`] and [`Error::Parts`] where `naming` does not fit the module.
    pub fn check<D: Backend, M: Module<D>>(
        module: &M,
        tensors: &Subset<'f>,
        naming: &Naming,
        optional: &[&'static str],
    ) -> Result<Self> {
        let plan = plan(module, naming, tensors.file().path())?;
        let found = spelled(tensors, naming)?;
        let absent = without(&found, optional);
        let kept =
            |planned: &Planned| planned.files.iter().any(|name| absent.iter().any(|g| name.starts_with(g)));

        let sources = plan.iter().map(|planned| match kept(planned) {
            true => Ok(None),
            false => source(planned, tensors, &found).map(Some),
        });
        let sources = sources.collect::<Result<Vec<_>>>()?;
        refuse_extra(&plan, tensors, &found, naming)?;
        for source in &sources {
            for (name, part) in source.iter().flat_map(|source| &source.parts) {
                if let Some((index, value)) = part.values().enumerate().find(|(_, value)| !value.is_finite())
                {
                    let (file, tensor) = (tensors.place(name), tensors.full_name(name));
                    return Err(Error::NotFinite { file, tensor, index, value });
                }
                tensors.release(name);
            }
        }
        for (alias, tensor) in naming.aliases {
            if let (Some(alias), Some(tensor)) = (found.get(*alias), found.get(*tensor)) {
                same(tensors, alias, tensor)?;
                tensors.release(alias);
                tensors.release(tensor);
            }
        }
        Ok(InFile { tensors: tensors.clone(), sources })
    }

    /// The module with the values: each of its tensors that is not shared is freed as the next one is read.
    ///
    /// # Errors
    /// [`Error::Core`] where the device fails, or the module has other tensors than the one that was checked.
    pub fn into<D: Backend, M: Module<D>>(self, mut module: M) -> Result<M> {
        let InFile { tensors, sources } = self;
        module.walk(&ParamName::root(), &mut Fill { sources: sources.into_iter(), tensors: &tensors })?;
        Ok(module)
    }

    /// The file tensors of one tensor of the walk; none for one that the file lacks.
    pub(super) fn parts(&self, at: usize) -> Option<&[(String, Floats<'f>)]> {
        self.sources.get(at)?.as_ref().map(|source| source.parts.as_slice())
    }

    /// Gives back the memory of a file tensor that was read.
    pub(super) fn release(&self, name: &str) {
        self.tensors.release(name);
    }
}

/// The groups in [`Naming::optional`] of which the file holds nothing.
///
/// # Errors
/// [`Error::Twice`].
pub fn absent(tensors: &Subset<'_>, naming: &Naming) -> Result<Vec<&'static str>> {
    Ok(without(&spelled(tensors, naming)?, naming.optional))
}

/// The groups of which nothing was found.
fn without(found: &BTreeMap<String, String>, optional: &[&'static str]) -> Vec<&'static str> {
    let mut absent = optional.to_vec();
    absent.retain(|group| !found.keys().any(|name| name.starts_with(group)));
    absent
}

/// What the subset holds: today's spelling of each name, and the spelling in the file.
fn spelled(tensors: &Subset<'_>, naming: &Naming) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for name in tensors.names() {
        let Some(today) = (naming.spelling)(&name) else { continue };
        let today = today.into_owned();
        if found.contains_key(&today) {
            return Err(Error::Twice { file: tensors.file().path().to_owned(), tensor: today });
        }
        found.insert(today, name);
    }
    Ok(found)
}

fn source<'f>(
    planned: &Planned,
    tensors: &Subset<'f>,
    found: &BTreeMap<String, String>,
) -> Result<Source<'f>> {
    let parts = planned.files.iter().map(|name| {
        let name = found.get(name).unwrap_or(name);
        let part = tensors.floats(name)?;
        same_shape(tensors, name, &planned.file_shape)?;
        Ok((name.clone(), part))
    });
    Ok(Source { parts: parts.collect::<Result<_>>()?, layout: planned.layout })
}

fn same_shape(tensors: &Subset<'_>, name: &str, expected: &[usize]) -> Result<()> {
    let got = tensors.shape(name)?;
    if got == expected {
        return Ok(());
    }
    Err(Error::Shape {
        file: tensors.place(name),
        tensor: tensors.full_name(name),
        expected: expected.to_vec(),
        got: got.to_vec(),
    })
}

fn refuse_extra(
    plan: &[Planned],
    tensors: &Subset<'_>,
    found: &BTreeMap<String, String>,
    naming: &Naming,
) -> Result<()> {
    let mut rest = found.clone();
    rest.retain(|name, _| !naming.aliases.iter().any(|(alias, _)| name == alias));
    for name in plan.iter().flat_map(|planned| &planned.files) {
        rest.remove(name);
    }
    match rest.first_key_value() {
        None => Ok(()),
        Some((_, name)) => Err(Error::Extra { file: tensors.place(name), tensor: tensors.full_name(name) }),
    }
}

/// Refuses an alias that is not, to the bit, the tensor that it repeats.
fn same(tensors: &Subset<'_>, alias: &str, tensor: &str) -> Result<()> {
    let (repeated, counts) = (tensors.floats(alias)?, tensors.floats(tensor)?);
    same_shape(tensors, alias, tensors.shape(tensor)?)?;
    let mut pairs = counts.values().zip(repeated.values()).enumerate();
    match pairs.find(|(_, (expected, got))| expected.to_bits() != got.to_bits()) {
        None => Ok(()),
        Some((index, (expected, got))) => Err(Error::Alias {
            file: tensors.place(alias),
            alias: tensors.full_name(alias),
            tensor: tensors.full_name(tensor),
            index,
            expected,
            got,
        }),
    }
}

/// Replaces every tensor by the values of the next source, where it has one.
struct Fill<'a, 'f> {
    sources: std::vec::IntoIter<Option<Source<'f>>>,
    tensors: &'a Subset<'f>,
}

impl<D: Backend> Visitor<D> for Fill<'_, '_> {
    fn visit<S: NamedShape>(
        &mut self,
        name: &ParamName,
        _: Role,
        tensor: &mut Param<S, D>,
    ) -> msg_core::Result<()> {
        let missing = || msg_core::Error::Missing { op: "load", name: name.to_string() };
        let Some(source) = self.sources.next().ok_or_else(missing)? else { return Ok(()) };
        let shape = *tensor.shape();
        let axes: Vec<usize> = shape.concrete().into_iter().collect();
        let mut values = Vec::with_capacity(shape.num_elements());
        for (name, part) in &source.parts {
            values.extend(part.values());
            self.tensors.release(name);
        }
        let values = source.layout.to_memory(&axes, values);
        *tensor = tensor.device().try_tensor_from_vec(values, shape).during("load")?;
        // Or the whole model would stay on the host, too.
        D::make_unique(tensor)?;
        Ok(())
    }
}
