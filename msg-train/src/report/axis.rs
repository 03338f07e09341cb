//! Axes: a range, ticks at round numbers, and a title with the unit that keeps ticks short.

use crate::{metrics::columns::Quantity, text::quantity::unsigned_zero};

/// A range with ticks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    pub low: f64,
    pub high: f64,
    /// Place and text.
    pub ticks: Vec<(f64, String)>,
    pub title: String,
    log: bool,
}

impl Axis {
    /// An axis of that name from `low` to `high` with about `wanted` ticks.
    pub(super) fn new((quantity, name): (Quantity, &str), low: f64, high: f64, wanted: f64) -> Axis {
        let (low, high) = match () {
            () if !(low.is_finite() && high.is_finite()) => (0.0, 1.0),
            () if high > low => (low, high),
            // One value alone lies in the middle.
            () if low == 0.0 => (0.0, 1.0),
            () => (low - low.abs() / 2.0, low + low.abs() / 2.0),
        };
        if quantity == Quantity::Log && low > 0.0 {
            return Axis { low, high, ticks: log_ticks(low, high), title: name.to_owned(), log: true };
        }
        let (unit, title) = unit(quantity, name, low.abs().max(high.abs()));
        // Half a step is no step, but half a million tokens is.
        let whole = unit == 1.0 && quantity == Quantity::Count;
        let step = round_step((high - low) / unit / wanted.max(1.0), whole);
        let digits = (-step.log10() - 1e-9).ceil().clamp(0.0, 12.0) as usize;
        let (first, last) = ((low / unit / step - 1e-9).ceil(), (high / unit / step + 1e-9).floor());
        let ticks = (0..=((last - first).max(0.0) as usize)).map(|n| {
            let value = (first + n as f64) * step;
            (value * unit, format!("{:.digits$}", unsigned_zero(value)))
        });
        Axis { low, high, ticks: ticks.collect(), title, log: false }
    }

    /// The share of the axis that lies before a value; values outside lie at its ends.
    pub(super) fn share(&self, value: f64) -> f64 {
        let share = match self.log {
            // A value of 0 or less has no logarithm: it lies at the lower end.
            true => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        share.clamp(0.0, 1.0)
    }
}

/// The value of a tick that reads 1, and the axis' title, which names that unit.
fn unit(quantity: Quantity, name: &str, largest: f64) -> (f64, String) {
    match quantity {
        Quantity::Plain | Quantity::Log => (1.0, name.to_owned()),
        Quantity::Count => match largest {
            ..2e4 => (1.0, name.to_owned()),
            ..1e6 => (1e3, format!("{name} (thousands)")),
            ..1e9 => (1e6, format!("{name} (millions)")),
            _ => (1e9, format!("{name} (billions)")),
        },
        Quantity::Time => match largest {
            ..180.0 => (1.0, format!("{name} (seconds)")),
            ..10_800.0 => (60.0, format!("{name} (minutes)")),
            _ => (3600.0, format!("{name} (hours)")),
        },
        Quantity::Power => {
            let power = largest.log10().floor();
            match largest > 0.0 && !(-1.0..3.0).contains(&power) {
                true => (10f64.powf(power), format!("{name} (× 10{})", superscript(power as i32))),
                false => (1.0, name.to_owned()),
            }
        }
    }
}

/// The 1, 2 or 5 times a power of ten next to a length; at least 1 for whole things.
fn round_step(length: f64, whole: bool) -> f64 {
    let power = 10f64.powf(length.log10().floor());
    let step = match length / power {
        ..1.5 => power,
        ..3.5 => 2.0 * power,
        ..7.5 => 5.0 * power,
        _ => 10.0 * power,
    };
    if whole { step.max(1.0) } else { step }
}

/// Ticks of a range above 0: the fewer of each power of ten, the more powers there are.
fn log_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let leads: &[f64] = match high / low {
        ..20.0 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0],
        ..200.0 => &[1.0, 2.0, 5.0],
        _ => &[1.0],
    };
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let values = powers.flat_map(|power| leads.iter().map(move |lead| lead * 10f64.powi(power)));
    let inside = values.filter(|value| (low..=high).contains(value));
    // Three digits hide that a sum of binary fractions is not the round number.
    let text = |value: f64| match value {
        0.001..1e6 => {
            let digits = (2.0 - value.log10().floor()).max(0.0) as usize;
            let text = format!("{value:.digits$}");
            if digits == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
        }
        _ => format!("{value:.0e}"),
    };
    inside.map(|value| (value, text(value))).collect()
}

/// A number as a power is written.
fn superscript(power: i32) -> String {
    let digit = |letter: char| match letter {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        other => other.to_digit(10).and_then(|n| char::from_u32(0x2070 + n)).unwrap_or(other),
    };
    power.to_string().chars().map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_carry_no_more_digits_than_they_need() {
        let axis = Axis::new((Quantity::Plain, "loss"), 2.31, 5.02, 5.0);
        assert_eq!(texts(&axis), ["2.5", "3.0", "3.5", "4.0", "4.5", "5.0"]);
        let axis = Axis::new((Quantity::Count, "steps"), 0.0, 600.0, 6.0);
        assert_eq!(texts(&axis), ["0", "100", "200", "300", "400", "500", "600"]);
        let axis = Axis::new((Quantity::Count, "steps"), 0.0, 2.0, 8.0);
        assert_eq!(texts(&axis), ["0", "1", "2"]);
        let axis = Axis::new((Quantity::Plain, "mask"), -0.05, 1.05, 4.0);
        assert_eq!(texts(&axis), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
    }

    #[test]
    fn large_and_small_numbers_move_their_unit_into_the_title() {
        let axis = Axis::new((Quantity::Count, "tokens"), 0.0, 3.2e6, 4.0);
        assert_eq!((axis.title.as_str(), texts(&axis)), ("tokens (millions)", vec!["0", "1", "2", "3"]));
        let axis = Axis::new((Quantity::Power, "FLOPs"), 0.0, 2.2e15, 4.0);
        assert_eq!((axis.title.as_str(), texts(&axis)[1]), ("FLOPs (× 10¹⁵)", "0.5"));
        let axis = Axis::new((Quantity::Power, "learning rate"), 0.0, 3e-4, 3.0);
        assert_eq!((axis.title.as_str(), texts(&axis)[3]), ("learning rate (× 10⁻⁴)", "3"));
        let axis = Axis::new((Quantity::Time, "time"), 0.0, 600.0, 5.0);
        assert_eq!((axis.title.as_str(), texts(&axis)[5]), ("time (minutes)", "10"));
    }

    #[test]
    fn a_logarithmic_axis_has_round_ticks_and_equal_factors_at_equal_lengths() {
        let axis = Axis::new((Quantity::Log, "loss"), 1.4, 11.0, 5.0);
        assert_eq!(texts(&axis), ["1.5", "2", "3", "4", "5", "6", "8", "10"]);
        assert!((axis.share(2.8) + axis.share(5.5) - 1.0).abs() < 1e-9);
        assert_eq!((axis.share(-1.0), axis.share(1e9)), (0.0, 1.0));
        assert_eq!(
            texts(&Axis::new((Quantity::Log, "loss"), 0.009, 0.9, 5.0)),
            ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5"]
        );
        assert!(!Axis::new((Quantity::Log, "loss"), 0.0, 3.0, 5.0).log);
    }

    #[test]
    fn an_axis_of_one_value_of_none_or_of_no_number_is_still_an_axis() {
        for (low, high) in [(3.0, 3.0), (0.0, 0.0), (f64::NAN, f64::NAN), (-2.0, -2.0), (1e-300, 1e-300)] {
            let axis = Axis::new((Quantity::Plain, "x"), low, high, 5.0);
            assert!(axis.high > axis.low && axis.ticks.len() < 20, "{axis:?}");
            assert!((0.0..=1.0).contains(&axis.share(low)) || low.is_nan());
        }
    }
}
