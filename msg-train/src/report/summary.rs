//! A run on a screen: a line for each stage, what the whole cost, and what it saved.

use super::run::{Against, Run};
use crate::{
    error::Result,
    metrics::columns::{Column, EVAL_COLUMNS, Eval, Format},
    text::{quantity::count, table::aligned},
};
use std::path::Path;

/// The summary of the run in `folder`; its figures are those of `metrics.jsonl`, `timing.jsonl` and
/// `plan.json`. The line of a stage holds what the stage took, and the held-out figures at its end.
///
/// # Errors
/// Where the folder has no metrics, or a file is damaged.
pub fn summary(folder: &Path) -> Result<String> {
    Ok(of(&Run::load(folder)?))
}

/// The receipts of the run in `folder`, a line for each; none where it never grew.
///
/// # Errors
/// As [`summary`].
pub fn receipt_lines(folder: &Path) -> Result<Option<String>> {
    let receipts = Run::load(folder)?.receipts();
    let head = ["step", "what changed", "max |dlogit|", "dloss", "tolerance", "function"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines.extend(receipts.iter().map(|(step, what, receipt)| {
        let verdict = if receipt.function_preserving { "preserved" } else { "not preserved" };
        let [dlogit, dloss, tolerance] =
            [receipt.max_dlogit, receipt.dloss, receipt.tolerance].map(|value| format!("{value:.1e}"));
        vec![step.to_string(), what.clone(), dlogit, dloss, tolerance, verdict.to_owned()]
    }));
    Ok((!receipts.is_empty()).then(|| aligned(&lines)))
}

pub(super) fn of(run: &Run) -> String {
    let has = |column: &&Column<Eval>| run.evals.iter().any(|eval| (column.value)(eval).is_some());
    // The loss and what follows from it are told by a dash where there is no evaluation, the rest not at all.
    let evals: Vec<&Column<Eval>> =
        EVAL_COLUMNS.iter().filter(|column| column.format != Format::Percent || has(column)).collect();
    let costs = Against::all().skip(1).map(Against::name);
    let head = ["stage", "steps", "parameters"].into_iter().chain(costs);
    let head = head.chain(evals.iter().map(|column| column.name)).map(str::to_owned);
    let mut lines: Vec<Vec<String>> = vec![head.collect()];
    let stages = run.stages();
    for stage in stages.iter().filter(|stage| stage.first_step <= run.last_step()) {
        let (before, last) = (stage.first_step - 1, stage.last_step().min(run.last_step()));
        lines.push(line(run, stage.number.to_string(), stage.params, (before, last), &evals));
    }
    let params = stages.last().map_or(0, |stage| stage.params);
    if stages.len() > 1 {
        lines.push(line(run, "all".into(), params, (0, run.last_step()), &evals));
    }
    let mut text = aligned(&lines);
    let whole = run.plan.as_ref().and_then(|plan| Some((plan.flops_at_full_size()?, plan.flops_after(0))));
    if let Some((full, own)) = whole.filter(|(_, own)| *own > 0.0) {
        text.push_str(&format!(
            "\n{} FLOPs, {:.2}x fewer than the full size from the start ({})\n",
            count(own),
            full / own,
            count(full)
        ));
    }
    text
}

/// What the steps after `before` up to `last` took, and the figures of the last evaluation among them.
fn line(
    run: &Run,
    name: String,
    params: u64,
    (before, last): (u64, u64),
    evals: &[&Column<Eval>],
) -> Vec<String> {
    let taken = |against: Against| Some(against.text(run.at(last, against)? - run.at(before, against)?));
    let eval = run.evals.iter().rfind(|eval| (before + 1..=last).contains(&eval.step));
    let measured = |column: &&Column<Eval>| Some(column.format.text((column.value)(eval?)?));
    let numbers = Against::all().skip(1).map(taken).chain(evals.iter().map(measured));
    let mut cells = vec![name, (last - before).to_string(), count(params as f64)];
    cells.extend(numbers.map(|text| text.unwrap_or_else(|| "-".to_owned())));
    cells
}
