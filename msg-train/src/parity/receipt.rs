//! Parity receipts: what a growth, or the end of a ramp, did to the model's outputs on a fixed batch.

use crate::error::{Error, Result};

/// Two computations of the same function, compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Receipt {
    /// Largest difference of any output (logits of every position and head).
    pub max_dlogit: f64,
    /// Difference of the loss.
    pub dloss: f64,
    /// Outputs whose bits differ.
    pub differing: usize,
    /// Outputs compared.
    pub outputs: usize,
    /// Largest difference allowed.
    pub tolerance: f64,
}

impl Receipt {
    /// Compares outputs and losses before and after. A value that is not finite counts as infinitely far.
    pub fn new(before: (&[f32], f32), after: (&[f32], f32), tolerance: f64) -> Self {
        let distance = |a: f32, b: f32| match (f64::from(a) - f64::from(b)).abs() {
            d if d.is_finite() => d,
            _ => f64::INFINITY,
        };
        let pairs = || before.0.iter().zip(after.0);
        let same_length = before.0.len() == after.0.len();
        let largest = pairs().map(|(&a, &b)| distance(a, b)).fold(0.0, f64::max);
        Receipt {
            max_dlogit: if same_length { largest } else { f64::INFINITY },
            dloss: distance(before.1, after.1),
            differing: pairs().filter(|(a, b)| a.to_bits() != b.to_bits()).count(),
            outputs: before.0.len(),
            tolerance,
        }
    }

    /// Whether the function is the same within the tolerance; at tolerance 0, to the bit.
    pub fn holds(&self) -> bool {
        if self.tolerance == 0.0 {
            return self.differing == 0 && self.max_dlogit == 0.0 && self.dloss == 0.0;
        }
        self.max_dlogit <= self.tolerance && self.dloss <= self.tolerance
    }

    /// Refuses to continue with another function.
    ///
    /// # Errors
    /// [`Error::Receipt`] with the figures.
    pub fn check(&self, what: &str) -> Result<()> {
        if self.holds() {
            return Ok(());
        }
        Err(Error::Receipt(format!(
            "{what}: the model computes another function: max |dlogit| {:e}, dloss {:e}, {} of {} outputs differ, \
             tolerance {:e}",
            self.max_dlogit, self.dloss, self.differing, self.outputs, self.tolerance
        )))
    }
}

impl From<Receipt> for crate::metrics::Receipt {
    fn from(receipt: Receipt) -> Self {
        crate::metrics::Receipt {
            max_dlogit: receipt.max_dlogit,
            dloss: receipt.dloss,
            tolerance: receipt.tolerance,
            function_preserving: receipt.holds(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_fails_closed_on_any_bit_on_nan_and_on_a_missing_output() {
        let receipt = |a: &[f32], b: &[f32], tolerance| Receipt::new((a, 1.0), (b, 1.0), tolerance);
        assert!(receipt(&[1.0, 2.0], &[1.0, 2.0], 0.0).holds());
        assert!(!receipt(&[1.0, 0.0], &[1.0, -0.0], 0.0).holds());
        assert!(!receipt(&[1.0], &[1.0 + f32::EPSILON], 0.0).holds());
        assert!(receipt(&[1.0], &[1.0 + f32::EPSILON], 1e-6).holds());
        assert!(!receipt(&[1.0], &[f32::NAN], 1e30).holds());
        assert!(!receipt(&[f32::NAN], &[f32::NAN], 1e30).holds());
        assert!(!receipt(&[1.0], &[1.0, 2.0], 1e30).holds());
        assert!(!Receipt::new((&[1.0], 1.0), (&[1.0], f32::NAN), 1.0).holds());
        let text = receipt(&[1.0], &[1.5], 0.0).check("growth").err().map(|e| e.to_string());
        let expected = "growth: the model computes another function: max |dlogit| 5e-1, dloss 0e0, 1 of 1 outputs \
                        differ, tolerance 0e0";
        assert_eq!(text.as_deref(), Some(expected));
    }
}
