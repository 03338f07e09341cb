//! What exact growth and folding know of a BERT.

use super::Bert;
use crate::exact::{Architecture, Form};
use msg_core::{device::Backend, ops::NormOrder};

impl<D: Backend> Architecture<D> for Bert<D> {
    const FORM: Form = Form {
        order: NormOrder::Post,
        closing_norm: |name| {
            let name = name.to_string();
            name.contains(".output.LayerNorm.") && !name.contains(".attention.output.")
        },
        tied_norm: |name| name.to_string().contains("predictions.transform.LayerNorm."),
    };

    fn eps(&self) -> f64 {
        self.config().eps
    }

    fn set_eps(&mut self, eps: f64) {
        self.config_mut().eps = eps;
    }

    fn set_head_dim(&mut self, head_dim: usize) {
        self.config_mut().head_dim = head_dim;
    }
}
