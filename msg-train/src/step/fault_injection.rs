//! Faults made on purpose: the proof that a growth which changes the function stops the run.
//!
//! Only tests ask for one; no configuration and no command of `msg` can.

use crate::error::{Error, Result};
use msg_core::{
    Backend,
    axis::NamedShape,
    params::{Module, Param, ParamName, Role, Visitor},
};
use msg_models::{MaskPlace, MaskSite, Masks};
use std::str::FromStr;

/// What goes wrong at every growth, between the growth and its receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An old entry of the grown model has another value: the first one of its first parameter.
    AlteredEntry,
    /// The mask of one site is left out.
    OmittedMask(MaskSite),
}

impl Fault {
    /// Applies it to a grown model and the masks that its receipt is taken with.
    pub(crate) fn apply<D: Backend, M: Module<D>>(self, model: &mut M, masks: Masks<D>) -> Result<Masks<D>> {
        match self {
            Fault::OmittedMask(site) => return Ok(masks.without(site)),
            Fault::AlteredEntry => model.walk(&ParamName::root(), &mut Alter { done: false })?,
        }
        Ok(masks)
    }
}

/// Adds 1 to the first entry of the first parameter. Old units come first on every axis.
struct Alter {
    done: bool,
}

impl<D: Backend> Visitor<D> for Alter {
    fn visit<S: NamedShape>(
        &mut self,
        _: &ParamName,
        _: Role,
        tensor: &mut Param<S, D>,
    ) -> msg_core::Result<()> {
        let mut values = tensor.as_vec();
        if let (false, Some(entry)) = (self.done, values.first_mut()) {
            *entry += 1.0;
            tensor.copy_from(&values);
            self.done = true;
        }
        Ok(())
    }
}

/// The places by their names in a fault's text.
const PLACES: [(&str, MaskPlace); 11] = [
    ("embedding-norm", MaskPlace::EmbeddingNorm),
    ("attention-norm", MaskPlace::AttentionNorm),
    ("feed-forward-norm", MaskPlace::FeedForwardNorm),
    ("final-norm", MaskPlace::FinalNorm),
    ("transform-norm", MaskPlace::TransformNorm),
    ("pooler", MaskPlace::Pooler),
    ("feed-forward", MaskPlace::FeedForward),
    ("query", MaskPlace::Query),
    ("key", MaskPlace::Key),
    ("value", MaskPlace::Value),
    ("layer", MaskPlace::Layer),
];

impl FromStr for Fault {
    type Err = Error;

    /// `altered-entry`; `omitted-mask:PLACE` outside the layers, or `omitted-mask:PLACE:LAYER`.
    fn from_str(text: &str) -> Result<Self> {
        let refused = || Error::Config {
            file: "fault".into(),
            key: text.into(),
            expected: "altered-entry, omitted-mask:PLACE or omitted-mask:PLACE:LAYER".into(),
            got: "another text".into(),
        };
        if text == "altered-entry" {
            return Ok(Fault::AlteredEntry);
        }
        let site = text.strip_prefix("omitted-mask:").ok_or_else(refused)?;
        let (name, layer) = match site.split_once(':') {
            Some((name, layer)) => (name, Some(layer.parse().map_err(|_| refused())?)),
            None => (site, None),
        };
        let (_, place) = *PLACES.iter().find(|(known, _)| *known == name).ok_or_else(refused)?;
        Ok(Fault::OmittedMask(MaskSite { layer, place }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_from_its_text() {
        let omitted = |layer, place| Fault::OmittedMask(MaskSite { layer, place });
        for (text, fault) in [
            ("altered-entry", Fault::AlteredEntry),
            ("omitted-mask:final-norm", omitted(None, MaskPlace::FinalNorm)),
            ("omitted-mask:value:3", omitted(Some(3), MaskPlace::Value)),
        ] {
            assert_eq!(text.parse::<Fault>().unwrap(), fault);
        }
        for text in
            ["", "altered", "omitted-mask", "omitted-mask:", "omitted-mask:value:", "omitted-mask:heart:1"]
        {
            let error = text.parse::<Fault>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("fault: {text}: expected altered-entry, ")), "{error}");
        }
    }
}
