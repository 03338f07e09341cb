//! Growth of a model that is there: behind masks for training here, or exactly for any program.

use super::{
    export::{DEFAULT_LARGEST, Outcome, write_published},
    parity::{Before, Given, Parity},
    provenance::{self, Maps, Step},
    source::{Place, Source},
};
use crate::{
    checkpoint::{ModelSnapshot, save_model},
    config::{operators::OperatorKind, size_spec::Target},
    error::{Error, Result},
    families::registry::{ForFamily, Listed, with_family},
    files::new_folder::check_free,
    step::growth_method::{enlarge, listed},
};
use msg_core::{
    Backend,
    growth::{Preserves, Ramp},
};
use msg_models::{
    DepthInit, GrowthSpec, Sizes, WidthInit, function_preserving,
    hf::{Format, StoredType},
};
use std::path::PathBuf;

/// Largest difference that a growth without masks makes, as a share of the largest logit.
const EXACT_TOLERANCE: f64 = 1e-5;

/// What to grow, and how.
#[derive(Clone, Debug)]
pub struct GrowRequest {
    /// A checkpoint, a run, or a published folder.
    pub from: PathBuf,
    /// The new sizes.
    pub to: Target,
    /// The folder to make.
    pub out: PathBuf,
    /// Whether the function is kept by the weights alone: the result is a published folder.
    pub exact: bool,
    /// What new units start from.
    pub units: WidthInit,
    /// Where new layers stand and what they start from.
    pub layers: DepthInit,
    /// Seed of new entries.
    pub seed: u64,
    /// Steps over which the masks rise in training.
    pub ramp: u64,
    /// What the receipt is taken on.
    pub given: Given,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Grown {
    /// The folder.
    pub path: PathBuf,
    /// The name of its family.
    pub family: &'static str,
    /// Sizes, head size and parameters before and after.
    pub from: (Sizes, usize, usize),
    /// After.
    pub to: (Sizes, usize, usize),
    /// The receipt.
    pub parity: Parity,
    /// What the user should know.
    pub remarks: Vec<String>,
}

/// Grows a model. The function is compared before anything is written.
///
/// # Errors
/// Where a size shrinks, an exact growth is not exact (the reason is said), the receipt does not hold, `out` is
/// there, or files, device or system refuse.
pub fn grow<D: Backend>(device: &D, request: &GrowRequest) -> Result<Grown> {
    check_free(&request.out)?;
    if request.ramp == 0 {
        let expected = "at least 1 step: without a ramp the function jumps at the first one".into();
        return Err(Error::Argument { name: "ramp", expected, got: "0".into() });
    }
    let place = Place::find(&request.from)?;
    struct Work<'a, D>(&'a D, Place, &'a GrowRequest);
    impl<D: Backend> ForFamily<D> for Work<'_, D> {
        type Out = Result<Grown>;
        fn with<M: Listed<D>>(self) -> Result<Grown> {
            grow_as::<D, M>(self.0, self.1, self.2)
        }
    }
    let family = place.family()?;
    with_family(&family, &request.from, Work(device, place, request))?
}

fn grow_as<D: Backend, M: Listed<D>>(device: &D, place: Place, request: &GrowRequest) -> Result<Grown> {
    let mut source = Source::<M>::open(device, place, request.seed)?;
    let told = |model: &M| (model.growing().sizes, model.growing().head_dim, model.num_params());
    let from = told(&source.model);
    let sizes = request.to.of(from.0)?;
    has_room(source.model.params_at(sizes))?;
    let spec = GrowthSpec { seed: request.seed, number: 1, units: request.units, layers: request.layers };
    let plan = function_preserving::Plan::new(source.model.growing(), M::FORM.order, sizes, spec.units);
    let plan = match (request.exact, plan) {
        (true, Ok(plan)) => Some(plan),
        (true, Err(reason)) => {
            return Err(Error::Argument {
                name: "exact",
                expected: "sizes to which the model grows exactly".into(),
                got: reason.to_string(),
            });
        }
        (false, _) => None,
    };
    let before = Before::measure(&source, &request.given)?;
    let step = source.state.step;
    // The old model goes as the new one comes.
    let (model, growth) = match plan {
        Some(plan) => function_preserving::grow(source.model, &plan, &spec)?,
        None => {
            let start = i64::try_from(step).unwrap_or(i64::MAX);
            let ramp = Ramp { start, length: request.ramp };
            let method = listed::<D, M>(OperatorKind::Masked, spec.units);
            enlarge(source.model, sizes, &spec, ramp, &*method)?
        }
    };
    source.model = model;
    let model = &source.model;
    let preserves = if plan.is_none() { Preserves::Bits } else { Preserves::Within(EXACT_TOLERANCE) };
    let parity = before.compare(model, &model.masks(step)?, preserves)?;
    parity.receipt.check("growth")?;
    let to = told(model);
    let mut steps = source.steps.clone();
    steps.push(Step {
        operation: if request.exact { "grow --exact" } else { "grow" }.into(),
        source: source.name(),
        source_blake3: source.hash.clone(),
        from: from.0,
        to: to.0,
        growths: vec![Maps::of(&growth, spec.seed, spec.units, spec.layers)],
        receipt: Some(parity.receipt.into()),
    });
    write(&source, &steps, request)?;
    let (path, remarks) = (request.out.clone(), source.remarks);
    Ok(Grown { path, family: M::RULES.name, from, to, parity, remarks })
}

/// Refuses what the system would not lend memory for even at once, before any of it is filled.
fn has_room(parameters: u128) -> Result<()> {
    let bytes = usize::try_from(parameters.saturating_mul(size_of::<f32>() as u128));
    match bytes.map(|bytes| Vec::<u8>::new().try_reserve_exact(bytes)) {
        Ok(Ok(())) => Ok(()),
        _ => Err(Error::Argument {
            name: "to",
            expected: "sizes that fit into memory".into(),
            got: format!("{parameters} parameters"),
        }),
    }
}

fn write<D: Backend, M: Listed<D>>(source: &Source<M>, steps: &[Step], request: &GrowRequest) -> Result<()> {
    let (notes, model) = (provenance::notes(steps)?, &source.model);
    if !request.exact {
        let snapshot = ModelSnapshot {
            model,
            state: &source.state,
            config: source.config.as_ref().map(|(_, text)| text.as_str()),
            tokenizer: source.tokenizer.as_ref().map(|tokenizer| tokenizer.json()),
            origin: source.origin.as_ref(),
            format: Format::plain(&notes),
        };
        return save_model(&request.out, &snapshot);
    }
    // Means and scaled numbers have no place in fewer bits.
    let stored = |_: &str| StoredType::F32;
    let outcome = Outcome { steps, notes: &notes, run: None };
    write_published(source, &outcome, &stored, DEFAULT_LARGEST, &request.out)
}
