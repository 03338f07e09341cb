//! Parity receipts for a checkpoint and sizes that it could grow to.
//!
//! Each axis grows by itself, then all of them together; each time the outputs on a fixed batch before and
//! after are compared. New entries of every kind are drawn at random and wide, whatever the run's own
//! initialisation: zeros or copies would hide a forgotten mask. The last receipt is that of a ramp's end:
//! masks that are 1 throughout against none, all axes grown, ramps of the checkpoint included.

use crate::{
    checkpoint::{self, Header},
    config::size_spec::Target,
    error::Result,
    families::{
        family::{Family, HostOf, Trainable},
        registry::{ForFamily, Listed, with_family},
    },
    parity::{
        measure::{compare, measure, on_device},
        own_batch::{BatchOf, CheckpointOf, OwnBatch, own_batch},
        receipt::Receipt,
    },
    text::table::aligned,
};
use msg_core::{
    Backend,
    growth::{FillRule, Masked, Preserves, Ramp},
};
use msg_models::{DepthInit, Grows, GrowthSpec, Masks, Sizes, WidthInit};
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Standard deviation of new entries: ten times that of a fresh model.
const STD: f32 = 0.2;
/// Seed of new entries.
const SEED: u64 = 0;
/// A step by which every ramp is over.
const FAR: u64 = i64::MAX as u64;

/// One comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What grew, or ended.
    pub what: &'static str,
    /// Sizes before.
    pub from: Sizes,
    /// Sizes after.
    pub to: Sizes,
    /// What came of it.
    pub receipt: Receipt,
}

/// The receipts of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    /// The checkpoint.
    pub checkpoint: PathBuf,
    /// Its family.
    pub family: &'static str,
    /// Its sizes.
    pub sizes: Sizes,
    /// Whether any of its units or layers is still on a ramp.
    pub ramping: bool,
    /// What the receipts were taken on.
    pub batch: BatchOf,
    /// Sequences of the batch, and their length.
    pub shape: (usize, usize),
    /// The receipts.
    pub rows: Vec<Row>,
}

/// Takes the receipts of the checkpoint that `path` means, grown to `target`; without one, each axis grows
/// a bit.
///
/// # Errors
/// What the checkpoint, the target or the device refuse. A receipt that does not hold is no error: see
/// [`Verification::holds`].
pub fn verify<D: Backend>(device: &D, path: &Path, target: Option<Target>) -> Result<Verification> {
    struct Verify<'a, D>(&'a D, &'a Path, Option<Target>);
    impl<D: Backend> ForFamily<D> for Verify<'_, D> {
        type Out = Result<Verification>;
        fn with<M: Listed<D>>(self) -> Result<Verification> {
            verify_as::<D, M>(self.0, self.1, self.2)
        }
    }
    let path = checkpoint::find(path)?;
    with_family(&checkpoint::family_of(&path)?, &path, Verify(device, &path, target))?
}

/// As [`verify`], of the family `M`, which need not be in the list.
///
/// # Errors
/// As [`verify`].
pub fn verify_as<D: Backend, M: Family<D>>(
    device: &D,
    path: &Path,
    target: Option<Target>,
) -> Result<Verification> {
    let path = checkpoint::find(path)?;
    let config = checkpoint::config_of(&path, &[M::RULES])?;
    let (model, Header { state, growing, .. }) = checkpoint::load_model::<D, M>(&path, device)?;
    let to = target.map_or_else(|| Ok(larger(growing.sizes)), |target| target.of(growing.sizes))?;
    let tokenizer = checkpoint::tokenizer_bytes(&path);
    let of = CheckpointOf { path: &path, run: config.as_ref(), stage: state.stage, tokenizer: &tokenizer };
    let OwnBatch { of: batch, host, shape } = own_batch(of, &model);
    let rows = receipts(&model, state.step, &host, to, &|masks| masks)?;
    Ok(Verification {
        checkpoint: path,
        family: M::RULES.name,
        sizes: growing.sizes,
        ramping: !growing.ramps.is_empty(),
        batch,
        shape,
        rows,
    })
}

/// The receipts of a model that stands after the step `step`, grown to `to`, on one batch. The grown models
/// see their masks through `hook`: one that leaves a mask out shows that the receipts fail then.
///
/// # Errors
/// Where the model cannot become so large, or the device fails.
pub fn receipts<D: Backend, M: Trainable<D>>(
    model: &M,
    step: u64,
    host: &HostOf<D, M>,
    to: Sizes,
    hook: &dyn Fn(Masks<D>) -> Masks<D>,
) -> Result<Vec<Row>> {
    let from = model.growing().sizes;
    let before = measure(model, host, &model.masks(step)?)?;
    let mut rows = Vec::new();
    for (axis, _, size) in from.changes(to) {
        let (what, to) = (axis.key(), from.with(axis, size));
        let grown = grown(model, step, to)?;
        let after = measure(&grown, host, &hook(grown.masks(step)?))?;
        rows.push(Row {
            what,
            from,
            to,
            receipt: compare(None, on_device::<D>(Preserves::Bits), &before, &after),
        });
    }
    let grown = grown(model, step, to)?;
    if rows.len() > 1 {
        let after = measure(&grown, host, &hook(grown.masks(step)?))?;
        rows.push(Row {
            what: "together",
            from,
            to,
            receipt: compare(None, on_device::<D>(Preserves::Bits), &before, &after),
        });
    }
    let kept = measure(&grown, host, &hook(grown.masks_kept(FAR)?))?;
    let dropped = measure(&grown, host, &grown.masks(FAR)?)?;
    rows.push(Row {
        what: "ramp end",
        from: to,
        to,
        receipt: compare(None, on_device::<D>(Preserves::Bits), &kept, &dropped),
    });
    Ok(rows)
}

/// The model grown with wide random entries, its new units and layers at the start of a ramp.
fn grown<D: Backend, M: Trainable<D>>(model: &M, step: u64, to: Sizes) -> Result<M> {
    let spec = GrowthSpec { seed: SEED, number: 1, units: WidthInit::Normal, layers: DepthInit::Fresh };
    let growth = model.growth_to(to, &spec)?;
    let operator = Masked { rule: FillRule::Scatter { std: STD } };
    Ok(model.grown(&growth, &operator, Ramp { start: step as i64, length: 1 })?)
}

/// Each axis a quarter larger, layers and heads by one.
fn larger(from: Sizes) -> Sizes {
    from.iter().fold(from, |sizes, (axis, size)| {
        let more = if let Grows::Width(_) = axis.grows() { size.div_ceil(4) } else { 1 };
        sizes.with(axis, size + more)
    })
}

impl Verification {
    /// Whether every receipt holds.
    pub fn holds(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.receipt.holds())
    }
}

impl fmt::Display for Verification {
    /// The checkpoint, the batch, and a line for each receipt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verification { checkpoint, family, sizes, ramping, batch, shape: (sequences, length), rows } =
            self;
        let named: Vec<String> = sizes.iter().map(|(axis, size)| format!("{} {size}", axis.key())).collect();
        let named = named.join(", ");
        let ramp = if *ramping { ", inside a ramp" } else { "" };
        writeln!(f, "{}: {family}, {named}{ramp}", checkpoint.display())?;
        writeln!(
            f,
            "{batch}, {sequences} sequences of {length}; new entries normal, standard deviation {STD}\n"
        )?;
        let mut lines = vec![
            ["axis", "from", "to", "max |dlogit|", "dloss", "outputs", "verdict"].map(str::to_owned).to_vec(),
        ];
        lines.extend(rows.iter().map(Row::cells));
        f.write_str(&aligned(&lines))
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let Row { what, from, to, receipt } = self;
        let mut changed = from.changes(*to);
        let (old, new) = match (changed.next(), changed.next()) {
            (Some((_, old, new)), None) => (old.to_string(), new.to_string()),
            (None, _) => ("masks of 1".to_owned(), "none".to_owned()),
            _ => ("all".to_owned(), "all".to_owned()),
        };
        let verdict = match receipt.holds() {
            true if receipt.tolerance == 0.0 => "holds to the bit".to_owned(),
            true => format!("holds (tolerance {:.1e})", receipt.tolerance),
            false => format!("FAILS: {} differ, tolerance {:.1e}", receipt.differing, receipt.tolerance),
        };
        vec![
            (*what).to_owned(),
            old,
            new,
            format!("{:.2e}", receipt.max_dlogit),
            format!("{:.2e}", receipt.dloss),
            receipt.outputs.to_string(),
            verdict,
        ]
    }
}
