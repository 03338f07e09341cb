//! A checkpoint of another stage of its run's schedule, or with its tensors stored in another type.

use super::{
    parity::{Before, Given, Parity},
    provenance::{self, Maps, Step},
    source::{Place, Source},
};
use crate::{
    checkpoint::{self, ModelSnapshot, save_model},
    config::Resolved,
    error::{Error, Result},
    families::{
        family::Family,
        registry::{ForFamily, Listed, with_family},
    },
    files::new_folder::check_free,
    schedule::plan::Plan,
    step::{
        growth_method::{enlarge, listed, spec_of},
        state::State,
    },
};
use msg_core::{
    Backend,
    growth::{Preserves, Ramp},
};
use msg_models::{
    Sizes,
    hf::{Format, StoredType},
};
use std::path::{Path, PathBuf};

/// What to convert, and to what.
#[derive(Clone, Debug)]
pub struct Conversion {
    /// A checkpoint, or a run.
    pub from: PathBuf,
    /// The checkpoint to make.
    pub out: PathBuf,
    /// The stage of the run's schedule to grow to, from 1; by default the present one.
    pub stage: Option<usize>,
    /// How tensors are stored; by default as they are.
    pub stored: Option<StoredType>,
    /// What the receipt of a growth is taken on.
    pub given: Given,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// The checkpoint.
    pub path: PathBuf,
    /// Stage and sizes before and after.
    pub from: (usize, Sizes),
    /// After.
    pub to: (usize, Sizes),
    /// The receipt of the growth, where there was one.
    pub parity: Option<Parity>,
}

/// Converts a checkpoint. The result holds the model alone: moments belong to the run.
///
/// # Errors
/// Where the stage is an earlier one, the receipt does not hold, a value has no place in the type, `out` is
/// there, or files, device or system refuse.
pub fn convert<D: Backend>(device: &D, request: &Conversion) -> Result<Converted> {
    check_free(&request.out)?;
    if request.stage.is_none() && request.stored.is_none() {
        let expected = "a stage or a type to convert to".into();
        return Err(Error::Argument { name: "stage", expected, got: "neither".into() });
    }
    let path = checkpoint::find(&request.from)?;
    struct Work<'a, D>(&'a D, &'a Path, &'a Conversion);
    impl<D: Backend> ForFamily<D> for Work<'_, D> {
        type Out = Result<Converted>;
        fn with<M: Listed<D>>(self) -> Result<Converted> {
            convert_as::<D, M>(self.0, self.1, self.2)
        }
    }
    with_family(&checkpoint::family_of(&path)?, &path, Work(device, &path, request))?
}

fn convert_as<D: Backend, M: Family<D>>(device: &D, path: &Path, request: &Conversion) -> Result<Converted> {
    let mut source = Source::<M>::open_in_file(device, Place::Checkpoint(path.to_owned()), 0)?;
    let from = (source.state.stage, source.model.growing().sizes);
    let mut growths = Vec::new();
    let mut parity = None;
    if let Some(stage) = request.stage {
        let config = staged(&source, stage)?;
        if stage > from.0 {
            source = source.loaded::<D>()?;
            let before = Before::measure(&source, &request.given)?;
            let preserves;
            (source.model, growths, preserves) = through(source.model, &source.state, &config, stage)?;
            source.state.stage = stage;
            let masks = source.model.masks(source.state.step)?;
            let compared = before.compare(&source.model, &masks, preserves)?;
            if preserves != Preserves::No {
                compared.receipt.check(&format!("growth into stage {stage}"))?;
            }
            parity = Some(compared);
        }
    }
    let to = (source.state.stage, source.model.growing().sizes);
    let mut steps = source.steps.clone();
    steps.push(Step {
        operation: "convert".into(),
        source: source.name(),
        source_blake3: source.hash.clone(),
        from: from.1,
        to: to.1,
        receipt: parity.as_ref().map(|parity| parity.receipt.into()),
        growths,
    });
    let notes = provenance::notes(&steps)?;
    let of_grown = parity.is_some().then_some(StoredType::F32);
    let stored = |name: &str| request.stored.or(of_grown).unwrap_or(source.stored_as(name));
    let values = source.values::<D>()?;
    let snapshot = ModelSnapshot {
        model: &source.model,
        state: &source.state,
        config: source.config.as_ref().map(|(_, text)| text.as_str()),
        tokenizer: source.tokenizer.as_ref().map(|tokenizer| tokenizer.json()),
        origin: source.origin.as_ref(),
        format: Format { stored: &stored, values: values.as_ref(), ..Format::plain(&notes) },
    };
    save_model(&request.out, &snapshot)?;
    Ok(Converted { path: request.out.clone(), from, to, parity })
}

/// The configuration that says what a stage is.
fn staged<M>(source: &Source<M>, stage: usize) -> Result<Resolved> {
    let refused = |expected: String| Error::Argument { name: "stage", expected, got: stage.to_string() };
    let Some((config, _)) = &source.config else {
        return Err(refused("none: the model has no run whose schedule says what a stage is".into()));
    };
    let (present, last) = (source.state.stage, config.stages().len());
    if (present.max(1)..=last).contains(&stage) {
        return Ok(config.clone());
    }
    Err(refused(format!(
        "{present} to {last}: from the present stage, since models do not shrink, to the last"
    )))
}

/// Grows the model through the boundaries up to a stage, as its run would.
fn through<D: Backend, M: Family<D>>(
    mut model: M,
    state: &State,
    config: &Resolved,
    stage: usize,
) -> Result<(M, Vec<Maps>, Preserves)> {
    let plan = Plan::new(config);
    let start = i64::try_from(state.step).unwrap_or(i64::MAX);
    let (mut growths, mut preserves) = (Vec::new(), Preserves::Bits);
    let later = plan.stages().iter().filter(|next| (state.stage + 1..=stage).contains(&next.number));
    for next in later {
        let Some(boundary) = &next.boundary else { continue };
        let spec = spec_of(boundary, config.run().seed);
        let ramp = Ramp { start, length: boundary.ramp.length };
        let method = listed::<D, M>(boundary.growth.operator, boundary.growth.units);
        preserves = weaker(preserves, method.preserves());
        let growth;
        (model, growth) = enlarge(model, next.sizes, &spec, ramp, &*method)?;
        growths.push(Maps::of(&growth, spec.seed, spec.units, spec.layers));
    }
    Ok((model, growths, preserves))
}

/// What two growths in a row promise.
fn weaker(first: Preserves, second: Preserves) -> Preserves {
    match (first, second) {
        (Preserves::Bits, other) | (other, Preserves::Bits) => other,
        (Preserves::Within(a), Preserves::Within(b)) => Preserves::Within(a + b),
        _ => Preserves::No,
    }
}
