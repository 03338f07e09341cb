//! `msg report`.

use crate::args::Report;
use msg_train::files::names::REPORT;

pub fn run(args: &Report) -> anyhow::Result<()> {
    let out = args.out.clone().unwrap_or_else(|| args.runs[0].join(REPORT));
    msg_train::report::report(&args.runs, &out)?;
    println!("{}", out.display());
    Ok(())
}
