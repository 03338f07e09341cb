//! `msg plan`.

use crate::{args::Configured, inputs};
use msg_train::{Plan, schedule::table::plan_table};

pub fn run(args: &Configured) -> anyhow::Result<()> {
    let config = inputs::config(args)?;
    let plan = Plan::new(&config);
    // A tokenizer file's size is not known before it is read; the default of its family stands in.
    let vocab = config.vocab().unwrap_or(30522);
    println!("{}", plan_table(&config, &plan, vocab));
    Ok(())
}
