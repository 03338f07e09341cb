//! Whole training steps on random tokens, for the side-by-side script: reads how many steps to make, line by
//! line, and answers each with the seconds they took.
//!
//! `training_step FAMILY LAYERS HIDDEN FFN HEADS VOCAB LENGTH BATCH [ramp] [bf16] [recompute]`; with `ramp` every
//! axis stands in the middle of one. The last line of the output, after the input's end, is the peak of resident
//! memory and what `msg plan` would expect.

use msg_benches::{peak_memory, step::Case, timed};
use msg_core::ops::{Compute, Precision};
use msg_models::Sizes;
use msg_train::config::Family;
use std::{error::Error, io::BufRead};

const USAGE: &str =
    "usage: training_step gpt|bert LAYERS HIDDEN FFN HEADS VOCAB LENGTH BATCH [ramp] [bf16] [recompute]";

fn case(args: &[String]) -> Option<Case> {
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
    if !words.iter().all(|word| ["ramp", "bf16", "recompute"].contains(&word.as_str())) {
        return None;
    }
    let precision = if has("bf16") { Precision::Bf16 } else { Precision::F32 };
    Some(Case {
        family,
        sizes: Sizes { layers, hidden, ffn, heads },
        vocab,
        shape: (batch, length),
        ramp: has("ramp"),
        compute: Compute { precision, recompute: has("recompute"), ..Compute::default() },
    })
}

fn run() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let case = case(&args).ok_or(USAGE)?;
    let mut step = case.open()?;
    println!("loss {}", step()?);
    for line in std::io::stdin().lock().lines() {
        let steps: usize = line?.trim().parse()?;
        let (took, result) = timed(|| (0..steps).try_for_each(|_| step().map(drop)));
        result?;
        println!("{}", took.as_secs_f64());
    }
    println!("peak {} planned {:.0}", peak_memory().unwrap_or(0), case.planned_memory());
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    // On a thread of the pool, as `msg train` does it.
    Ok(rayon::join(|| run().map_err(|error| error.to_string()), || ()).0?)
}
