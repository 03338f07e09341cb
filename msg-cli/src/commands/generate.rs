//! `msg generate`.

use crate::{args::Generate, device::DeviceChoice};
use anyhow::bail;
use dfdx::tensor::Cpu;
use msg_core::{Backend, device::open_cuda};
use msg_train::{
    Error, checkpoint,
    data::Tokenizer,
    families::{any::AnyModel, objective::Text},
    generate::{Filled, Request, continued, fill, prompt_ids, sampling::Sampling},
};
use std::io::Write;

/// Tokens that a GPT writes at most.
const TOKENS: usize = 100;
/// Candidates that a BERT shows.
const CANDIDATES: usize = 5;

pub fn run(args: &Generate) -> anyhow::Result<()> {
    match args.device {
        DeviceChoice::Cpu => on(args, &Cpu::default()),
        DeviceChoice::Cuda(number) => on(args, &open_cuda(number)?),
    }
}

fn on<D: Backend>(args: &Generate, device: &D) -> anyhow::Result<()> {
    let saved = checkpoint::open(&args.path, device)?;
    let tokenizer = saved.tokenizer()?;
    let (model, step) = (&*saved.model, saved.state.step);
    match model.text() {
        Text::Continues(_) => continue_text(args, model, tokenizer, step),
        Text::Fills(_) => fill_in(args, model, tokenizer, step),
        Text::Neither => bail!("a {} neither continues a text nor fills in masked tokens", model.family()),
    }
}

fn continue_text<D: Backend>(
    args: &Generate,
    model: &dyn AnyModel<D>,
    tokenizer: &Tokenizer,
    step: u64,
) -> anyhow::Result<()> {
    let default = Sampling::default();
    let sampling = Sampling {
        temperature: args.temperature.unwrap_or(default.temperature),
        top_k: args.top_k.or(default.top_k),
        top_p: args.top_p.unwrap_or(default.top_p),
        seed: args.seed.unwrap_or(default.seed),
    };
    sampling.check()?;
    let request = Request { tokens: args.tokens.unwrap_or(TOKENS), sampling, step };
    let prompt = args.prompt.as_deref().unwrap_or_default();
    let mut out = std::io::stdout();
    let mut write = |text: &str| {
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        written.map_err(|source| Error::Io { path: "stdout".into(), source })
    };
    let mut shown = false;
    continued(model, tokenizer, &prompt_ids(tokenizer, prompt)?, &request, &mut |piece| {
        // The prompt waits for the first piece: where the options are refused, nothing is printed.
        if !std::mem::replace(&mut shown, true) {
            write(prompt)?;
        }
        write(piece)
    })?;
    if !shown {
        write(prompt)?;
    }
    Ok(write("\n")?)
}

fn fill_in<D: Backend>(
    args: &Generate,
    model: &dyn AnyModel<D>,
    tokenizer: &Tokenizer,
    step: u64,
) -> anyhow::Result<()> {
    let of_gpt = [
        ("tokens", args.tokens.is_some()),
        ("temperature", args.temperature.is_some()),
        ("top-p", args.top_p.is_some()),
        ("seed", args.seed.is_some()),
    ];
    if let Some((name, _)) = of_gpt.iter().find(|(_, given)| *given) {
        bail!("{name}: expected a GPT, got a BERT, which fills [MASK] in and draws nothing");
    }
    let Some(prompt) = &args.prompt else {
        bail!("prompt: expected a text with [MASK] for a BERT, got none");
    };
    let Filled { text, places } = fill(model, tokenizer, prompt, args.top_k.unwrap_or(CANDIDATES), step)?;
    println!("{text}");
    for (number, candidates) in (1..).zip(places) {
        println!("\n[MASK] {number}");
        for candidate in candidates {
            println!("{:>8.2} %  {}", candidate.probability * 100.0, candidate.token);
        }
    }
    Ok(())
}
