//! The transcendental functions of the Cpu kernels, without branches, so that loops over them vectorise.
//!
//! `exp` reduces to |r| <= ln 2 / 2 and takes the series to degree 7 (relative error below 1e-7). The normal
//! distribution rests on `erfcx(z) = exp(z^2) erfc(z)`, a polynomial in `t = 1/(1 + 0.4 z)` fitted for this
//! file by weighted least squares on 400 Chebyshev nodes of z in [0, 9.4] (largest relative error 5.7e-8), so
//! that one exponential gives distribution and density.

#![allow(clippy::excessive_precision)] // constants as they were computed

/// `e^x`. Below the smallest normal result 0, above the largest infinity; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const SMALLEST: f32 = -87.33;
    const LARGEST: f32 = 88.72;
    /// 1.5 * 2^23: adding it rounds to an integer and leaves that in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_375;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let whole = shifted - ROUND;
    let r = whole.mul_add(-LN_2_LOW, whole.mul_add(-LN_2_HIGH, x));
    let mut p = 1.0f32 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p.mul_add(r, c);
    }
    let scaled = f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23));
    let capped = if x > LARGEST { f32::INFINITY } else { scaled };
    if x < SMALLEST { 0.0 } else { capped }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The tanh form of GELU and its derivative.
#[inline(always)]
pub(crate) fn gelu_tanh(x: f32) -> (f32, f32) {
    const ROOT: f32 = 0.797_884_560_8; // sqrt(2/pi)
    const CUBE: f32 = 0.044_715;
    let square = x * x;
    // (1 + tanh(u))/2 is the logistic function of 2u.
    let s = logistic(2.0 * ROOT * x * square.mul_add(CUBE, 1.0));
    let inner = 2.0 * ROOT * square.mul_add(3.0 * CUBE, 1.0);
    (x * s, (x * s).mul_add((1.0 - s) * inner, s))
}

/// The error-function form of GELU and its derivative.
#[inline(always)]
pub(crate) fn gelu_erf(x: f32) -> (f32, f32) {
    const DENSITY: f32 = 0.398_942_280_4; // 1/sqrt(2 pi)
    let bell = exp(-0.5 * x * x);
    let t = 1.0 / (x.abs() * (0.4 * std::f32::consts::FRAC_1_SQRT_2) + 1.0);
    let mut p = 0.040_055_036_362_009_53f32;
    for c in [
        -0.134_421_944_349_365_33,
        0.071_637_085_215_802_78,
        0.102_299_703_535_339_93,
        0.069_695_952_330_914_05,
        0.197_752_728_234_740_27,
        0.200_751_459_793_102_97,
        0.226_605_544_654_745_92,
        0.225_624_494_938_377_25,
    ] {
        p = p.mul_add(t, c);
    }
    let tail = 0.5 * bell * (t * p);
    let cdf = if x < 0.0 { tail } else { 1.0 - tail };
    (x * cdf, (x * DENSITY).mul_add(bell, cdf))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points over a range, both ends included.
    fn points(from: f64, to: f64) -> impl Iterator<Item = f32> {
        (0..=20_000).map(move |i| (from + (to - from) * f64::from(i) / 20_000.0) as f32)
    }

    #[test]
    fn exp_is_right_to_the_last_bits_and_saturates() {
        for x in points(-87.3, 88.7) {
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error <= 2.5e-7, "exp({x}): relative error {error}");
        }
        assert_eq!((exp(0.0), exp(-88.0), exp(-1e30), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0, 0.0));
        assert_eq!((exp(89.0), exp(f32::INFINITY)), (f32::INFINITY, f32::INFINITY));
        assert!(exp(f32::NAN).is_nan());
    }

    /// Derivative by central differences in f64.
    fn slope(f: impl Fn(f64) -> f64, x: f64) -> f64 {
        (f(x + 1e-5) - f(x - 1e-5)) / 2e-5
    }

    #[test]
    fn both_forms_of_gelu_and_their_derivatives_are_right() {
        let tanh = |x: f64| {
            0.5 * x * (1.0 + (std::f64::consts::FRAC_2_PI.sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        };
        for x in points(-12.0, 12.0) {
            let (value, derivative) = gelu_tanh(x);
            let wide = f64::from(x);
            let error = (f64::from(value) - tanh(wide)).abs();
            assert!(error <= 4e-7 * wide.abs().max(1.0), "gelu_tanh({x}): {error}");
            assert!((f64::from(derivative) - slope(tanh, wide)).abs() <= 2e-6, "gelu_tanh'({x})");
        }
        // Phi by Simpson's rule from 0, 1e-12 accurate.
        let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let cdf = |x: f64| {
            let (n, h) = (400, x / 400.0);
            let inner: f64 =
                (1..n).map(|i| (if i % 2 == 1 { 4.0 } else { 2.0 }) * density(h * f64::from(i))).sum();
            0.5 + h / 3.0 * (density(0.0) + inner + density(x))
        };
        for x in points(-9.0, 9.0).step_by(7) {
            let (value, derivative) = gelu_erf(x);
            let wide = f64::from(x);
            let error = (f64::from(value) - wide * cdf(wide)).abs();
            assert!(error <= 3e-7 * wide.abs().max(1.0), "gelu_erf({x}): {error}");
            let expected = cdf(wide) + wide * density(wide);
            assert!((f64::from(derivative) - expected).abs() <= 1e-6, "gelu_erf'({x})");
        }
        assert!(gelu_tanh(f32::NAN).0.is_nan() && gelu_erf(f32::NAN).0.is_nan());
    }
}
