//! A checkpoint to a folder that transformers loads, with a card that says what the model is.

use super::{
    card::{Card, card},
    folder::{Contents, write_folder},
    parity::{Before, Given, Parity},
    provenance::{self, Step},
    source::{Place, Source},
};
use crate::{
    checkpoint,
    error::{Error, Result},
    families::registry::{ForFamily, Listed, with_family},
    files::{
        atomic::write_synced,
        new_folder::{check_free, fresh_folder},
    },
};
use msg_core::{Backend, growth::Preserves};
use msg_models::{
    Sizes,
    function_preserving::{Folded, check_foldable, fold},
    hf::{StoredType, Unrepresentable, representable},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Largest difference that a fold makes, as a share of the largest logit: sums have other factors.
const FOLD_TOLERANCE: f64 = 1e-5;
/// The card's name.
const CARD: &str = "README.md";
/// Bytes of one file of weights at most, where nothing else is said: as transformers has it.
pub const DEFAULT_LARGEST: u64 = 5_000_000_000;

/// What to export, and how.
#[derive(Clone, Debug)]
pub struct Export {
    /// A checkpoint, or a run.
    pub from: PathBuf,
    /// The folder to make.
    pub out: PathBuf,
    /// Whether masks and spare heads go into weights where that is exact.
    pub fold: bool,
    /// How tensors are stored; by default as they are.
    pub stored: Option<StoredType>,
    /// Bytes of one file of weights at most.
    pub largest: u64,
    /// What the receipt of a fold is taken on.
    pub given: Given,
}

/// What was exported.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// The folder.
    pub path: PathBuf,
    /// The checkpoint.
    pub checkpoint: PathBuf,
    /// Sizes as transformers has them.
    pub sizes: Sizes,
    /// Its parameters.
    pub parameters: usize,
    /// What was folded and what that did to the function, where something was.
    pub folded: Option<(Folded, Parity)>,
}

/// Makes the folder of a checkpoint.
///
/// # Errors
/// Where transformers cannot represent the model and it is not to be folded, or cannot; where the fold changes
/// the function; what files, device or system refuse.
pub fn export<D: Backend>(device: &D, request: &Export) -> Result<Exported> {
    check_free(&request.out)?;
    let path = checkpoint::find(&request.from)?;
    struct Work<'a, D>(&'a D, &'a Path, &'a Export);
    impl<D: Backend> ForFamily<D> for Work<'_, D> {
        type Out = Result<Exported>;
        fn with<M: Listed<D>>(self) -> Result<Exported> {
            export_as::<D, M>(self.0, self.1, self.2)
        }
    }
    with_family(&checkpoint::family_of(&path)?, &path, Work(device, &path, request))?
}

/// As [`export`], of the family `M`, which need not be in the list.
///
/// # Errors
/// As [`export`].
pub fn export_as<D: Backend, M: Listed<D>>(device: &D, path: &Path, request: &Export) -> Result<Exported> {
    let Export { out, stored, largest, given, .. } = request;
    let mut source = Source::<M>::open_in_file(device, Place::Checkpoint(path.to_owned()), 0)?;
    let from = source.model.growing().sizes;
    let mut steps = source.steps.clone();
    let folded = match representable(source.model.growing()) {
        Ok(()) => None,
        Err(reason) => {
            check_folding::<D, M>(&source, &reason, request.fold)?;
            let parity;
            (source, parity) = folded(source.loaded::<D>()?, given)?;
            Some(parity)
        }
    };
    let sizes = source.model.growing().sizes;
    if let Some((_, parity)) = &folded {
        steps.push(Step {
            operation: "export --fold".into(),
            source: source.name(),
            source_blake3: source.hash.clone(),
            from,
            to: sizes,
            growths: Vec::new(),
            receipt: Some(parity.receipt.into()),
        });
    }
    let notes = provenance::notes(&steps)?;
    // What a fold multiplied is no longer a number of fewer bits.
    let of_folded = folded.is_some().then_some(StoredType::F32);
    let stored_as = |name: &str| stored.or(of_folded).unwrap_or(source.stored_as(name));
    let run = run_of(path);
    let outcome = Outcome { steps: &steps, notes: &notes, run: run.as_deref() };
    write_published(&source, &outcome, &stored_as, *largest, out)?;
    let parameters = source.model.num_params();
    Ok(Exported { path: out.clone(), checkpoint: path.to_owned(), sizes, parameters, folded })
}

/// What is said of a model on its way out.
#[derive(Clone, Copy)]
pub(super) struct Outcome<'a> {
    pub(super) steps: &'a [Step],
    pub(super) notes: &'a BTreeMap<String, String>,
    /// The run whose schedule and figures the card shows.
    pub(super) run: Option<&'a Path>,
}

/// Makes the published folder `out` of what came of a source, with its card.
///
/// # Errors
/// Where transformers cannot represent the model, or the system refuses.
pub(super) fn write_published<D: Backend, M: Listed<D>>(
    source: &Source<M>,
    outcome: &Outcome<'_>,
    stored: &dyn Fn(&str) -> StoredType,
    largest: u64,
    out: &Path,
) -> Result<()> {
    let (Outcome { steps, notes, run }, model) = (*outcome, &source.model);
    let (tokenizer, origin) = (source.tokenizer.as_ref(), source.origin.as_ref());
    let positions = model.positions();
    let values = source.values::<D>()?;
    let contents = Contents { tokenizer, origin, stored, largest, notes, positions, values: values.as_ref() };
    let config = source.config.as_ref().map(|(config, _)| config);
    let card = card(&Card {
        family: M::CARD,
        growing: model.growing(),
        vocab: tokenizer.map(|tokenizer| tokenizer.vocab()),
        positions,
        parameters: model.num_params(),
        state: &source.state,
        config,
        cost: M::cost(&model.config_now()),
        run,
        steps,
        source_blake3: &source.hash,
        absent: origin.map(|origin| origin.absent.as_slice()).unwrap_or_default(),
    })?;
    fresh_folder(out, |folder| {
        if let Some(reason) = write_folder(model, &contents, folder)? {
            return Err(unrepresentable(source.place.path(), &reason.to_string()));
        }
        write_synced(&folder.join(CARD), card.as_bytes())
    })
}

/// Refuses what transformers cannot represent for that reason where a fold is not wanted, or not exact.
fn check_folding<D: Backend, M: Listed<D>>(
    source: &Source<M>,
    reason: &Unrepresentable,
    wanted: bool,
) -> Result<()> {
    let refused = |words: String| Err(unrepresentable(source.place.path(), &words));
    match check_foldable(&source.model, source.state.step) {
        Err(refusal) => refused(format!("{reason}; it cannot be folded either: {refusal}")),
        Ok(()) if !wanted => refused(format!("{reason}; --fold makes weights of it, exactly")),
        Ok(()) => Ok(()),
    }
}

/// Folds the model, and shows what that does to its function.
fn folded<D: Backend, M: Listed<D>>(
    mut source: Source<M>,
    given: &Given,
) -> Result<(Source<M>, (Folded, Parity))> {
    let (path, step) = (source.place.path().to_owned(), source.state.step);
    let before = Before::measure(&source, given)?;
    let (model, folded) =
        fold(source.model, step).map_err(|refusal| unrepresentable(&path, &refusal.to_string()))?;
    let parity = before.compare(&model, &model.masks(step)?, Preserves::Within(FOLD_TOLERANCE))?;
    parity.receipt.check("fold")?;
    source.model = model;
    Ok((source, (folded, parity)))
}

fn unrepresentable(path: &Path, reason: &str) -> Error {
    Error::Checkpoint {
        path: path.to_owned(),
        message: format!("transformers cannot represent it: {reason}"),
    }
}

/// The folder of the run that a checkpoint is of, where it still stands there.
fn run_of(checkpoint: &Path) -> Option<PathBuf> {
    let run = checkpoint.parent()?.parent()?;
    run.join(crate::metrics::METRICS).is_file().then(|| run.to_owned())
}
