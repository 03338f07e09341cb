//! The page's tables.

use super::{
    html::escape,
    plot::color,
    run::{Against, Run},
};
use crate::{
    metrics::{
        StagePlan,
        columns::{EVAL_COLUMNS, Format},
    },
    text::quantity::{count, duration, grouped},
};
use msg_models::GrowingAxis;
use std::fmt::Write;

/// A table that scrolls by itself where the page is narrow. Cells are HTML.
fn table(class: &str, head: &[String], rows: &[Vec<String>]) -> String {
    let mut html = format!(r#"<div class="scroll"><table class="{class}"><thead><tr>"#);
    for cell in head {
        let _ = write!(html, r#"<th scope="col">{cell}</th>"#);
    }
    html.push_str("</tr></thead><tbody>");
    for row in rows {
        html.push_str("<tr>");
        for (at, cell) in row.iter().enumerate() {
            let _ = match at {
                0 => write!(html, r#"<th scope="row">{cell}</th>"#),
                _ => write!(html, "<td>{cell}</td>"),
            };
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table></div>\n");
    html
}

/// A run's name beside a patch of its colour.
pub(super) fn named(at: usize, run: &Run) -> String {
    format!(r#"<span class="name"><i class="patch {}"></i>{}</span>"#, color(at), escape(&run.name))
}

fn headed(first: &str, runs: &[Run]) -> Vec<String> {
    std::iter::once(first.to_owned()).chain(runs.iter().enumerate().map(|(at, run)| named(at, run))).collect()
}

/// What there is to say of a run, where there is something.
type Fact = fn(&Run) -> Option<String>;

/// One column a run, or for a single one its facts side by side.
pub(super) fn summary(runs: &[Run]) -> String {
    let facts: [(&str, Fact); 15] = [
        ("family", |run| Some(escape(&run.plan.as_ref()?.family))),
        ("state", |run| Some(state(run))),
        ("steps", |run| Some(grouped(run.last_step()))),
        ("parameters by stage", parameters),
        ("tokens", |run| Some(count(run.steps.last()?.tokens as f64))),
        ("FLOPs", |run| Some(count(run.steps.last()?.flops))),
        ("FLOPs of the whole plan", |run| Some(count(run.plan.as_ref()?.flops_after(0)))),
        ("FLOPs at final size from the start", full_size),
        ("training time", |run| Some(duration(run.timings.last()?.seconds))),
        ("tokens a second", |run| {
            let seconds = run.timings.last()?.seconds;
            (seconds > 0.0).then(|| Some(count(run.steps.last()?.tokens as f64 / seconds)))?
        }),
        ("last training loss", |run| {
            let last: Vec<f64> = run.steps.iter().rev().take(20).map(|step| f64::from(step.loss)).collect();
            let mean = last.iter().sum::<f64>() / last.len() as f64;
            (!last.is_empty()).then(|| format!("{mean:.4} <small>mean of {}</small>", last.len()))
        }),
        ("last validation loss", |run| {
            let eval = run.evals.last()?;
            Some(format!("{:.4} <small>perplexity {}</small>", eval.loss, count(eval.perplexity)))
        }),
        ("lowest validation loss", |run| {
            let eval = run.best()?;
            Some(format!("{:.4} <small>step {}</small>", eval.loss, grouped(eval.step)))
        }),
        ("right answers", |run| {
            let eval = run.evals.last()?;
            let shares = EVAL_COLUMNS.iter().filter(|column| column.format == Format::Percent);
            let shares = shares.filter_map(|column| {
                Some(format!("{} {}", column.name, column.format.text((column.value)(eval)?)))
            });
            let shares: Vec<String> = shares.collect();
            (!shares.is_empty()).then(|| shares.join(", "))
        }),
        ("updates left out", |run| Some(run.steps.iter().filter(|step| step.skipped).count().to_string())),
    ];
    let row = |(name, fact): &(&str, Fact)| {
        let cells: Vec<Option<String>> = runs.iter().map(fact).collect();
        cells.iter().any(Option::is_some).then(|| {
            let cells = cells.into_iter().map(|cell| cell.unwrap_or_else(|| "–".to_owned()));
            std::iter::once((*name).to_owned()).chain(cells).collect::<Vec<String>>()
        })
    };
    let rows: Vec<Vec<String>> = facts.iter().filter_map(row).collect();
    if let [_] = runs {
        return tiles(&rows);
    }
    table("summary", &headed("", runs), &rows)
}

/// Names and values, as many side by side as there is room for.
fn tiles(rows: &[Vec<String>]) -> String {
    let tile = |row: &Vec<String>| match row.as_slice() {
        [name, value] => {
            // Parameters of many stages need room.
            let class = if value.chars().count() > 60 { r#" class="wide""# } else { "" };
            format!("<div{class}><dt>{name}</dt><dd>{value}</dd></div>")
        }
        _ => String::new(),
    };
    format!("<dl class=\"tiles\">{}</dl>\n", rows.iter().map(tile).collect::<String>())
}

fn state(run: &Run) -> String {
    let planned = run.plan.as_ref().map(|plan| plan.total_steps);
    match (run.end.is_some(), planned) {
        (true, _) => "finished".to_owned(),
        (false, Some(total)) => format!("at step {} of {}", grouped(run.last_step()), grouped(total)),
        (false, None) => format!("at step {}", grouped(run.last_step())),
    }
}

fn parameters(run: &Run) -> Option<String> {
    let mut by_stage: Vec<String> = run.stages().iter().map(|stage| count(stage.params as f64)).collect();
    by_stage.dedup();
    (!by_stage.is_empty()).then(|| by_stage.join(" → "))
}

fn full_size(run: &Run) -> Option<String> {
    let plan = run.plan.as_ref()?;
    let (full, own) = (plan.flops_at_full_size()?, plan.flops_after(0));
    (own > 0.0).then(|| format!("{} <small>{:.2} × the plan's</small>", count(full), full / own))
}

/// What each run needed for a held-out loss that all have reached; none for a single run.
pub(super) fn race(runs: &[Run]) -> Option<(f64, String)> {
    if runs.len() < 2 {
        return None;
    }
    let lowest: Option<Vec<f64>> = runs.iter().map(|run| Some(run.best()?.loss)).collect();
    let goal = lowest?.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let row = |against: Against| {
        let needed = |run: &Run| run.reached(goal).and_then(|eval| run.at(eval.step, against));
        let first = needed(&runs[0]);
        let cell = |(at, run): (usize, &Run)| match (needed(run), first) {
            (None, _) => "–".to_owned(),
            (Some(value), Some(first)) if at > 0 && first > 0.0 => {
                format!("{} <small>{:.2} ×</small>", against.text(value), value / first)
            }
            (Some(value), _) => against.text(value),
        };
        std::iter::once(against.name().to_owned()).chain(runs.iter().enumerate().map(cell)).collect()
    };
    let rows: Vec<Vec<String>> = Against::all().map(row).collect();
    Some((goal, table("summary", &headed("", runs), &rows)))
}

/// Every growth and every end of a ramp.
pub(super) fn receipts(runs: &[Run]) -> Option<String> {
    let mut rows = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        for (step, what, receipt) in run.receipts() {
            let verdict = match receipt.function_preserving {
                true => r#"<span class="good">✓ preserved</span>"#,
                false => r#"<span class="bad">✗ not preserved</span>"#,
            };
            let name = if runs.len() > 1 { named(at, run) } else { grouped(step) };
            let mut row = vec![name];
            if runs.len() > 1 {
                row.push(grouped(step));
            }
            row.extend([
                what,
                small(receipt.max_dlogit),
                small(receipt.dloss),
                small(receipt.tolerance),
                verdict.to_owned(),
            ]);
            rows.push(row);
        }
    }
    let head = ["step", "what changed", "max |Δlogit|", "Δloss", "tolerance", "function"];
    let run = (runs.len() > 1).then_some("run");
    let head: Vec<String> = run.into_iter().chain(head).map(str::to_owned).collect();
    (!rows.is_empty()).then(|| table("receipts", &head, &rows))
}

/// The stages of a run; none where they are not known.
pub(super) fn stages(run: &Run) -> Option<String> {
    let stages = run.stages();
    let all = run.plan.as_ref().map_or(0.0, |plan| plan.flops_after(0));
    let planned = run.is_planned();
    let axes = GrowingAxis::of(stages.iter().map(|stage| &stage.sizes));
    let row = |stage: &StagePlan| {
        let mut row = vec![
            stage.number.to_string(),
            format!("{}–{}", grouped(stage.first_step), grouped(stage.last_step())),
        ];
        row.extend(axes.iter().map(|axis| stage.sizes.get(*axis).to_string()));
        row.push(count(stage.params as f64));
        if planned {
            let share = stage.steps as f64 * stage.flops_per_step() / all;
            row.extend([
                stage.sequence.to_string(),
                stage.batch.to_string(),
                if stage.ramp == 0 { "–".to_owned() } else { grouped(stage.ramp) },
                count(stage.flops_per_token),
                if share.is_finite() { format!("{:.1} %", share * 100.0) } else { "–".to_owned() },
            ]);
        }
        row
    };
    let keys = axes.iter().map(|axis| axis.key());
    let head = ["stage", "steps"].into_iter().chain(keys).chain(["parameters"]);
    let more = ["sequence", "batch", "ramp", "FLOPs a token", "share of FLOPs"];
    let head: Vec<String> = head.chain(more.into_iter().filter(|_| planned)).map(str::to_owned).collect();
    let rows: Vec<Vec<String>> = stages.iter().map(row).collect();
    (!rows.is_empty()).then(|| table("stages", &head, &rows))
}

/// A difference: exactly 0, or with its power of ten.
fn small(value: f64) -> String {
    if value == 0.0 { "0".to_owned() } else { format!("{value:.1e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_zeros_say_so() {
        assert_eq!([0.0, -0.0, 1.25e-6, f64::NAN].map(small), ["0", "0", "1.3e-6", "NaN"]);
    }
}
