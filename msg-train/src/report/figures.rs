//! Which plots a page has, and what each shows.

use super::{
    plot::{Mark, Plot, Trace},
    run::{Against, Run},
    series::{self, range},
};
use crate::metrics::{
    StagePlan,
    columns::{Column, Figure, Quantity, STEP_COLUMNS, Step},
};
use msg_models::GrowingAxis;

/// Loss against one axis; none where no run has anything to show on it.
pub(super) fn loss(runs: &[Run], against: Against) -> Option<Plot> {
    let (mut traces, mut marks) = (Vec::new(), Vec::new());
    for (at, run) in runs.iter().enumerate() {
        let training = series::smooth(&run.training(against));
        traces.push(Trace { run: at, curve: training.means, bands: training.bands, width: 1.3, dots: false });
        let curve = series::gapped(&run.validation(against));
        traces.push(Trace { run: at, curve, bands: Vec::new(), width: 2.4, dots: true });
        for (step, number, words) in run.boundaries() {
            if let Some(x) = run.at(step, against) {
                marks.push(Mark { run: at, x, number, words });
            }
        }
    }
    let points = || traces.iter().flat_map(|trace| trace.curve.iter().flatten());
    let (_, farthest) = range(points().map(|(x, _)| *x))?;
    let (low, high) = spread(points().map(|(_, y)| *y).collect());
    let (quantity, over) = against.axis();
    let label = format!("Training and validation loss against {over}");
    // A short name leaves room for the unit.
    let name = if matches!(against, Against::Steps) { over } else { against.name() };
    let x = (quantity, name.to_owned());
    let y = match low > 0.0 && high / low > 3.0 {
        // The first steps fall from so high that the rest would lie flat on a linear axis.
        true => (Quantity::Log, "loss (nats, log scale)".to_owned()),
        false => (Quantity::Plain, "loss (nats)".to_owned()),
    };
    Some(Plot { label, x, y, x_range: (0.0, farthest), y_range: (low, high), traces, marks })
}

/// The range of measured values with some air. A spike of a diverging run does not press the rest flat: what lies
/// far above nearly everything is drawn at the upper edge.
fn spread(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let (Some(low), Some(high)) = (values.first(), values.last()) else { return (0.0, 1.0) };
    let usual = values[(values.len() - 1) * 95 / 100];
    let high = high.min(low + 3.0 * (usual - low).max(0.05 * usual.abs()));
    // Air as a factor, where it can be: it does for both kinds of axis.
    let air = (high / low).powf(0.04);
    if *low > 0.0 && air > 1.0 { (low / air, high * air) } else { (low - 0.1, high + 0.1) }
}

/// The numbers of the schedule against steps.
pub(super) fn schedule(runs: &[Run]) -> Vec<Plot> {
    let plot = |column: &Column<Step>| {
        let Figure::Schedule { quantity, top } = column.figure else { return None };
        let trace = |(at, run): (usize, &Run)| Trace {
            run: at,
            curve: series::outline(&run.numbers(column)),
            width: width(at, runs.len()),
            ..Trace::default()
        };
        let traces: Vec<Trace> = runs.iter().enumerate().map(trace).collect();
        let top = top.map_or_else(|| highest(&traces), f64::from);
        over_steps(column, (quantity, column.title()), (0.0, top * 1.05), traces, last_step(runs))
    };
    STEP_COLUMNS.iter().filter_map(plot).collect()
}

/// The numbers that are measured at each step, but for the loss, against steps.
pub(super) fn measured(runs: &[Run]) -> Vec<Plot> {
    let plot = |column: &Column<Step>| {
        let Figure::Measured(quantity) = column.figure else { return None };
        let trace = |(at, run): (usize, &Run)| {
            let smooth = series::smooth(&run.numbers(column));
            Trace { run: at, curve: smooth.means, bands: smooth.bands, width: 1.3, dots: false }
        };
        let traces: Vec<Trace> = runs.iter().enumerate().map(trace).collect();
        let values = traces.iter().flat_map(|trace| trace.curve.iter().flatten().map(|(_, y)| *y)).collect();
        over_steps(column, (quantity, column.title()), spread(values), traces, last_step(runs))
    };
    STEP_COLUMNS.iter().filter_map(plot).collect()
}

/// A plot of a number; none where no run has it.
fn over_steps(
    column: &Column<Step>,
    y: (Quantity, String),
    y_range: (f64, f64),
    traces: Vec<Trace>,
    last_step: f64,
) -> Option<Plot> {
    let mut name = column.name.to_owned();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let label = format!("{name} against optimizer steps");
    let x = (Quantity::Count, "optimizer steps".to_owned());
    let drawn = traces.iter().any(|trace| trace.curve.iter().any(Option::is_some));
    drawn.then(|| Plot { label, x, y, x_range: (0.0, last_step), y_range, traces, marks: Vec::new() })
}

/// Each size against steps.
pub(super) fn sizes(runs: &[Run]) -> Vec<Plot> {
    let stages: Vec<_> = runs.iter().flat_map(Run::stages).collect();
    let plot = |axis: GrowingAxis| {
        let trace = |(at, run): (usize, &Run)| {
            let ends = |stage: &StagePlan| {
                let size = stage.sizes.get(axis) as f64;
                let from = stage.first_step.saturating_sub(1) as f64;
                [Some((from, size)), Some((stage.last_step() as f64, size))]
            };
            let curve = run.stages().iter().flat_map(ends).collect();
            Trace { run: at, curve, width: width(at, runs.len()), ..Trace::default() }
        };
        let traces: Vec<Trace> = runs.iter().enumerate().map(trace).collect();
        Plot {
            label: format!("{} against optimizer steps", axis.key()),
            x: (Quantity::Count, "optimizer steps".to_owned()),
            y: (Quantity::Count, axis.key().to_owned()),
            x_range: (0.0, planned_steps(runs)),
            y_range: (0.0, highest(&traces) * 1.1),
            traces,
            marks: Vec::new(),
        }
    };
    GrowingAxis::of(stages.iter().map(|stage| &stage.sizes)).into_iter().map(plot).collect()
}

/// Schedules of several runs often lie on each other: later ones are thinner, so that all show.
fn width(run: usize, runs: usize) -> f64 {
    match (run, runs) {
        (_, 1) => 2.4,
        (0, _) => 4.6,
        (1, _) => 2.8,
        _ => 1.4,
    }
}

fn highest(traces: &[Trace]) -> f64 {
    range(traces.iter().flat_map(|trace| trace.curve.iter().flatten().map(|(_, y)| *y)))
        .map_or(1.0, |(_, high)| high)
}

fn last_step(runs: &[Run]) -> f64 {
    runs.iter().map(Run::last_step).max().unwrap_or(0) as f64
}

/// The last step of all that is planned, reached or not.
fn planned_steps(runs: &[Run]) -> f64 {
    let planned = runs.iter().filter_map(|run| Some(run.stages().last()?.last_step() as f64));
    planned.fold(last_step(runs), f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spike_does_not_press_the_rest_of_the_curve_flat() {
        let mut losses: Vec<f64> = (0..100).map(|n| 2.0 + f64::from(n) * 0.01).collect();
        assert!(spread(losses.clone()).1 < 3.1);
        losses.push(1e6);
        let (low, high) = spread(losses);
        assert!(low < 2.0 && (3.0..6.0).contains(&high), "{low} {high}");
        assert_eq!(spread(vec![]), (0.0, 1.0));
    }
}
