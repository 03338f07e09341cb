//! The page: the order of its parts.

use super::{
    figures,
    html::escape,
    plot::{Canvas, Plot},
    run::{Against, Run},
    series, tables,
};
use std::fmt::Write;

/// The style sheet, part of the page.
const STYLE: &str = include_str!("page.css");

/// The whole page.
pub(super) fn page(runs: &[Run]) -> String {
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let title = escape(&names.join(", "));
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
    );
    let several = runs.len() > 1;
    let heading = if several { "Training runs".to_owned() } else { title };
    let _ = writeln!(html, "<h1>{heading}</h1>");
    html.push_str(&tables::summary(runs));
    if let Some((goal, race)) = tables::race(runs) {
        let _ = writeln!(
            html,
            "<h2>To the same validation loss</h2>\n<p>What each run needed until its first evaluation at \
             {goal:.4} or below, the lowest that all have reached. Factors are against the first run.</p>"
        );
        html.push_str(&race);
    }
    losses(&mut html, runs);
    measured(&mut html, runs);
    schedule(&mut html, runs);
    html.push_str("<h2>Receipts</h2>\n");
    match tables::receipts(runs) {
        Some(table) => {
            html.push_str(
                "<p>Outputs and loss on a fixed batch, before and after each change that must not change \
                 what the model computes.</p>\n",
            );
            html.push_str(&table);
        }
        None => html.push_str("<p>Nothing has grown.</p>\n"),
    }
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

fn legend(html: &mut String, runs: &[Run]) {
    html.push_str(r#"<p class="legend">"#);
    if runs.len() > 1 {
        for (at, run) in runs.iter().enumerate() {
            html.push_str(&tables::named(at, run));
        }
    }
}

fn losses(html: &mut String, runs: &[Run]) {
    html.push_str("<h2>Loss</h2>\n");
    legend(html, runs);
    let windows: Vec<usize> =
        runs.iter().map(|run| series::smooth(&run.training(Against::Steps)).window).collect();
    let smoothing = match windows.iter().max() {
        None | Some(0 | 1) => "every step, not smoothed".to_owned(),
        Some(_) => {
            let mut windows: Vec<String> = windows.iter().map(usize::to_string).collect();
            windows.dedup();
            format!("means of {} consecutive steps; shade: lowest to highest of these", windows.join(", "))
        }
    };
    let _ = writeln!(
        html,
        r#"<span class="name"><i class="thin"></i>training ({smoothing})</span><span class="name"><i class="thick"></i>validation</span><span class="name"><i class="dashed"></i>a stage begins</span></p>"#
    );
    let Some(first) = figures::loss(runs, Against::Steps) else {
        html.push_str("<p>No losses are on file.</p>\n");
        return;
    };
    figure(html, &first, HERO);
    html.push_str(r#"<div class="grid three">"#);
    for against in Against::all().skip(1) {
        if let Some(plot) = figures::loss(runs, against) {
            figure(html, &plot, THIRD);
        }
    }
    html.push_str("</div>\n");
}

fn measured(html: &mut String, runs: &[Run]) {
    let plots = figures::measured(runs);
    if plots.is_empty() {
        return;
    }
    html.push_str("<h2>At each step</h2>\n");
    if runs.len() > 1 {
        legend(html, runs);
        html.push_str("</p>\n");
    }
    html.push_str(r#"<div class="grid">"#);
    for plot in &plots {
        figure(html, plot, HALF);
    }
    html.push_str("</div>\n");
}

fn schedule(html: &mut String, runs: &[Run]) {
    html.push_str("<h2>Schedule</h2>\n");
    if runs.len() > 1 {
        legend(html, runs);
        html.push_str("</p>\n");
    }
    html.push_str(r#"<div class="grid">"#);
    for plot in figures::schedule(runs) {
        figure(html, &plot, HALF);
    }
    html.push_str("</div>\n<div class=\"grid four\">");
    for plot in figures::sizes(runs) {
        figure(html, &plot, QUARTER);
    }
    html.push_str("</div>\n");
    for (at, run) in runs.iter().enumerate() {
        if let Some(table) = tables::stages(run) {
            if runs.len() > 1 {
                let _ = writeln!(html, "<h3>{}</h3>", tables::named(at, run));
            }
            html.push_str(&table);
        }
    }
}

/// A plot's drawings for wide and for narrow pages.
type Canvases = (Canvas, Canvas);

const HERO: Canvases = (
    Canvas { width: 1080.0, height: 430.0, words: true },
    Canvas { width: 370.0, height: 300.0, words: false },
);
const THIRD: Canvases = (
    Canvas { width: 350.0, height: 280.0, words: false },
    Canvas { width: 370.0, height: 280.0, words: false },
);
const HALF: Canvases = (
    Canvas { width: 530.0, height: 300.0, words: false },
    Canvas { width: 370.0, height: 260.0, words: false },
);
const QUARTER: Canvases = (
    Canvas { width: 265.0, height: 170.0, words: false },
    Canvas { width: 370.0, height: 170.0, words: false },
);

fn figure(html: &mut String, plot: &Plot, (wide, narrow): Canvases) {
    let (wide, narrow) = (plot.draw(wide, "wide"), plot.draw(narrow, "narrow"));
    let _ = writeln!(html, "<figure>{wide}{narrow}</figure>");
}
