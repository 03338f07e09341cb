//! `msg inspect`.

use crate::args::Inspect;

pub fn run(args: &Inspect) -> anyhow::Result<()> {
    let text = msg_train::interop::inspect(&args.path)?;
    println!("{}", text.trim_end());
    Ok(())
}
