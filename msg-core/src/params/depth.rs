//! Depth maps: which old layer each layer of the grown model is, copies, or neither.

use crate::error::{Error, Result};

/// Where one layer of the grown model comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerSource {
    /// It is this old layer.
    Same(usize),
    /// It is new and starts as a copy of this old layer.
    Copy(usize),
    /// It is new and starts from the fill rule.
    Fresh,
}

/// For each layer of the grown model its source. Every old layer stands in it once, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DepthMap {
    old: usize,
    layers: Vec<LayerSource>,
}

impl DepthMap {
    /// A map from explicit sources.
    ///
    /// # Errors
    /// [`Error::Depth`] unless the old layers `0..old` stand in it once each, in order, and copies
    /// name old layers; [`Error::Zero`] for no layers.
    pub fn new(old: usize, layers: Vec<LayerSource>) -> Result<Self> {
        if old == 0 || layers.is_empty() {
            return Err(Error::Zero { what: "layers" });
        }
        let mut expected = 0;
        for source in &layers {
            match *source {
                LayerSource::Same(got) if got == expected && got < old => expected += 1,
                LayerSource::Copy(got) if got < old => {}
                LayerSource::Fresh => {}
                LayerSource::Same(got) | LayerSource::Copy(got) => {
                    return Err(Error::Depth { expected, got, old });
                }
            }
        }
        if expected < old {
            return Err(Error::Shrink { axis: "layers", old, new: layers.len() });
        }
        Ok(DepthMap { old, layers })
    }

    /// No change.
    pub fn identity(layers: usize) -> Self {
        DepthMap { old: layers, layers: (0..layers).map(LayerSource::Same).collect() }
    }

    /// The old stack, repeated on top of itself.
    ///
    /// # Errors
    /// As [`DepthMap::new`].
    pub fn stack(old: usize, new: usize) -> Result<Self> {
        Self::on_top(old, new, |layer| LayerSource::Copy(layer % old))
    }

    /// The old stack, fresh layers on top.
    ///
    /// # Errors
    /// As [`DepthMap::new`].
    pub fn fresh(old: usize, new: usize) -> Result<Self> {
        Self::on_top(old, new, |_| LayerSource::Fresh)
    }

    /// Each old layer followed by its copies; the first ones get one more where the numbers do not divide.
    ///
    /// # Errors
    /// As [`DepthMap::new`].
    pub fn interpolate(old: usize, new: usize) -> Result<Self> {
        Self::check(old, new)?;
        let group = |layer: usize| new / old + usize::from(layer < new % old);
        let layers = (0..old)
            .flat_map(|layer| {
                let copies = std::iter::repeat_n(LayerSource::Copy(layer), group(layer) - 1);
                std::iter::once(LayerSource::Same(layer)).chain(copies)
            })
            .collect();
        Self::new(old, layers)
    }

    fn on_top(old: usize, new: usize, source: impl FnMut(usize) -> LayerSource) -> Result<Self> {
        Self::check(old, new)?;
        Self::new(old, (0..old).map(LayerSource::Same).chain((old..new).map(source)).collect())
    }

    fn check(old: usize, new: usize) -> Result<()> {
        match (old, new) {
            (0, _) | (_, 0) => Err(Error::Zero { what: "layers" }),
            _ if new < old => Err(Error::Shrink { axis: "layers", old, new }),
            _ => Ok(()),
        }
    }

    /// Layers before.
    pub fn old_layers(&self) -> usize {
        self.old
    }

    /// The sources, bottom layer first.
    pub fn layers(&self) -> &[LayerSource] {
        &self.layers
    }

    /// Whether anything changes.
    pub fn grows(&self) -> bool {
        self.layers.len() > self.old
    }

    /// Lays out a stack of `layers` for the grown model; new places hold a stand-in (their source, or
    /// layer 0) whose tensors the growth operator replaces.
    ///
    /// # Errors
    /// [`Error::Size`] where the stack has another number of layers than the map.
    pub fn arrange<L: Clone>(&self, layers: &[L]) -> Result<Vec<L>> {
        crate::error::same_size("growth", "layers", self.old, layers.len())?;
        let pick = |source: &LayerSource| match *source {
            LayerSource::Same(from) | LayerSource::Copy(from) => layers[from].clone(),
            LayerSource::Fresh => layers[0].clone(),
        };
        Ok(self.layers.iter().map(pick).collect())
    }

    /// Carries one value per layer over the growth: old layers keep theirs, new ones get `born`.
    pub fn carry<T: Clone>(&self, old: &[T], born: T) -> Vec<T> {
        let pick = |source: &LayerSource| match *source {
            LayerSource::Same(from) => old.get(from).cloned().unwrap_or_else(|| born.clone()),
            _ => born.clone(),
        };
        self.layers.iter().map(pick).collect()
    }
}
