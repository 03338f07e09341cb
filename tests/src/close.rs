//! Comparisons that a NaN cannot pass.

use msg_core::float::Float;

/// The largest absolute value; NaN where there is one.
pub fn size_of<E: Float>(values: &[E]) -> f64 {
    values
        .iter()
        .map(|v| v.to_f64().unwrap_or(f64::NAN).abs())
        .fold(0.0, |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) })
}

/// Fails unless every pair differs by at most `relative` times the largest expected value.
///
/// # Panics
/// Where they differ by more, in number, or by a NaN.
pub fn assert_close<E: Float>(what: &str, expected: &[E], got: &[E], relative: f64) {
    assert_eq!(expected.len(), got.len(), "{what}: number of values");
    let tolerance = relative * size_of(expected).max(f64::MIN_POSITIVE);
    for (at, (&expected, &got)) in expected.iter().zip(got).enumerate() {
        let apart = (expected - got).to_f64().unwrap_or(f64::NAN).abs();
        let close = apart <= tolerance;
        assert!(close, "{what}: value {at}: expected {expected:?}, got {got:?}, tolerance {tolerance:e}");
    }
}

/// Fails unless both are the same bit for bit; a NaN equals nothing.
///
/// # Panics
/// Where a bit differs, or a value is NaN.
pub fn assert_same_bits<E: Float>(what: &str, expected: &[E], got: &[E]) {
    assert_eq!(expected.len(), got.len(), "{what}: number of values");
    for (at, (expected, got)) in expected.iter().zip(got).enumerate() {
        let same = expected == got && expected.is_sign_negative() == got.is_sign_negative();
        assert!(same, "{what}: value {at}: expected {expected:?}, got {got:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "value 1")]
    fn a_nan_is_never_close() {
        assert_close("x", &[1.0, f64::NAN], &[1.0, f64::NAN], 1e9);
    }

    #[test]
    #[should_panic(expected = "value 0")]
    fn the_sign_of_zero_is_a_bit() {
        assert_same_bits("x", &[0.0f32], &[-0.0]);
    }

    #[test]
    #[should_panic(expected = "value 0")]
    fn a_nan_is_never_the_same() {
        assert_same_bits("x", &[f32::NAN], &[f32::NAN]);
    }
}
