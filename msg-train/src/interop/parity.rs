//! What a parity receipt is taken on, and the receipt with it.

use crate::{
    data::{Specials, Tokenizer},
    error::{Error, Result},
    families::family::Task,
    files::bounded_json,
    interop::source::Source,
    parity::receipt::Receipt,
    step::stage_transition::{measure, receipt},
    verify::own_batch,
};
use msg_core::{Backend, device::release_buffers};
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
pub(super) struct Before<H> {
    batch: String,
    shape: (usize, usize),
    host: H,
    measured: (Vec<f32>, f32),
}

impl<H> Before<H> {
    /// Measures a source as it stands.
    pub(super) fn measure<D: Backend, M: Task<D, Host = H>>(
        source: &Source<M>,
        given: &Given,
    ) -> Result<Self> {
        let (batch, host, shape) = host(source, given)?;
        let measured = measure(&source.model, &host, &source.model.masks(source.state.step)?)?;
        // What follows needs room for a second model, not for a second pass.
        release_buffers();
        Ok(Before { batch, shape, host, measured })
    }

    /// Compares a model under these masks. Where the computation is another one (`exact` is not set), the
    /// tolerance is that share of the largest logit which receipts on inexact devices have.
    pub(super) fn compare<D: Backend, M: Task<D, Host = H>>(
        &self,
        model: &M,
        masks: &Masks<D>,
        exact: bool,
    ) -> Result<Parity> {
        let after = measure(model, &self.host, masks)?;
        let receipt = receipt(None, exact, &self.measured, &after);
        Ok(Parity { batch: self.batch.clone(), shape: self.shape, receipt })
    }
}

type Host<H> = (String, H, (usize, usize));

fn host<D: Backend, M: Task<D>>(source: &Source<M>, given: &Given) -> Result<Host<M::Host>> {
    let model = &source.model;
    match given {
        Given::Nothing => {
            let config = source.config.as_ref().map(|(config, _)| config);
            let (batch, host, shape) = own_batch(source.place.path(), config, &source.state, model);
            Ok((batch.to_string(), host, shape))
        }
        Given::Ids(ids) => {
            if !(1..=model.positions()).contains(&ids.len()) {
                let expected = format!("1 to {} ids, the model's positions", model.positions());
                return Err(Error::Argument { name: "ids", expected, got: ids.len().to_string() });
            }
            let shape = (1, ids.len());
            Ok(("the ids given".to_owned(), model.of_ids(ids.clone(), shape), shape))
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
            let ids = ids_of(tokenizer, &text, LONGEST.min(model.positions()))?;
            if ids.is_empty() {
                let message = "expected text, got none".to_owned();
                return Err(Error::Data { path: path.clone(), message });
            }
            let shape = (1, ids.len());
            Ok((format!("text of {}", path.display()), model.of_ids(ids, shape), shape))
        }
    }
}

/// The first ids of a text, as the family has them at the beginning of a sequence.
fn ids_of(tokenizer: &Tokenizer, text: &str, most: usize) -> Result<Vec<u32>> {
    let mut ids = tokenizer.encode(text)?;
    match tokenizer.specials() {
        Specials::Gpt { .. } => ids.truncate(most),
        Specials::Bert(_) if ids.is_empty() || most < 3 => ids.truncate(most),
        Specials::Bert(specials) => {
            ids.truncate(most - 2);
            ids.insert(0, specials.cls);
            ids.push(specials.sep);
        }
    }
    Ok(ids)
}
