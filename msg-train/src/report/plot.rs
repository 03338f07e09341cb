//! One plot as SVG. Colours and fonts come from the page's style sheet; this file knows only positions.

use super::{axis::Axis, html::escape, series::Curve};
use crate::metrics::columns::Quantity;
use std::fmt::Write;

/// Width of a letter of the plots' font of 12 units, a little over the mean.
const LETTER: f64 = 6.6;
/// Height of a row of texts above the plot.
const ROW: f64 = 16.0;
/// Most rows of texts above the plot; texts beyond go without, their lines stay.
const ROWS: usize = 8;

/// The size of a drawing, in units that are pixels where the page is as wide as it is meant for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Canvas {
    pub width: f64,
    pub height: f64,
    /// Whether marks say what changed, or their number alone.
    pub words: bool,
}

/// A curve of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    /// Which colour.
    pub run: usize,
    pub curve: Curve,
    /// Lowest and highest values around it.
    pub bands: Vec<Option<(f64, f64, f64)>>,
    /// Width of the line.
    pub width: f64,
    /// Whether each point has a dot.
    pub dots: bool,
}

/// A vertical line with a text above the plot.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    /// Which colour.
    pub run: usize,
    pub x: f64,
    /// The stage's number.
    pub number: usize,
    /// What changed.
    pub words: String,
}

/// A plot.
#[derive(Clone, Debug)]
pub(super) struct Plot {
    /// A description for screen readers.
    pub label: String,
    /// What the axes show, and their names.
    pub x: (Quantity, String),
    pub y: (Quantity, String),
    pub x_range: (f64, f64),
    pub y_range: (f64, f64),
    pub traces: Vec<Trace>,
    pub marks: Vec<Mark>,
}

/// The drawing's inner rectangle with its axes.
struct Frame {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
    x: Axis,
    y: Axis,
}

impl Frame {
    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        (self.column(x), self.bottom - self.y.share(y) * (self.bottom - self.top))
    }

    fn column(&self, x: f64) -> f64 {
        self.left + self.x.share(x) * (self.right - self.left)
    }
}

impl Plot {
    /// The SVG element.
    pub(super) fn draw(&self, canvas: Canvas, class: &str) -> String {
        let y = Axis::new((self.y.0, &self.y.1), self.y_range.0, self.y_range.1, canvas.height / 60.0);
        let x = Axis::new((self.x.0, &self.x.1), self.x_range.0, self.x_range.1, canvas.width / 90.0);
        let widest = y.ticks.iter().map(|(_, text)| text.chars().count()).max().unwrap_or(1);
        let left = 30.0 + widest as f64 * LETTER;
        let right = canvas.width - 18.0;
        let (bottom, top) = (canvas.height - 42.0, 8.0);
        let mut frame = Frame { left, top, right, bottom, x, y };
        let labels = self.labels(&frame, canvas);
        let rows = labels.iter().flatten().map(|label| label.row + 1).max().unwrap_or(0);
        frame.top += rows as f64 * ROW;

        let mut svg = format!(
            r#"<svg class="{class}" viewBox="0 0 {} {}" role="img" aria-label="{}">"#,
            canvas.width,
            canvas.height,
            escape(&self.label)
        );
        draw_axes(&mut svg, &frame);
        self.draw_marks(&mut svg, &frame, &labels);
        for trace in &self.traces {
            draw_band(&mut svg, &frame, trace);
        }
        for trace in &self.traces {
            draw_curve(&mut svg, &frame, trace);
        }
        svg.push_str("</svg>");
        svg
    }

    /// Where the text of each mark goes, so that none lies over another: the lowest row with room.
    fn labels(&self, frame: &Frame, canvas: Canvas) -> Vec<Option<Label>> {
        let mut order: Vec<usize> = (0..self.marks.len()).collect();
        order.sort_by(|a, b| self.marks[*a].x.total_cmp(&self.marks[*b].x));
        // Up to where each row is taken.
        let mut taken: Vec<f64> = Vec::new();
        let mut labels = vec![None; self.marks.len()];
        for at in order {
            let mark = &self.marks[at];
            let text = match canvas.words && !mark.words.is_empty() {
                true => format!("{}: {}", mark.number, mark.words),
                false => mark.number.to_string(),
            };
            let width = text.chars().count() as f64 * LETTER;
            let start = (frame.column(mark.x) - 3.0).min(frame.right + 10.0 - width);
            if start < 0.0 {
                continue;
            }
            let row = taken.iter().position(|end| *end <= start).unwrap_or(taken.len());
            if row >= ROWS {
                continue;
            }
            if row == taken.len() {
                taken.push(0.0);
            }
            taken[row] = start + width + 8.0;
            labels[at] = Some(Label { row, start, text });
        }
        labels
    }

    fn draw_marks(&self, svg: &mut String, frame: &Frame, labels: &[Option<Label>]) {
        for (mark, label) in self.marks.iter().zip(labels) {
            let (x, run) = (frame.column(mark.x), color(mark.run));
            let rise = label.as_ref().map_or(0.0, |label| label.row as f64 * ROW + 2.0);
            let (top, bottom) = (frame.top - rise, frame.bottom);
            put(svg, format_args!(r#"<path class="mark {run}" d="M{x:.1} {top:.1}V{bottom:.1}"/>"#));
        }
        // Texts after all lines: their rim in the page's colour parts a line of a higher row.
        for (mark, label) in self.marks.iter().zip(labels) {
            if let Some(Label { row, start, text }) = label {
                let (run, text) = (color(mark.run), escape(text));
                let y = frame.top - *row as f64 * ROW - 6.0;
                put(svg, format_args!(r#"<text class="tag {run}" x="{start:.1}" y="{y:.1}">{text}</text>"#));
            }
        }
    }
}

/// A text above the plot.
#[derive(Clone, Debug)]
struct Label {
    row: usize,
    start: f64,
    text: String,
}

/// The style sheet's class of a run's colour; there are eight.
pub(super) fn color(run: usize) -> String {
    format!("run{}", run % 8)
}

fn draw_axes(svg: &mut String, frame: &Frame) {
    let Frame { left, top, right, bottom, .. } = frame;
    for (value, text) in &frame.y.ticks {
        let (_, y) = frame.at(frame.x.low, *value);
        put(svg, format_args!(r#"<path class="grid" d="M{left:.1} {y:.1}H{right:.1}"/>"#));
        let (x, y) = (left - 7.0, y + 4.0);
        put(svg, format_args!(r#"<text class="end" x="{x:.1}" y="{y:.1}">{text}</text>"#));
    }
    for (value, text) in &frame.x.ticks {
        let x = frame.column(*value);
        put(svg, format_args!(r#"<path class="axis" d="M{x:.1} {bottom:.1}v4"/>"#));
        let y = bottom + 18.0;
        put(svg, format_args!(r#"<text class="middle" x="{x:.1}" y="{y:.1}">{text}</text>"#));
    }
    put(svg, format_args!(r#"<path class="axis" d="M{left:.1} {bottom:.1}H{right:.1}"/>"#));
    let (x, y) = ((left + right) / 2.0, bottom + 36.0);
    let title = escape(&frame.x.title);
    put(svg, format_args!(r#"<text class="middle title" x="{x:.1}" y="{y:.1}">{title}</text>"#));
    let (y, title) = ((top + bottom) / 2.0, escape(&frame.y.title));
    put(
        svg,
        format_args!(
            r#"<text class="middle title" transform="translate(12 {y:.1}) rotate(-90)">{title}</text>"#
        ),
    );
}

fn draw_band(svg: &mut String, frame: &Frame, trace: &Trace) {
    for piece in pieces(&trace.bands).filter(|piece| piece.len() > 1) {
        let mut path = String::from("M");
        for (x, low, _) in &piece {
            push_point(&mut path, frame.at(*x, *low));
        }
        for (x, _, high) in piece.iter().rev() {
            push_point(&mut path, frame.at(*x, *high));
        }
        put(svg, format_args!(r#"<path class="band {}" d="{path}Z"/>"#, color(trace.run)));
    }
}

fn draw_curve(svg: &mut String, frame: &Frame, trace: &Trace) {
    let (run, width) = (color(trace.run), trace.width);
    let radius = if trace.dots { 3.2 } else { 2.0 };
    for piece in pieces(&trace.curve) {
        let mut path = String::from("M");
        for (x, y) in &piece {
            push_point(&mut path, frame.at(*x, *y));
        }
        if piece.len() > 1 {
            put(svg, format_args!(r#"<path class="line {run}" stroke-width="{width}" d="{path}"/>"#));
        }
        // A point between two gaps has no line, but must be seen.
        if trace.dots || piece.len() == 1 {
            for (x, y) in piece {
                let (x, y) = frame.at(x, y);
                put(svg, format_args!(r#"<circle class="dot {run}" cx="{x:.1}" cy="{y:.1}" r="{radius}"/>"#));
            }
        }
    }
}

/// The stretches between gaps.
fn pieces<T: Copy>(points: &[Option<T>]) -> impl Iterator<Item = Vec<T>> {
    points
        .split(Option::is_none)
        .map(|piece| piece.iter().flatten().copied().collect::<Vec<T>>())
        .filter(|piece| !piece.is_empty())
}

fn push_point(path: &mut String, (x, y): (f64, f64)) {
    put(path, format_args!("{x:.1} {y:.1} "));
}

/// Writing to a string cannot fail.
fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANVAS: Canvas = Canvas { width: 600.0, height: 300.0, words: true };

    fn plot(curve: Curve, marks: Vec<Mark>) -> Plot {
        Plot {
            label: "loss <&>".into(),
            x: (Quantity::Count, "steps".into()),
            y: (Quantity::Plain, "loss".into()),
            x_range: (0.0, 10.0),
            y_range: (0.0, 4.0),
            traces: vec![Trace { curve, width: 2.0, ..Trace::default() }],
            marks,
        }
    }

    #[test]
    fn a_gap_parts_the_line_and_a_lonely_point_is_a_dot() {
        let curve = vec![Some((0.0, 1.0)), Some((1.0, 2.0)), None, Some((3.0, 1.0)), None];
        let svg = plot(curve, vec![]).draw(CANVAS, "wide");
        assert_eq!(svg.matches(r#"class="line run0""#).count(), 1);
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(!svg.contains("NaN"), "{svg}");
        assert!(svg.contains(r#"aria-label="loss &lt;&amp;&gt;""#), "{svg}");
    }

    #[test]
    fn texts_of_marks_never_overlap_nor_leave_the_drawing() {
        let words = "hidden 128 → 256, heads 4 → 8";
        let mark = |n: usize| Mark { run: n % 3, x: n as f64 * 0.4, number: n, words: words.into() };
        let plot = plot(vec![], (0..25).map(mark).collect());
        let x = Axis::new((plot.x.0, &plot.x.1), 0.0, 10.0, 5.0);
        let frame = Frame { left: 40.0, top: 8.0, right: 582.0, bottom: 258.0, y: x.clone(), x };
        for canvas in [CANVAS, Canvas { words: false, ..CANVAS }] {
            let labels: Vec<Label> = plot.labels(&frame, canvas).into_iter().flatten().collect();
            assert!(labels.len() >= ROWS, "{}", labels.len());
            let span =
                |label: &Label| (label.start, label.start + label.text.chars().count() as f64 * LETTER);
            for (at, a) in labels.iter().enumerate() {
                assert!(a.row < ROWS && span(a).0 >= 0.0 && span(a).1 <= CANVAS.width, "{a:?}");
                for b in labels[..at].iter().filter(|b| b.row == a.row) {
                    assert!(span(a).0 >= span(b).1 || span(b).0 >= span(a).1, "{a:?} over {b:?}");
                }
            }
        }
    }
}
