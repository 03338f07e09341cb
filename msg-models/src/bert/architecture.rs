//! What exact growth and folding know of a BERT.

use super::Bert;
use crate::function_preserving::{Architecture, Form, Numbers};
use msg_core::{Backend, ops::NormOrder};

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

    fn numbers(&mut self) -> Numbers<'_> {
        let config = self.config_mut();
        Numbers { eps: &mut config.eps, head_dim: &mut config.head_dim }
    }
}
