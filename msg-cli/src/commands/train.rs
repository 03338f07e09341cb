//! `msg train`.

use crate::{
    args::{ResumeChoice, Train},
    device::DeviceChoice,
    exit::{Done, STOPPED},
    inputs, output,
};
use anyhow::Context;
use dfdx::tensor::{Cache, Cpu};
use msg_core::{Backend, device::open_cuda};
use msg_train::{
    Fault, Plan,
    families::registry::cost_of,
    run::{Request, Resume, check_folder, train},
    schedule::table::plan_table,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

pub fn run(args: &Train, fault: Option<Fault>) -> anyhow::Result<Done> {
    let config = inputs::config(&args.configured)?;
    let resume = match args.resume {
        Some(ResumeChoice::Auto) => Resume::Auto,
        None => Resume::Never,
    };
    check_folder(&config, resume)?;
    let data = inputs::data(&config)?;
    let vocab = config.model().vocab.unwrap_or(data.tokenizer().vocab());
    let plan = Plan::new(&config);
    eprintln!("{}", plan_table(&config, &plan, &cost_of(&config, vocab)?));

    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(STOPPED.into());
        }
        eprintln!("\nsaving after this step; Ctrl-C again leaves at once");
    })
    .context("Ctrl-C cannot be caught")?;
    // A scheduler ends a process by SIGTERM. SIGHUP keeps the shell's setting: nohup ignores it.
    signal_hook::flag::register(signal_hook::consts::SIGTERM, stop.clone())
        .context("SIGTERM cannot be caught")?;

    let request = Request { config: &config, plan: &plan, data, resume, stop: &stop, console: true, fault };
    match args.device {
        DeviceChoice::Cpu => {
            let device = Cpu::default();
            // Every step allocates what the one before freed; without the cache its pages would be zeroed again.
            device.enable_cache();
            // On a thread of the pool: handing each kernel's work over to it would cost a wake-up.
            rayon::join(|| on(&device, request), || ()).0
        }
        DeviceChoice::Cuda(number) => on(&open_cuda(number)?, request),
    }
}

fn on<D: Backend>(device: &D, request: Request<'_>) -> anyhow::Result<Done> {
    let data = request.data.clone();
    let outcome = train(device.clone(), request)?;
    if !outcome.finished {
        eprintln!("stopped after step {}; `--resume auto` continues", outcome.step);
        return Ok(Done::Stopped);
    }
    output::finished(device, &outcome, &data)?;
    Ok(Done::All)
}
