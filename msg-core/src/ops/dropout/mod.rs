//! Dropout whose masks are a pure function of place and step: no state, no order of draws.
//!
//! An entry's fate depends on (seed, step, micro-batch, layer, site, coordinates) alone, so a resumed
//! run, a recomputed activation and any number of threads draw the same, and old units draw after a
//! growth what they would have drawn without it.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;

use crate::{
    error::{Context, Error, Result},
    float::Float,
    random::{Key, fill_uniform},
};
use dfdx::{
    shapes::{HasShape, Shape},
    tensor::{Cpu, Tape, Tensor},
    tensor_ops::{Device, TryMul},
};

/// The place in a model at which something is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropoutSite {
    /// The layer's identity: it stays with the layer when others are inserted below it.
    pub layer: Option<u64>,
    /// The place within the layer or model.
    pub place: &'static str,
}

/// The dropout of one micro-batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    rate: f32,
    seed: u64,
    step: u64,
    micro_batch: u64,
}

impl Dropout {
    /// No dropout.
    pub const OFF: Dropout = Dropout { rate: 0.0, seed: 0, step: 0, micro_batch: 0 };

    /// Dropout at `rate` for one micro-batch of one step.
    ///
    /// # Errors
    /// [`Error::Value`] unless `0 <= rate < 1`.
    pub fn new(rate: f32, seed: u64, step: u64, micro_batch: u64) -> Result<Self> {
        if !(0.0..1.0).contains(&rate) {
            return Err(Error::Value { what: "dropout", expected: "0 <= rate < 1", got: rate.into() });
        }
        Ok(Dropout { rate, seed, step, micro_batch })
    }

    /// Drops entries of `x` and scales the others by `1/(1-rate)`. Up to four axes.
    ///
    /// # Errors
    /// [`Error::Value`] for more than four axes.
    pub fn apply<S: Shape, E: Float, D: DropoutKernel<E>, T: Tape<E, D>>(
        &self,
        x: Tensor<S, E, D, T>,
        site: DropoutSite,
    ) -> Result<Tensor<S, E, D, T>> {
        if S::NUM_DIMS > 4 {
            return Err(Error::Value {
                what: "dropout: number of axes",
                expected: "at most 4",
                got: S::NUM_DIMS as f64,
            });
        }
        let Some(stream) = self.stream(site) else { return Ok(x) };
        let factors = D::factors(x.device(), &stream, x.shape())?;
        x.try_mul(factors).during("dropout")
    }

    /// The factors at a site, where anything is dropped.
    pub(crate) fn stream(&self, site: DropoutSite) -> Option<Stream> {
        if self.rate == 0.0 {
            return None;
        }
        let layer = site.layer.map_or(String::new(), |layer| layer.to_string());
        let name = format!("dropout/{}/{layer}/{}", self.micro_batch, site.place);
        Some(Stream { key: Key::new(self.seed, &name, self.step), rate: self.rate })
    }
}

/// A device that computes the factors of a whole tensor.
pub trait DropoutKernel<E: Float>: Device<E> {
    /// The factors of a tensor of at most four axes.
    fn factors<S: Shape>(device: &Self, stream: &Stream, shape: &S) -> Result<Tensor<S, E, Self>> {
        let factors = stream.all(shape.concrete().as_ref());
        let factors = factors.into_iter().map(|factor| E::of(factor.into())).collect();
        device.try_tensor_from_vec(factors, *shape).during("dropout")
    }
}

impl<E: Float> DropoutKernel<E> for Cpu where Cpu: Device<E> {}

/// The factors at one site: 0 or `1/(1-rate)`.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    key: Key,
    rate: f32,
}

impl Stream {
    /// Those of the row with these leading coordinates (of a tensor of four axes; absent ones are 0).
    pub(crate) fn row(&self, lead: [usize; 3], factors: &mut [f32]) {
        fill_uniform(self.key, lead.map(|at| at as u32), 0, factors);
        let kept = self.kept();
        for factor in factors {
            *factor = if *factor < self.rate { 0.0 } else { kept };
        }
    }

    /// The key, the share of dropped entries, and the factor of the others.
    #[cfg(feature = "cuda")]
    pub(crate) fn numbers(&self) -> (Key, f32, f32) {
        (self.key, self.rate, self.kept())
    }

    fn kept(&self) -> f32 {
        (1.0 / (1.0 - f64::from(self.rate))) as f32
    }

    /// Those of every entry of a tensor with these sizes (at most four), row-major.
    fn all(&self, sizes: &[usize]) -> Vec<f32> {
        let mut padded = [1; 4];
        padded[4 - sizes.len()..].copy_from_slice(sizes);
        let [a, b, c, d] = padded;
        let mut factors = vec![0.0; a * b * c * d];
        if d > 0 {
            for (row, factors) in factors.chunks_exact_mut(d).enumerate() {
                self.row([row / (b * c), row / c % b, row % c], factors);
            }
        }
        factors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: DropoutSite = DropoutSite { layer: Some(3), place: "mlp" };

    #[test]
    fn old_units_draw_the_same_in_a_larger_tensor() {
        let dropout = Dropout::new(0.4, 1, 2, 3).unwrap();
        let stream = dropout.stream(SITE).unwrap();
        let (small, large) = (stream.all(&[4, 6, 5]), stream.all(&[4, 6, 9]));
        for row in 0..24 {
            assert_eq!(small[row * 5..row * 5 + 5], large[row * 9..row * 9 + 5]);
        }
    }

    #[test]
    fn the_share_of_dropped_entries_is_the_rate_and_the_mean_is_kept() {
        let factors = Dropout::new(0.1, 1, 2, 3).unwrap().stream(SITE).unwrap().all(&[300, 300]);
        let dropped = factors.iter().filter(|f| **f == 0.0).count() as f64 / factors.len() as f64;
        let mean = factors.iter().map(|&f| f64::from(f)).sum::<f64>() / factors.len() as f64;
        assert!((dropped - 0.1).abs() <= 0.004 && (mean - 1.0).abs() <= 0.005, "{dropped} {mean}");
    }

    #[test]
    fn every_part_of_the_place_and_time_matters() {
        let base = Dropout::new(0.5, 1, 2, 3).unwrap();
        let draw = |d: Dropout, site| d.stream(site).unwrap().all(&[64]);
        let of = draw(base, SITE);
        for other in
            [Dropout { seed: 9, ..base }, Dropout { step: 9, ..base }, Dropout { micro_batch: 9, ..base }]
        {
            assert_ne!(draw(other, SITE), of);
        }
        assert_ne!(draw(base, DropoutSite { layer: Some(4), ..SITE }), of);
        assert_ne!(draw(base, DropoutSite { place: "attention", ..SITE }), of);
        assert!(Dropout::new(1.0, 0, 0, 0).is_err() && Dropout::new(f32::NAN, 0, 0, 0).is_err());
    }
}
