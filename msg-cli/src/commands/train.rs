//! `msg train`.

use crate::{
    Done, STOPPED,
    args::{ResumeChoice, Train},
    device::DeviceChoice,
};
use anyhow::Context;
use dfdx::tensor::Cpu;
use msg_core::device::open_cuda;
use msg_train::{
    Fault, Plan,
    plan_table::plan_table,
    run::{Outcome, Request, Resume, check_folder, train},
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

pub fn run(args: &Train, fault: Option<Fault>) -> anyhow::Result<Done> {
    let config = super::read(&args.configured)?;
    let resume = match args.resume {
        Some(ResumeChoice::Auto) => Resume::Auto,
        None => Resume::Never,
    };
    check_folder(&config, resume)?;
    let data = super::data::open(&config)?;
    let vocab = config.model.vocab.unwrap_or(data.tokenizer().vocab());
    eprintln!("{}", plan_table(&config, &Plan::new(&config)?, vocab));

    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(STOPPED.into());
        }
        eprintln!("\nsaving after this step; Ctrl-C again leaves at once");
    })
    .context("Ctrl-C cannot be caught")?;
    // As a scheduler ends a process. A hang-up stays what the shell made of it: under nohup nothing.
    signal_hook::flag::register(signal_hook::consts::SIGTERM, stop.clone())
        .context("SIGTERM cannot be caught")?;

    let request = Request { config, data, resume, stop: &stop, console: true, fault };
    let outcome = match args.device {
        DeviceChoice::Cpu => train(Cpu::default(), request)?,
        DeviceChoice::Cuda(number) => train(open_cuda(number)?, request)?,
    };
    summary(&outcome)
}

/// What was reached, and where it lies.
fn summary(outcome: &Outcome) -> anyhow::Result<Done> {
    let folder = &outcome.folder;
    if !outcome.finished {
        eprintln!("stopped after step {}; `--resume auto` goes on", outcome.step);
        return Ok(Done::Stopped);
    }
    let page = folder.join("report.html");
    msg_train::report::report(std::slice::from_ref(folder), &page)?;
    if let Some(loss) = outcome.validation {
        println!("held-out loss  {loss:.4}");
    }
    println!("model          {}", folder.join("final").display());
    println!("report         {}", page.display());
    Ok(Done::All)
}
