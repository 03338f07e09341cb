//! `msg plan`.

use crate::{args::Plan as Args, inputs};
use msg_train::{Plan, families::registry::cost_of, schedule::table::plan_table};

pub fn run(args: &Args) -> anyhow::Result<()> {
    let config = inputs::config(&args.configured)?;
    if args.resolved {
        print!("{}", config.to_toml()?);
        return Ok(());
    }
    // A tokenizer file's size is not known before it is read; the default of its family is used.
    let vocab = config.vocab().unwrap_or(30522);
    println!("{}", plan_table(&config, &Plan::new(&config), &cost_of(&config, vocab)?));
    Ok(())
}
