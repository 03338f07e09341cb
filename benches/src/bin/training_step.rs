//! Whole training steps on random tokens, for the side-by-side script: reads how many steps to make, line by
//! line, and answers each with the seconds they took.
//!
//! `training_step FAMILY LAYERS HIDDEN FFN HEADS VOCAB LENGTH BATCH [ramp] [bf16] [recompute] [cuda]`; with `ramp`
//! every axis stands in the middle of one, with `cuda` the first GPU makes the steps. The last line of the output,
//! after the input's end, is the peak of resident memory, what `msg plan` would expect, and the floating-point
//! operations of a step.

use dfdx::tensor::Cpu;
use msg_benches::{
    peak_memory,
    step::{Case, Family, Outcome},
    timed,
};
use msg_core::{
    device::open_cuda,
    ops::{Compute, Precision},
};
use msg_models::sizes;
use std::io::BufRead;

const USAGE: &str = "usage: training_step gpt|bert LAYERS HIDDEN FFN HEADS VOCAB LENGTH BATCH [ramp] [bf16] [recompute] [cuda]";

/// The case, and whether a GPU makes its steps.
fn case(args: &[String]) -> Option<(Case, bool)> {
    let (family, rest) = args.split_first()?;
    let family = match family.as_str() {
        "gpt" => Family::Gpt,
        "bert" => Family::Bert,
        _ => return None,
    };
    let numbers: Vec<usize> = rest.iter().take(7).map(|arg| arg.parse().ok()).collect::<Option<_>>()?;
    let [layers, hidden, ffn, heads, vocab, length, batch] = numbers[..] else { return None };
    let words = &rest[7..];
    let has = |word: &str| words.iter().any(|arg| arg == word);
    if !words.iter().all(|word| ["ramp", "bf16", "recompute", "cuda"].contains(&word.as_str())) {
        return None;
    }
    let precision = if has("bf16") { Precision::Bf16 } else { Precision::F32 };
    let case = Case {
        family,
        sizes: sizes! { layers, hidden, ffn, heads },
        vocab,
        shape: (batch, length),
        ramp: has("ramp"),
        compute: Compute { precision, recompute: has("recompute"), ..Compute::default() },
    };
    Some((case, has("cuda")))
}

fn run() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (case, cuda) = case(&args).ok_or(USAGE)?;
    let mut step = if cuda { case.open(open_cuda(0)?)? } else { case.open(Cpu::default())? };
    step.run()?;
    println!("loss {}", step.loss()?);
    for line in std::io::stdin().lock().lines() {
        let steps: usize = line?.trim().parse()?;
        let (took, result) = timed(|| {
            (0..steps).try_for_each(|_| step.run())?;
            step.loss()
        });
        result?;
        println!("{}", took.as_secs_f64());
    }
    let (peak, planned) = (peak_memory().unwrap_or(0), case.planned_memory());
    println!("peak {peak} planned {planned:.0} flops {:.0}", case.flops());
    Ok(())
}

fn main() -> Outcome<()> {
    // On a thread of the pool, as `msg train` does it.
    Ok(rayon::join(|| run().map_err(|error| error.to_string()), || ()).0?)
}
