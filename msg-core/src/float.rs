//! The floating point numbers that operations are written for, and how the Cpu's kernels store activations between
//! them: as f32, or rounded to bf16.

use dfdx::shapes::Dtype;
use half::bf16;

/// Floating point numbers that the operations are written for: f32, and f64 for the finite differences of tests.
pub trait Float: Dtype + num_traits::Float {
    /// Rounds a constant to this type.
    fn of(value: f64) -> Self;
}

impl Float for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }
}

impl Float for f64 {
    fn of(value: f64) -> Self {
        value
    }
}

/// A number in memory that is f32 in registers.
pub(crate) trait Stored: bytemuck::Pod + Send + Sync {
    /// Rounds to nearest, ties to even.
    fn of(x: f32) -> Self;
    /// The value, exactly.
    fn get(self) -> f32;
    /// The bits as bf16, rounded where need be.
    fn bf16_bits(self) -> u16;
}

impl Stored for f32 {
    #[inline(always)]
    fn of(x: f32) -> Self {
        x
    }

    #[inline(always)]
    fn get(self) -> f32 {
        self
    }

    #[inline(always)]
    fn bf16_bits(self) -> u16 {
        let bits = self.to_bits();
        // Half of the last place kept, a little less where that is even; a carry reaches the exponent.
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        // A NaN's payload could be lost or overflow: keep its high part, and make it quiet.
        (if self.is_nan() { (bits >> 16) | 0x40 } else { rounded }) as u16
    }
}

impl Stored for bf16 {
    #[inline(always)]
    fn of(x: f32) -> Self {
        bf16::from_bits(x.bf16_bits())
    }

    #[inline(always)]
    fn get(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn bf16_bits(self) -> u16 {
        self.to_bits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_that_of_the_half_crate() {
        for step in 0..1 << 20 {
            let x = f32::from_bits((step as u32).wrapping_mul(4099));
            let (got, expected) = (bf16::of(x), bf16::from_f32(x));
            assert!(got.to_bits() == expected.to_bits(), "{x:e}: {got:?}, {expected:?}");
            assert!(x.is_nan() || bf16::of(got.get()) == got);
        }
    }
}
