//! What a parity receipt is taken on, and the receipt with it.

use crate::{
    error::{Error, Result},
    families::{
        family::{Family, HostOf},
        objective::Objective,
    },
    files::bounded_json,
    interop::source::Source,
    parity::{
        measure::{Measured, compare, measure, on_device},
        own_batch::{CheckpointOf, OwnBatch, own_batch},
        receipt::Receipt,
    },
};
use msg_core::{Backend, device::release_buffers, growth::Preserves};
use msg_models::Masks;
use std::path::PathBuf;

/// Tokens of a text that a receipt is taken on, at most.
const LONGEST: usize = 128;
/// Bytes of a text that are read.
const MOST_TEXT: u64 = 16 << 20;

/// What the user gave for the receipt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Given {
    /// Nothing: held-out text of the model's own run, or random ids.
    #[default]
    Nothing,
    /// A file of text.
    Text(PathBuf),
    /// Token ids.
    Ids(Vec<u32>),
}

/// A receipt and what it was taken on.
#[derive(Clone, Debug, PartialEq)]
pub struct Parity {
    /// In words.
    pub batch: String,
    /// Sequences, and their length.
    pub shape: (usize, usize),
    /// What was measured.
    pub receipt: Receipt,
}

/// A batch and what a model put out on it.
pub(super) struct Before<D: Backend, M: Family<D>> {
    batch: String,
    shape: (usize, usize),
    host: HostOf<D, M>,
    measured: Measured,
}

impl<D: Backend, M: Family<D>> Before<D, M> {
    /// Measures a source before anything is changed.
    pub(super) fn measure(source: &Source<M>, given: &Given) -> Result<Self> {
        let (batch, host, shape) = host(source, given)?;
        let measured = measure(&source.model, &host, &source.model.masks(source.state.step)?)?;
        // What follows needs room for a second model, not for a second pass.
        release_buffers();
        Ok(Before { batch, shape, host, measured })
    }

    /// Compares a model under these masks, by what its growth or fold promises.
    pub(super) fn compare(&self, model: &M, masks: &Masks<D>, preserves: Preserves) -> Result<Parity> {
        let after = measure(model, &self.host, masks)?;
        let receipt = compare(None, on_device::<D>(preserves), &self.measured, &after);
        Ok(Parity { batch: self.batch.clone(), shape: self.shape, receipt })
    }
}

fn host<D: Backend, M: Family<D>>(
    source: &Source<M>,
    given: &Given,
) -> Result<(String, HostOf<D, M>, (usize, usize))> {
    let model = &source.model;
    match given {
        Given::Nothing => {
            let tokenizer = source.tokenizer.as_ref().map_or(&[][..], |tokenizer| tokenizer.json());
            let run = source.config.as_ref().map(|(config, _)| config);
            let of = CheckpointOf { path: source.place.path(), run, stage: source.state.stage, tokenizer };
            let OwnBatch { of, host, shape } = own_batch(of, model);
            Ok((of.to_string(), host, shape))
        }
        Given::Ids(ids) => {
            if !(1..=model.positions()).contains(&ids.len()) {
                let expected = format!("1 to {} ids, the model's positions", model.positions());
                return Err(Error::Argument { name: "ids", expected, got: ids.len().to_string() });
            }
            let shape = (1, ids.len());
            Ok(("the ids given".to_owned(), <M::Objective>::of_ids(model, ids.clone(), shape), shape))
        }
        Given::Text(path) => {
            let Some(tokenizer) = &source.tokenizer else {
                return Err(Error::Argument {
                    name: "text",
                    expected: "a model with a tokenizer (ids serve without one)".into(),
                    got: "none".into(),
                });
            };
            let text = String::from_utf8_lossy(&bounded_json::bytes(path, MOST_TEXT)?).into_owned();
            let most = LONGEST.min(model.positions());
            let ids = tokenizer.specials().around(tokenizer.encode(&text)?, most);
            if ids.is_empty() {
                let message = "expected text, got none".to_owned();
                return Err(Error::Data { path: path.clone(), message });
            }
            let shape = (1, ids.len());
            Ok((format!("text of {}", path.display()), <M::Objective>::of_ids(model, ids, shape), shape))
        }
    }
}
