//! `msg eval`.

use crate::{args::Eval, device::DeviceChoice};
use dfdx::tensor::Cpu;
use msg_core::{Backend, device::open_cuda};
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
    let (state, sizes) = (&saved.state, saved.model.growth_state().sizes);
    let step = match &saved.config {
        Some(config) => format!("{}, stage {} of {}", state.step, state.stage, config.stages().len()),
        None => "none: a model without a run".to_owned(),
    };
    let mut facts = vec![
        ("checkpoint", saved.path.display().to_string()),
        ("step", step),
        ("model", format!("{sizes}: {} parameters", saved.model.parameters())),
    ];
    let masks = saved.model.masks_at(state.step)?.active();
    if masks > 0 {
        facts.push(("masks", format!("{masks} in force: a ramp is under way")));
    }
    let (sequences, labels) = (held_out.sequences, held_out.tokens().labels);
    let from = data.display();
    facts.extend([
        ("held out", format!("{sequences} sequences of {length} tokens from {from}: {labels} labels")),
        ("loss", format!("{:.4}", held_out.loss())),
        ("perplexity", format!("{:.2}", held_out.perplexity())),
    ]);
    match held_out.accuracy() {
        Some(heads) => facts.extend([
            ("MLM accuracy", format!("{:.2} %", heads.mlm * 100.0)),
            ("NSP accuracy", format!("{:.2} %", heads.nsp * 100.0)),
        ]),
        None => {
            facts.push((
                "accuracy",
                format!("{:.2} % of the next tokens", held_out.tokens().accuracy() * 100.0),
            ));
        }
    }
    facts.iter().for_each(|(name, fact)| println!("{name:<12}  {fact}"));
    Ok(())
}
