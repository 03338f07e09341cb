//! What exact growth and folding know of a GPT.

use super::Gpt;
use crate::exact::{Architecture, Form};
use msg_core::{device::Backend, ops::NormOrder};

impl<D: Backend> Architecture<D> for Gpt<D> {
    const FORM: Form = Form { order: NormOrder::Pre, closing_norm: |_| false, tied_norm: |_| false };

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
