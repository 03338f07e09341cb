//! Names of parameters: a dotted path that knows which layer it stands in.

use std::fmt;

/// A parameter's place in its module: `transformer.h.3.ln_1.weight`, with the 3 known as the layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamName {
    stem: String,
    layer: Option<usize>,
    leaf: String,
}

impl ParamName {
    /// The empty name that a walk starts from.
    pub fn root() -> Self {
        Self::default()
    }

    /// One step down.
    #[must_use]
    pub fn join(&self, step: &str) -> Self {
        let mut name = self.clone();
        let part = if name.layer.is_some() { &mut name.leaf } else { &mut name.stem };
        if !part.is_empty() {
            part.push('.');
        }
        part.push_str(step);
        name
    }

    /// One step down into the layer `index` of a stack called `stack`.
    #[must_use]
    pub fn layer_of(&self, stack: &str, index: usize) -> Self {
        ParamName { layer: Some(index), ..self.join(stack) }
    }

    /// The layer that the parameter belongs to, if any.
    pub fn layer(&self) -> Option<usize> {
        self.layer
    }

    /// The same parameter of another layer.
    #[must_use]
    pub fn at_layer(&self, layer: usize) -> Self {
        ParamName { layer: Some(layer), ..self.clone() }
    }
}

impl fmt::Display for ParamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.stem)?;
        if let Some(layer) = self.layer {
            write!(f, ".{layer}")?;
        }
        if !self.leaf.is_empty() {
            write!(f, ".{}", self.leaf)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_as_its_path_and_moves_between_layers() {
        let name = ParamName::root().join("transformer").layer_of("h", 3).join("ln_1").join("weight");
        assert_eq!(name.to_string(), "transformer.h.3.ln_1.weight");
        assert_eq!(name.at_layer(12).to_string(), "transformer.h.12.ln_1.weight");
        assert_eq!((name.layer(), ParamName::root().join("wte").layer()), (Some(3), None));
    }
}
