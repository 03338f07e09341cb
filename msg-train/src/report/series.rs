//! Recorded points to curves of a few hundred.

/// Most points of a smoothed curve: about as many as a plot has columns that an eye tells apart.
const BUCKETS: usize = 240;

/// A curve; `None` breaks the line.
pub(super) type Curve = Vec<Option<(f64, f64)>>;

/// A noisy series by the means of equal stretches.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Smoothed {
    /// How many points make one mean.
    pub window: usize,
    /// The means.
    pub means: Curve,
    /// Place, lowest and highest value of each stretch.
    pub bands: Vec<Option<(f64, f64, f64)>>,
}

/// Means, lowest and highest values of stretches of equally many consecutive points. A stretch that holds
/// a value which is no number is a gap: a mean over the rest would hide it.
pub(super) fn smooth(points: &[(f64, f64)]) -> Smoothed {
    let window = points.len().div_ceil(BUCKETS).max(1);
    let (mut means, mut bands) = (Vec::new(), Vec::new());
    for stretch in points.chunks(window) {
        if stretch.iter().any(|(x, y)| !(x.is_finite() && y.is_finite())) {
            means.push(None);
            bands.push(None);
            continue;
        }
        let count = stretch.len() as f64;
        let x = stretch.iter().map(|(x, _)| x).sum::<f64>() / count;
        let y = stretch.iter().map(|(_, y)| y).sum::<f64>() / count;
        let low = stretch.iter().fold(f64::INFINITY, |low, (_, y)| low.min(*y));
        let high = stretch.iter().fold(f64::NEG_INFINITY, |high, (_, y)| high.max(*y));
        means.push(Some((x, y)));
        bands.push(Some((x, low, high)));
    }
    Smoothed { window, means, bands }
}

/// Points with gaps where a value is no number.
pub(super) fn gapped(points: &[(f64, f64)]) -> Curve {
    points.iter().map(|point| Some(*point).filter(|(x, y)| x.is_finite() && y.is_finite())).collect()
}

/// A curve without noise (a schedule) by those points that it needs to stay within a thousandth of its
/// height (Ramer, Douglas and Peucker, with distance along y): corners stay where they are.
pub(super) fn outline(points: &[(f64, f64)]) -> Curve {
    let (low, high) = range(points.iter().map(|(_, y)| *y)).unwrap_or((0.0, 0.0));
    let tolerance = (high - low) / 1000.0;
    let mut keep = vec![false; points.len()];
    let mut open = Vec::new();
    if let Some(last) = points.len().checked_sub(1) {
        (keep[0], keep[last]) = (true, true);
        open.push((0, last));
    }
    while let Some((from, to)) = open.pop() {
        let ((x0, y0), (x1, y1)) = (points[from], points[to]);
        let off = |at: usize| {
            let (x, y) = points[at];
            let share = if x1 > x0 { (x - x0) / (x1 - x0) } else { 0.0 };
            (y - (y0 + share * (y1 - y0))).abs()
        };
        let farthest = (from + 1..to).max_by(|a, b| off(*a).total_cmp(&off(*b)));
        if let Some(at) = farthest.filter(|at| off(*at) > tolerance) {
            keep[at] = true;
            open.extend([(from, at), (at, to)]);
        }
    }
    let kept: Vec<(f64, f64)> =
        points.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(point, _)| *point).collect();
    gapped(&kept)
}

/// The lowest and highest finite value; none without any.
pub(super) fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((f64::min(low, value), f64::max(high, value))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_series_is_left_as_it_is_and_a_long_one_becomes_means() {
        let short = [(1.0, 3.0), (2.0, 1.0)];
        let smoothed = smooth(&short);
        assert_eq!((smoothed.window, smoothed.means), (1, short.map(Some).to_vec()));
        let long: Vec<(f64, f64)> = (0..1000).map(|n| (f64::from(n), f64::from(n % 2))).collect();
        let smoothed = smooth(&long);
        assert_eq!(smoothed.window, 5);
        assert_eq!(smoothed.means.len(), 200);
        assert_eq!(smoothed.means[0], Some((2.0, 0.4)));
        assert_eq!(smoothed.bands[0], Some((2.0, 0.0, 1.0)));
    }

    #[test]
    fn a_stretch_with_a_loss_that_is_no_number_is_a_gap() {
        let points: Vec<(f64, f64)> =
            (0..480).map(|n| (f64::from(n), if n == 7 { f64::NAN } else { 1.0 })).collect();
        let means = smooth(&points).means;
        assert_eq!(means[3], None);
        assert_eq!(means.iter().flatten().count(), 239);
    }

    #[test]
    fn an_outline_keeps_corners_and_drops_what_lies_on_lines() {
        let points: Vec<(f64, f64)> =
            (0..=100).map(|n| (f64::from(n), f64::from(if n < 30 { n } else { 7 }))).collect();
        let corners = [(0.0, 0.0), (29.0, 29.0), (30.0, 7.0), (100.0, 7.0)];
        assert_eq!(outline(&points), corners.map(Some).to_vec());
        assert_eq!(outline(&[]), vec![]);
        assert_eq!(outline(&[(1.0, 2.0)]), vec![Some((1.0, 2.0))]);
        assert_eq!(range([f64::NAN].into_iter()), None);
    }
}
