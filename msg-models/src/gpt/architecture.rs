//! What exact growth and folding know of a GPT.

use super::Gpt;
use crate::function_preserving::{Architecture, Form, Numbers};
use msg_core::{Backend, ops::NormOrder};

impl<D: Backend> Architecture<D> for Gpt<D> {
    const FORM: Form = Form { order: NormOrder::Pre, closing_norm: |_| false, tied_norm: |_| false };

    fn eps(&self) -> f64 {
        self.config().eps
    }

    fn numbers(&mut self) -> Numbers<'_> {
        let config = self.config_mut();
        Numbers { eps: &mut config.eps, head_dim: &mut config.head_dim }
    }
}
