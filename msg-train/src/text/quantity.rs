//! Numbers and durations as people read them.

/// A number with three digits and an SI prefix. A whole number below 1000 has no decimals, an empty sum no sign.
pub(crate) fn count(value: f64) -> String {
    const PREFIXES: [&str; 9] = ["", "k", "M", "G", "T", "P", "E", "Z", "Y"];
    let (mut scaled, mut prefix) = (unsigned_zero(value), 0);
    // 999.5 would be printed as 1000.
    while scaled.abs() >= 999.5 && prefix + 1 < PREFIXES.len() {
        scaled /= 1000.0;
        prefix += 1;
    }
    let digits = match scaled.abs() {
        _ if prefix == 0 && scaled.fract() == 0.0 => 0,
        0.0..9.995 => 2,
        9.995..99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.digits$}{}", PREFIXES[prefix])
}

/// Seconds by their two largest units; `-` for what is no duration.
pub(crate) fn duration(seconds: f64) -> String {
    if !(0.0..1e10).contains(&seconds) {
        return "-".to_owned();
    }
    let whole = seconds.round() as u64;
    let (days, hours, minutes) = (whole / 86400, whole / 3600 % 24, whole / 60 % 60);
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{minutes}m {:02}s", whole % 60),
        3600..86400 => format!("{hours}h {minutes:02}m"),
        _ => format!("{days}d {hours:02}h"),
    }
}

/// A number with narrow spaces between thousands.
pub(crate) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && digits.len() > 4 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// The value, 0 in place of -0: `0.0` times a negative number and an empty sum are -0.
pub(crate) fn unsigned_zero(value: f64) -> f64 {
    value + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_prefix() {
        let values =
            [12.0, 999.0, 999.4, 999.6, 1234.0, 45_678.0, 99_950.0, 999_900.0, 124_439_808.0, 9.999e9];
        let texts = ["12", "999", "999", "1.00k", "1.23k", "45.7k", "100k", "1.00M", "124M", "10.0G"];
        assert_eq!(values.map(count), texts);
        let values = [3e9, 3.2e18, 1e21, 1e24, 1e28, -1500.0, f64::NAN, f64::INFINITY];
        let texts = ["3.00G", "3.20E", "1.00Z", "1.00Y", "10000Y", "-1.50k", "NaN", "infY"];
        assert_eq!(values.map(count), texts);
    }

    #[test]
    fn whole_numbers_below_a_thousand_have_no_decimals_and_fractions_keep_theirs() {
        assert_eq!([0.0, 7.0, 7.25, 99.9, 0.004].map(count), ["0", "7", "7.25", "99.9", "0.00"]);
    }

    #[test]
    fn zero_has_no_sign() {
        assert_eq!([count(-0.0), duration(-0.0)], ["0", "0s"]);
        assert!(unsigned_zero(-0.0).is_sign_positive() && unsigned_zero(-1.0) == -1.0);
    }

    #[test]
    fn durations_have_two_parts() {
        let seconds = [0.4, 59.6, 61.0, 3600.0, 90_000.0, -1.0, f64::NAN, f64::INFINITY];
        let texts = ["0s", "1m 00s", "1m 01s", "1h 00m", "1d 01h", "-", "-", "-"];
        assert_eq!(seconds.map(duration), texts);
    }

    #[test]
    fn thousands_are_separated_from_five_digits_on() {
        let texts = ["0", "9999", "12\u{202f}345", "1\u{202f}234\u{202f}567"];
        assert_eq!([0, 9999, 12_345, 1_234_567].map(grouped), texts);
    }
}
