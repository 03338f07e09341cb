//! `msg train`.

use crate::{
    args::{ResumeChoice, Train},
    device::DeviceChoice,
};
use anyhow::Context;
use dfdx::tensor::Cpu;
use msg_core::device::open_cuda;
use msg_train::{
    Plan,
    plan_table::plan_table,
    run::{Outcome, Request, Resume, train},
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

pub fn run(args: &Train) -> anyhow::Result<()> {
    let config = super::read(&args.configured)?;
    let data = super::data::open(&config)?;
    let vocab = config.model.vocab.unwrap_or(data.tokenizer().vocab());
    eprintln!("{}", plan_table(&config, &Plan::new(&config)?, vocab));

    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("\nsaving after this step; Ctrl-C again leaves at once");
    })
    .context("Ctrl-C cannot be caught")?;

    let resume = match args.resume {
        Some(ResumeChoice::Auto) => Resume::Auto,
        None => Resume::Never,
    };
    let request = Request { config, data, resume, stop: &stop, console: true, fault: None };
    let outcome = match args.device {
        DeviceChoice::Cpu => train(Cpu::default(), request)?,
        DeviceChoice::Cuda(number) => train(open_cuda(number)?, request)?,
    };
    summary(&outcome)
}

/// What was reached, and where it lies.
fn summary(outcome: &Outcome) -> anyhow::Result<()> {
    let folder = &outcome.folder;
    if !outcome.finished {
        eprintln!("stopped after step {}; `--resume auto` goes on", outcome.step);
        return Ok(());
    }
    let page = folder.join("report.html");
    msg_train::report::report(std::slice::from_ref(folder), &page)?;
    if let Some(loss) = outcome.validation {
        println!("held-out loss  {loss:.4}");
    }
    println!("model          {}", folder.join("final").display());
    println!("report         {}", page.display());
    Ok(())
}
