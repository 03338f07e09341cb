//! `msg eval`.

use crate::{args::Eval, device::DeviceChoice};
use dfdx::tensor::Cpu;
use msg_core::device::{Backend, open_cuda};
use msg_train::{
    checkpoint,
    eval::{Choice, Evaluation, evaluate_saved},
};

pub fn run(args: &Eval) -> anyhow::Result<()> {
    match args.device {
        DeviceChoice::Cpu => on(args, &Cpu::default()),
        DeviceChoice::Cuda(number) => on(args, &open_cuda(number)?),
    }
}

fn on<D: Backend>(args: &Eval, device: &D) -> anyhow::Result<()> {
    let saved = checkpoint::open(&args.path, device)?;
    let choice = Choice { data: args.data.clone(), sequences: args.sequences, length: args.sequence };
    let Evaluation { held_out, data, length } = evaluate_saved(&saved, &choice)?;
    let (state, sizes) = (&saved.state, saved.model.growing().sizes);
    println!("checkpoint    {}", saved.path.display());
    println!("step          {}, stage {} of {}", state.step, state.stage, saved.config.stages.len());
    println!(
        "model         {} layers, hidden {}, ffn {}, {} heads: {} parameters",
        sizes.layers,
        sizes.hidden,
        sizes.ffn,
        sizes.heads,
        saved.model.num_params()
    );
    match saved.model.masks_in_force(state.step)? {
        0 => {}
        masks => println!("masks         on {masks} axes and layers that are still on their ramp"),
    }
    println!(
        "held out      {} sequences of {length} tokens from {}: {} labels",
        held_out.sequences,
        data.display(),
        held_out.tokens.labels
    );
    println!("loss          {:.4}", held_out.loss());
    println!("perplexity    {:.2}", held_out.perplexity());
    match held_out.accuracy() {
        Some(heads) => {
            println!("MLM accuracy  {:.2} %", heads.mlm * 100.0);
            println!("NSP accuracy  {:.2} %", heads.nsp * 100.0);
        }
        None => println!("accuracy      {:.2} % of the next tokens", held_out.tokens.accuracy() * 100.0),
    }
    Ok(())
}
