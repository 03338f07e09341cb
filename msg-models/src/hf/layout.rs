//! From a module's tensors to file tensors: names and shapes, and the order of the values.

use crate::hf::{
    error::{Error, Result},
    file_layout::FileLayout,
};
use dfdx::shapes::HasShape;
use msg_core::{
    Backend,
    axis::NamedShape,
    params::{Module, Param, ParamName, Role, Visitor},
};
use std::{borrow::Cow, collections::BTreeSet, path::Path};

/// How a family of models writes its tensors. A walk's names are the file's names.
#[derive(Clone, Copy, Debug)]
pub struct Naming {
    /// How each tensor of the walk lies in a file.
    pub layout: fn(&ParamName) -> FileLayout,
    /// File tensors that may be there and repeat another one (tied weights): name, name of the tensor
    /// that counts. They are compared on load and never written.
    pub aliases: &'static [(&'static str, &'static str)],
    /// Today's spelling of a name found in a file, or None for a tensor that holds no parameters
    /// (a buffer) and is passed over.
    pub spelling: fn(&str) -> Option<Cow<'_, str>>,
    /// What the names of the body begin with, which files of the bare body leave out.
    pub prefix: &'static str,
    /// What the names of heads begin with that a published file may lack, each as a whole.
    pub optional: &'static [&'static str],
}

impl Naming {
    /// Layouts only: no aliases, every name as it is.
    pub const fn new(layout: fn(&ParamName) -> FileLayout) -> Self {
        fn unchanged(name: &str) -> Option<Cow<'_, str>> {
            Some(Cow::Borrowed(name))
        }
        Naming { layout, aliases: &[], spelling: unchanged, prefix: "", optional: &[] }
    }

    /// The same with [`Naming::aliases`].
    #[must_use]
    pub const fn with_aliases(self, aliases: &'static [(&'static str, &'static str)]) -> Self {
        Naming { aliases, ..self }
    }

    /// The same with [`Naming::prefix`] and [`Naming::optional`].
    #[must_use]
    pub const fn with_parts(self, prefix: &'static str, optional: &'static [&'static str]) -> Self {
        Naming { prefix, optional, ..self }
    }

    /// The same with [`Naming::spelling`].
    #[must_use]
    pub const fn with_spelling(self, spelling: fn(&str) -> Option<Cow<'_, str>>) -> Self {
        Naming { spelling, ..self }
    }
}

/// One tensor of the walk and where it goes.
#[derive(Debug)]
pub(super) struct Planned {
    /// Names of its file tensors, in the order of their values.
    pub(super) files: Vec<String>,
    /// The shape of each of them.
    pub(super) file_shape: Vec<usize>,
    /// The shape in memory.
    pub(super) shape: Vec<usize>,
    /// What turns one into the other.
    pub(super) layout: FileLayout,
}

/// Every tensor of the module, in its order.
///
/// # Errors
/// [`Error::Layout`], [`Error::Parts`] or [`Error::Twice`] where module and naming do not fit.
pub(super) fn plan<D: Backend, M: Module<D>>(
    module: &M,
    naming: &Naming,
    file: &Path,
) -> Result<Vec<Planned>> {
    struct List(Vec<(ParamName, Vec<usize>)>);
    impl<D: Backend> Visitor<D> for List {
        fn visit<S: NamedShape>(
            &mut self,
            name: &ParamName,
            _: Role,
            tensor: &mut Param<S, D>,
        ) -> msg_core::Result<()> {
            self.0.push((name.clone(), tensor.shape().concrete().into_iter().collect()));
            Ok(())
        }
    }
    let mut list = List(Vec::new());
    module.inspect(&mut list)?;

    let mut plan = Vec::with_capacity(list.0.len());
    // The format keeps this name for its metadata.
    let mut taken = BTreeSet::from(["__metadata__".to_owned()]);
    for (name, shape) in list.0 {
        let layout = (naming.layout)(&name);
        let tensor = name.to_string();
        let (file_shape, expected) = file_shape(layout, &tensor, &shape)?;
        let files = expanded(&tensor);
        if files.len() != expected {
            return Err(Error::Parts { tensor, layout, expected, got: files.len() });
        }
        if let Some(name) = files.iter().find(|&name| !taken.insert(name.clone())) {
            return Err(Error::Twice { file: file.to_owned(), tensor: name.clone() });
        }
        plan.push(Planned { files, file_shape, shape, layout });
    }
    Ok(plan)
}

/// The names that a brace pattern stands for: `a.{b,c}.d` for `a.b.d` and `a.c.d`.
fn expanded(pattern: &str) -> Vec<String> {
    let braces = pattern.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
    match braces {
        None => vec![pattern.to_owned()],
        Some((before, (choices, after))) => {
            choices.split(',').map(|choice| format!("{before}{choice}{after}")).collect()
        }
    }
}

/// The shape of each file tensor of a tensor, and how many there are.
fn file_shape(layout: FileLayout, tensor: &str, shape: &[usize]) -> Result<(Vec<usize>, usize)> {
    match (layout, shape) {
        (FileLayout::AsIs, _) => Ok((shape.to_vec(), 1)),
        (FileLayout::Merged, [first, second, rest @ ..]) => Ok(([&[first * second], rest].concat(), 1)),
        (FileLayout::Transposed, [rows @ .., last]) if !rows.is_empty() => {
            Ok((vec![*last, rows.iter().product()], 1))
        }
        (FileLayout::Split, [parts, rest @ ..]) if !rest.is_empty() => Ok((rest.to_vec(), *parts)),
        (layout, _) => Err(Error::Layout { tensor: tensor.to_owned(), layout, shape: shape.to_vec() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brace_pattern_stands_for_its_choices_and_a_plain_name_for_itself() {
        assert_eq!(
            expanded("self.{query,key,value}.bias"),
            ["self.query.bias", "self.key.bias", "self.value.bias"]
        );
        assert_eq!(expanded("ln_f.weight"), ["ln_f.weight"]);
        assert_eq!(expanded("odd.{name"), ["odd.{name"]);
    }
}
