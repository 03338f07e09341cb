//! What a parameter is for: what its initial and new entries hold, whether it decays, and which way
//! units flow through each of its axes.

/// What kind of parameter it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The matrix of a linear map.
    Weight,
    /// A table of vectors.
    Embedding,
    /// Added to the outputs of a linear map.
    Bias,
    /// Multiplies the outputs of a norm.
    NormWeight,
    /// Added to the outputs of a norm.
    NormBias,
}

/// What a tensor does to the units of one of its axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It computes them: rows of a weight, biases, norms, embeddings.
    Produces,
    /// It reads them: columns of a weight.
    Consumes,
}

/// A parameter's role. `flow` has one entry per axis of the tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Role {
    /// What it is.
    pub kind: Kind,
    /// Which way units flow through each axis, outermost first.
    pub flow: &'static [Flow],
    /// Factor on the standard deviation of normal entries (GPT scales what writes into its residual stream).
    pub scale: f32,
}

use Flow::{Consumes, Produces};

impl Role {
    /// A linear map (outputs, inputs).
    pub const fn weight() -> Self {
        Role { kind: Kind::Weight, flow: &[Produces, Consumes], scale: 1.0 }
    }

    /// Several linear maps of the same inputs (maps, outputs, inputs).
    pub const fn weights() -> Self {
        Role { kind: Kind::Weight, flow: &[Produces, Produces, Consumes], scale: 1.0 }
    }

    /// A table (entries, units).
    pub const fn embedding() -> Self {
        Role { kind: Kind::Embedding, flow: &[Produces, Produces], scale: 1.0 }
    }

    /// A bias per unit.
    pub const fn bias() -> Self {
        Role { kind: Kind::Bias, flow: &[Produces], scale: 1.0 }
    }

    /// A bias per unit of several maps (maps, outputs).
    pub const fn biases() -> Self {
        Role { kind: Kind::Bias, flow: &[Produces, Produces], scale: 1.0 }
    }

    /// A norm's weight (gamma), one per unit.
    pub const fn norm_weight() -> Self {
        Role { kind: Kind::NormWeight, flow: &[Produces], scale: 1.0 }
    }

    /// A norm's bias (beta), one per unit.
    pub const fn norm_bias() -> Self {
        Role { kind: Kind::NormBias, flow: &[Produces], scale: 1.0 }
    }

    /// The same role with its normal entries scaled by `factor`.
    #[must_use]
    pub const fn scaled(self, factor: f32) -> Self {
        Role { scale: factor, ..self }
    }

    /// Whether weight decay applies: to weights and tables, not to biases and norms.
    pub fn decays(&self) -> bool {
        matches!(self.kind, Kind::Weight | Kind::Embedding)
    }
}
