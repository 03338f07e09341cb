//! Parity receipts for a checkpoint and sizes that it could grow to.
//!
//! Each axis grows by itself, then all of them together; each time the outputs on a fixed batch before and
//! after are compared. New entries of every kind are drawn at random and wide, whatever the run's own
//! initialisation: zeros or copies would hide a forgotten mask. The last receipt is that of a ramp's end:
//! masks that are 1 throughout against none, all axes grown, ramps of the checkpoint included.

use crate::{
    checkpoint::{self, Header},
    config::{Family, Resolved, size_spec::Target},
    data::Prepared,
    error::Result,
    families::family::Task,
    files::names,
    parity::receipt::Receipt,
    run::data_folder,
    step::{
        stage_transition::{RECEIPT_SEQUENCES, measure, receipt},
        state::State,
    },
    text::table::aligned,
};
use msg_core::{
    device::Backend,
    growth::{FillRule, Masked},
    mask::Ramp,
};
use msg_models::{DepthInit, Grows, GrowthSpec, Masks, Sizes, WidthInit, bert::Bert, gpt::Gpt};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Standard deviation of new entries: ten times that of a fresh model.
const STD: f32 = 0.2;
/// Seed of new entries and drawn batches.
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

/// What the receipts were taken on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Batch {
    /// The first held-out sequences (or, where none are held out, training sequences) of prepared data.
    Text(PathBuf),
    /// Random ids, and why no text.
    Drawn(String),
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Batch::Text(folder) => write!(f, "text of {}", folder.display()),
            Batch::Drawn(why) => write!(f, "random ids ({why})"),
        }
    }
}

/// The receipts of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    /// The checkpoint.
    pub checkpoint: PathBuf,
    /// Its family.
    pub family: Family,
    /// Its sizes.
    pub sizes: Sizes,
    /// Whether any of its units or layers is still on a ramp.
    pub ramping: bool,
    /// What the receipts were taken on.
    pub batch: Batch,
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
    let path = checkpoint::find(path)?;
    match checkpoint::family_of(&path)? {
        Family::Gpt => verify_on::<D, Gpt<D>>(device, path, target),
        Family::Bert => verify_on::<D, Bert<D>>(device, path, target),
    }
}

fn verify_on<D: Backend, M: Task<D>>(
    device: &D,
    path: PathBuf,
    target: Option<Target>,
) -> Result<Verification> {
    let config = checkpoint::config_of(&path)?;
    let (model, Header { state, growing, .. }) = checkpoint::load_model::<D, M>(&path, device)?;
    let to = target.map_or_else(|| Ok(larger(growing.sizes)), |target| target.of(growing.sizes))?;
    let (batch, host, shape) = own_batch(&path, config.as_ref(), &state, &model);
    let rows = receipts(&model, state.step, &host, to, &|masks| masks)?;
    Ok(Verification {
        checkpoint: path,
        family: M::FAMILY,
        sizes: growing.sizes,
        ramping: !growing.ramps.is_empty(),
        batch,
        shape,
        rows,
    })
}

/// Tokens of a drawn sequence for a model that has no run.
const DRAWN: usize = 32;

/// The batch that a checkpoint's own run has for receipts, or a drawn one.
pub(crate) fn own_batch<D: Backend, M: Task<D>>(
    path: &Path,
    config: Option<&Resolved>,
    state: &State,
    model: &M,
) -> (Batch, M::Host, (usize, usize)) {
    let stage = config.and_then(|config| config.stages().get(state.stage.saturating_sub(1)));
    let length = match config {
        Some(_) => stage.map_or(1, |stage| stage.sequence),
        None => DRAWN.min(model.positions()),
    };
    let text = config.ok_or_else(|| "the model has no run".to_owned()).and_then(|config| {
        let (folder, data) = data_of(path, config)?;
        let host = M::receipt_host(data, config, length).map_err(|error| error.to_string())?;
        Ok((folder, host))
    });
    let shape = (RECEIPT_SEQUENCES, length);
    match text {
        Ok((folder, host)) => (Batch::Text(folder), host, shape),
        Err(why) => (Batch::Drawn(why), model.drawn(shape, SEED), shape),
    }
}

/// The receipts of a model that stands after the step `step`, grown to `to`, on one batch. The grown models
/// see their masks through `hook`: one that leaves a mask out shows that the receipts fail then.
///
/// # Errors
/// Where the model cannot become so large, or the device fails.
pub fn receipts<D: Backend, M: Task<D>>(
    model: &M,
    step: u64,
    host: &M::Host,
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
        rows.push(Row { what, from, to, receipt: receipt(None, D::EXACT, &before, &after) });
    }
    let grown = grown(model, step, to)?;
    if rows.len() > 1 {
        let after = measure(&grown, host, &hook(grown.masks(step)?))?;
        rows.push(Row { what: "together", from, to, receipt: receipt(None, D::EXACT, &before, &after) });
    }
    let kept = measure(&grown, host, &hook(grown.masks_kept(FAR)?))?;
    let dropped = measure(&grown, host, &grown.masks(FAR)?)?;
    rows.push(Row { what: "ramp end", from: to, to, receipt: receipt(None, D::EXACT, &kept, &dropped) });
    Ok(rows)
}

/// The model grown with wide random entries, its new units and layers at the start of a ramp.
fn grown<D: Backend, M: Task<D>>(model: &M, step: u64, to: Sizes) -> Result<M> {
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

/// The data that the run trained on, where it still lies; or why not.
fn data_of(path: &Path, config: &Resolved) -> Result<(PathBuf, Arc<Prepared>), String> {
    // Where the configuration says, or beside the checkpoints of a run that was moved.
    let beside = path.parent().and_then(Path::parent).map(|run| run.join(names::DATA));
    let folders = [Some(data_folder(config)), beside];
    let folder = folders.into_iter().flatten().find(|folder| folder.is_dir());
    let folder = folder.ok_or_else(|| format!("no data in {}", data_folder(config).display()))?;
    let data = Prepared::open(&folder).map_err(|error| error.to_string())?;
    let tokenizer = std::fs::read(path.join(checkpoint::TOKENIZER)).unwrap_or_default();
    if tokenizer != data.tokenizer().json() {
        return Err(format!("{} has another tokenizer", folder.display()));
    }
    Ok((folder, Arc::new(data)))
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
        let family = family.name();
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
