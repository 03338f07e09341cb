//! The masks of one forward pass, and the sites at which they act.

use msg_core::{
    Backend,
    axis::{AttnDim, Axis, Ffn, Hidden, HiddenOut, hidden_out},
    error::Result,
    growth::Ramps,
    mask::{Gate, Mask},
};

use crate::growing::state::GrowthState;

/// Where in a model a mask acts: the rows of the table of masks in the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MaskPlace {
    /// The norm after the embeddings (BERT).
    EmbeddingNorm,
    /// The norm of the attention branch: before it (GPT) or after it (BERT).
    AttentionNorm,
    /// The norm of the feed-forward branch: before it (GPT) or after it (BERT).
    FeedForwardNorm,
    /// The norm before the head (GPT).
    FinalNorm,
    /// The norm of the MLM transform (BERT).
    TransformNorm,
    /// The pooler's output (BERT).
    Pooler,
    /// The feed-forward activation.
    FeedForward,
    /// The queries.
    Query,
    /// The keys.
    Key,
    /// The values.
    Value,
    /// The gate of a layer, both branches.
    Layer,
}

/// A place in one layer, or outside the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaskSite {
    /// The layer, bottom first; `None` outside the stack.
    pub layer: Option<usize>,
    /// The place.
    pub place: MaskPlace,
}

impl MaskSite {
    /// A place within a layer.
    pub fn in_layer(layer: usize, place: MaskPlace) -> Self {
        MaskSite { layer: Some(layer), place }
    }

    /// A place outside the stack.
    pub fn outside(place: MaskPlace) -> Self {
        MaskSite { layer: None, place }
    }
}

/// The masks of one forward pass. An axis whose units are all at 1 has none.
#[derive(Clone, Debug)]
pub struct Masks<D: Backend> {
    hidden: Mask<Hidden, f32, D>,
    hidden_out: Mask<HiddenOut, f32, D>,
    ffn: Mask<Ffn, f32, D>,
    inner: Mask<AttnDim, f32, D>,
    gates: Vec<Gate>,
    omitted: Option<MaskSite>,
}

impl<D: Backend> Masks<D> {
    /// The masks of a model in the step `step`; with `kept`, those at 1 throughout stay.
    pub(crate) fn at(device: &D, growing: &GrowthState, step: u64, kept: bool) -> Result<Self> {
        fn mask<A: Axis, D: Backend>(
            device: &D,
            ramps: &Ramps,
            axis: A,
            step: u64,
            kept: bool,
        ) -> Result<Mask<A, f32, D>> {
            if kept { ramps.mask_kept(device, axis, step) } else { ramps.mask(device, axis, step) }
        }
        let GrowthState { sizes, ramps, .. } = growing;
        let hidden = mask(device, ramps, sizes.hidden(), step, kept)?;
        Ok(Masks {
            hidden_out: hidden.renamed(hidden_out)?,
            hidden,
            ffn: mask(device, ramps, sizes.ffn(), step, kept)?,
            inner: mask(device, ramps, sizes.inner(growing.head_dim()), step, kept)?,
            gates: (0..sizes.layers).map(|layer| ramps.gate(layer, step)).collect(),
            omitted: None,
        })
    }

    /// Leaves out the mask of one site: a hook for tests that prove that every single mask is needed.
    #[doc(hidden)]
    #[must_use]
    pub fn without(mut self, site: MaskSite) -> Self {
        self.omitted = Some(site);
        self
    }

    /// How many axes and layers are masked; 0 after the last ramp.
    pub fn active(&self) -> usize {
        let axes =
            [self.hidden.values().is_some(), self.ffn.values().is_some(), self.inner.values().is_some()];
        let axes = axes.into_iter().filter(|active| *active).count();
        axes + self.gates.iter().filter(|gate| !gate.is_open()).count()
    }

    /// The mask of the residual stream at a site.
    pub fn hidden(&self, site: MaskSite) -> Mask<Hidden, f32, D> {
        self.unless_omitted(site, &self.hidden)
    }

    /// The same on the output side of a square map.
    pub fn hidden_out(&self, site: MaskSite) -> Mask<HiddenOut, f32, D> {
        self.unless_omitted(site, &self.hidden_out)
    }

    /// The mask of the feed-forward units at a site.
    pub fn ffn(&self, site: MaskSite) -> Mask<Ffn, f32, D> {
        self.unless_omitted(site, &self.ffn)
    }

    /// The mask of the heads' units at a site.
    pub fn inner(&self, site: MaskSite) -> Mask<AttnDim, f32, D> {
        self.unless_omitted(site, &self.inner)
    }

    /// The gate of a layer.
    pub fn gate(&self, layer: usize) -> Gate {
        let omitted = self.omitted == Some(MaskSite::in_layer(layer, MaskPlace::Layer));
        if omitted { Gate::OPEN } else { self.gates.get(layer).copied().unwrap_or(Gate::OPEN) }
    }

    fn unless_omitted<A: Axis>(&self, site: MaskSite, mask: &Mask<A, f32, D>) -> Mask<A, f32, D> {
        if self.omitted == Some(site) { Mask::none() } else { mask.clone() }
    }
}
