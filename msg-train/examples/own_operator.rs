//! A growth operator of one's own in a run: new units copy old ones with a little noise, and so do their moments. The
//! receipt at the growth shows that the operator keeps its promise. `cargo run -p msg-train --example own_operator`
use dfdx::{shapes::HasShape, tensor::Cpu, tensor_ops::TryAdd};
use msg_core::{
    Result,
    axis::NamedShape,
    error::Context,
    growth::{Fill, FillRule, GrowKernel, GrowthContext, Init, NewEntries, Operator, filled},
    optim::{AdamW, AdamWConfig},
    params::{Param, ParamName, Role},
};
use msg_models::{
    WidthInit,
    gpt::{Gpt, GptConfig},
    sizes,
};
use msg_train::{
    Plan, Trainer,
    config::{AtGrowth, LrConfig, ResolvedStage},
    data::TokenIds,
    metrics::Record,
};
use std::error::Error;

/// Copies with noise. Behind masks at 0 nothing of it is seen at first.
struct NoisyCopies {
    std: f32,
}

impl<D: GrowKernel> Operator<D> for NoisyCopies {
    fn masked(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        format!("copies with noise of {}", self.std)
    }

    fn tensor<S: NamedShape>(
        &self,
        context: &GrowthContext<'_, D>,
        name: &ParamName,
        role: Role,
    ) -> Result<Param<S, D>> {
        let source = Operator::<D>::source(self, context.growth, name, role)?;
        // The maps of the growth say which unit a new one copies.
        let copied: Param<S, D> = filled(FillRule::Zero, context, source, name, role)?;
        // Noise in new entries only: a tensor of zeros grown by the same maps.
        let old = context.old.get::<S>("noise", &context.source(name).1)?;
        let zeros: Param<S, D> = D::fresh(
            old.device(),
            old.shape(),
            NewEntries { key: context.growth.key(name), fill: Fill::Constant(0.0) },
        )?;
        let maps: Vec<_> =
            context.growth.axis_maps(old.shape())?.iter().map(|map| map.without_copies()).collect();
        let noise = NewEntries { key: context.growth.key(name), fill: Fill::Normal { std: self.std } };
        let noise: Param<S, D> = old.device().grow(&zeros, *copied.shape(), &maps, noise)?;
        copied.try_add(noise).during("noise")
    }

    /// Copied units begin with the moments of their source.
    fn moment<S: NamedShape>(
        &self,
        context: &GrowthContext<'_, D>,
        name: &ParamName,
        role: Role,
        _: &Param<S, D>,
    ) -> Result<Param<S, D>> {
        let source = Operator::<D>::source(self, context.growth, name, role)?;
        filled(FillRule::Zero, context, source, name, role)
    }
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let ids: Vec<u32> = "mask and grow, grow and mask; ".repeat(60).bytes().map(u32::from).collect();
    let data = TokenIds::new(ids, Vec::new())?;
    let small = sizes! { layers: 2, hidden: 16, ffn: 32, heads: 2 };
    let growth = AtGrowth { ramp: 20, units: WidthInit::Copy, ..AtGrowth::default() };
    let first =
        ResolvedStage { steps: 40, sizes: small, sequence: 16, batch: 4, growth: AtGrowth::default() };
    let second =
        ResolvedStage { sizes: sizes! { layers: 2, hidden: 32, ffn: 64, heads: 4 }, growth, ..first };
    let plan = Plan::of_stages(&[first, second], &LrConfig::constant(3e-3))?;

    let config = GptConfig { vocab: 256, positions: 16, head_dim: 8, sizes: small, ..GptConfig::default() };
    let model = Gpt::new(&Cpu::default(), config, Init::default())?;
    let optimizer = AdamW::new(&model, AdamWConfig::default())?;
    let mut trainer =
        Trainer::builder(plan, model, optimizer, data).operator(NoisyCopies { std: 0.01 }).build()?;
    let mut losses = Vec::new();
    while !trainer.is_done() {
        trainer.advance(&mut |event| {
            match event.record {
                Record::Step(step) => losses.push(step.loss),
                Record::Growth(growth) => {
                    println!(
                        "{}: largest |dlogit| {}",
                        growth.operator.unwrap_or_default(),
                        growth.receipt.max_dlogit
                    );
                    assert!(growth.receipt.function_preserving);
                }
                _ => {}
            }
            Ok(())
        })?;
    }
    println!("loss {:.3}, {:.3} at the growth, {:.3} at last", losses[0], losses[39], losses[79]);
    assert!(losses[79] < losses[39] && losses[39] < losses[0], "the loss falls on");
    Ok(())
}
