//! Whether an update is applied, and the factor by which its gradient is clipped.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;

/// What became of one update, from its loss and its gradients: what the host reads. Devices keep their own form of it
/// in their memory ([`OptimKernel::DeviceStatus`](super::kernel::OptimKernel::DeviceStatus)).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateStatus {
    /// Sum of the squares of all gradients, before clipping.
    pub square: f64,
    /// Factor on the gradients (clipping).
    pub grad_scale: f32,
    /// Whether loss and norm are finite; if not, the update changes nothing.
    pub applied: bool,
    /// The loss, where there was one.
    pub loss: Option<f32>,
}

impl Default for UpdateStatus {
    /// Before any gradient: nothing is applied.
    fn default() -> Self {
        UpdateStatus { square: 0.0, grad_scale: 1.0, applied: false, loss: None }
    }
}

impl UpdateStatus {
    /// The global norm of the gradients before clipping.
    pub fn norm(&self) -> f64 {
        self.square.sqrt()
    }

    /// Decides by a loss, where there is one, and the squares so far. `clip` is the largest norm, infinite for none.
    /// `status.cu` computes the same.
    pub(crate) fn check_finite_and_clip(&mut self, loss: Option<f32>, clip: f64) {
        let norm = self.norm();
        // As PyTorch's clip_grad_norm_: a factor of at most 1, with 1e-6 against 0/0.
        self.grad_scale = (clip / (norm + 1e-6)).min(1.0) as f32;
        self.applied = norm.is_finite() && loss.is_none_or(f32::is_finite);
        self.loss = loss;
    }
}
