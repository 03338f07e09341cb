//! A run without a configuration: own token ids, a GPT that grows once, its parity, and a folder for transformers.
//! `cargo run -p msg-train --example train_from_code`
use dfdx::tensor::Cpu;
use msg_core::{
    growth::Init,
    optim::{AdamW, AdamWConfig, StatePolicy},
};
use msg_models::{
    gpt::{Gpt, GptConfig},
    sizes,
};
use msg_train::{
    Plan, Trainer,
    config::{AtGrowth, LrConfig, ResolvedStage},
    data::TokenIds,
    families::held_out::{Span, evaluate},
    interop::{import, write_hf_folder},
    metrics::Record,
    step::running::StepOptions,
};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    // Any ids will do; here they are bytes.
    let text = "Grow the mask, then train the model; grow the model, then train the mask. ".repeat(40);
    let ids: Vec<u32> = text.bytes().map(u32::from).collect();
    let (held_out, train) = ids.split_at(600);
    let data = TokenIds::new(train.to_vec(), held_out.to_vec())?;

    // Two stages: in the second one the model is wider and deeper, and its new parts rise over 20 steps.
    let small = sizes! { layers: 1, hidden: 16, ffn: 32, heads: 2 };
    let large = sizes! { layers: 2, hidden: 24, ffn: 64, heads: 3 };
    let growth = AtGrowth { ramp: 20, state: StatePolicy::Age, ..AtGrowth::default() };
    let first =
        ResolvedStage { steps: 60, sizes: small, sequence: 32, batch: 4, growth: AtGrowth::default() };
    let second = ResolvedStage { sizes: large, growth, ..first };
    let plan = Plan::of_stages(&[first, second], &LrConfig::constant(3e-3))?;

    let device = Cpu::default();
    let config = GptConfig { vocab: 256, positions: 32, head_dim: 8, sizes: small, ..GptConfig::default() };
    let model = Gpt::new(&device, config, Init { seed: 1, ..Init::default() })?;
    let optimizer = AdamW::new(&model, AdamWConfig::default())?;
    let mut trainer = Trainer::builder(plan, model, optimizer, data.clone())
        .options(StepOptions { seed: 1, ..StepOptions::default() })
        .build()?;

    let mut losses = Vec::new();
    while !trainer.is_done() {
        trainer.advance(&mut |event| {
            match event.record {
                Record::Step(step) => {
                    if step.step % 20 == 0 {
                        println!("step {:3}  loss {:.3}  mask {:.2}", step.step, step.loss, step.mask);
                    }
                    losses.push(step.loss);
                }
                Record::Growth(growth) => {
                    let receipt = growth.receipt;
                    println!("grown to {}: largest |dlogit| {}", growth.to, receipt.max_dlogit);
                    assert!(receipt.function_preserving && receipt.max_dlogit == 0.0, "to the bit");
                }
                _ => {}
            }
            Ok(())
        })?;
    }
    assert!(losses[119] < 0.7 * losses[0], "the loss falls");

    let span = Span { sequences: 8, length: 32, micro_batch: 4 };
    let figures = evaluate(trainer.model(), &data, trainer.state().step, span)?.ok_or("nothing held out")?;
    println!("held out: loss {:.3}, perplexity {:.1}", figures.loss(), figures.perplexity());

    // Heads times their size are the hidden size and no ramp runs any more: transformers has a class for it.
    let folder = tempfile::tempdir()?;
    let (hf, checkpoint) = (folder.path().join("hf"), folder.path().join("checkpoint"));
    assert!(write_hf_folder(trainer.model(), 32, None, &hf)?.is_none());
    let imported = import(&device, &hf, &checkpoint)?;
    println!("{} parameters in {}", imported.parameters, hf.display());
    assert_eq!(imported.sizes, large);
    Ok(())
}
