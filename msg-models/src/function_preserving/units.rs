//! Values of a tensor by the units of one of its axes.

use dfdx::shapes::HasShape;
use msg_core::{
    Backend,
    axis::NamedShape,
    error::{Context, Result},
    params::Param,
};

/// The values of a tensor on the host, to be changed along its axes.
pub(super) struct Units {
    values: Vec<f32>,
    dims: Vec<usize>,
}

impl Units {
    pub(super) fn of<S: NamedShape, D: Backend>(tensor: &Param<S, D>) -> Result<Self> {
        Ok(Units {
            values: D::with_host_slice(tensor, <[f32]>::to_vec)?,
            dims: tensor.shape().concrete().into_iter().collect(),
        })
    }

    /// Changes every value by its unit along an axis.
    pub(super) fn along(&mut self, axis: usize, mut change: impl FnMut(usize, &mut f32)) {
        let (size, inner) = self.around(axis);
        for (at, value) in self.values.iter_mut().enumerate() {
            change(at / inner % size, value);
        }
    }

    /// Changes every value by its units along two axes.
    pub(super) fn along_both(&mut self, axes: [usize; 2], mut change: impl FnMut([usize; 2], &mut f32)) {
        let around = axes.map(|axis| self.around(axis));
        for (at, value) in self.values.iter_mut().enumerate() {
            change(around.map(|(size, inner)| at / inner % size), value);
        }
    }

    /// Puts the mean of the first `old` units of an axis into all others.
    pub(super) fn carry_mean(&mut self, axis: usize, old: usize) {
        let (size, inner) = self.around(axis);
        for block in self.values.chunks_exact_mut((size * inner).max(1)) {
            for at in 0..inner {
                let sum: f64 = (0..old).map(|unit| f64::from(block[unit * inner + at])).sum();
                let mean = (sum / old as f64) as f32;
                (old..size).for_each(|unit| block[unit * inner + at] = mean);
            }
        }
    }

    /// Copies the values of a smaller tensor in; `source` says where each unit of `axis` comes from there.
    pub(super) fn overlay(&mut self, axis: usize, from: &Units, source: &[Option<usize>]) {
        let (size, inner) = self.around(axis);
        let (smaller, _) = from.around(axis);
        for (row, values) in self.values.chunks_exact_mut(inner.max(1)).enumerate() {
            let (block, unit) = (row / size, row % size);
            if let Some(unit) = source[unit] {
                let at = (block * smaller + unit) * inner;
                values.copy_from_slice(&from.values[at..at + inner]);
            }
        }
    }

    /// The tensor again, of the shape of `like`.
    pub(super) fn tensor<S: NamedShape, D: Backend>(self, device: &D, shape: S) -> Result<Param<S, D>> {
        device.try_tensor_from_vec(self.values, shape).during("growth")
    }

    /// Units of an axis, and values that follow each other within one.
    fn around(&self, axis: usize) -> (usize, usize) {
        (self.dims[axis], self.dims[axis + 1..].iter().product())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_any_axis_are_found_and_means_go_into_the_new_ones() {
        let mut units = Units { values: (0..12).map(|i| i as f32).collect(), dims: vec![2, 3, 2] };
        let mut seen = Vec::new();
        units.along(1, |unit, _| seen.push(unit));
        assert_eq!(seen, [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2]);
        units.carry_mean(1, 2);
        assert_eq!(units.values, [0., 1., 2., 3., 1., 2., 6., 7., 8., 9., 7., 8.]);
        let mut larger = Units { values: vec![-1.0; 16], dims: vec![2, 4, 2] };
        larger.overlay(1, &units, &[Some(0), None, Some(2), Some(1)]);
        assert_eq!(larger.values, [0., 1., -1., -1., 1., 2., 2., 3., 6., 7., -1., -1., 7., 8., 8., 9.]);
    }
}
