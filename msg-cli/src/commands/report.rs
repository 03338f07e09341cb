//! `msg report`.

use crate::args::Report;

pub fn run(args: &Report) -> anyhow::Result<()> {
    let out = args.out.clone().unwrap_or_else(|| args.runs[0].join("report.html"));
    msg_train::report::report(&args.runs, &out)?;
    println!("{}", out.display());
    Ok(())
}
