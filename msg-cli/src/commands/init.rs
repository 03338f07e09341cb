//! `msg init`.

use crate::args::Init;
use anyhow::Context;
use std::{fs::OpenOptions, io::Write};

pub fn run(args: &Init) -> anyhow::Result<()> {
    let text = args.family.text();
    let Some(path) = &args.out else {
        print!("{text}");
        return Ok(());
    };
    // Never over a file that is there.
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| path.display().to_string())?;
    eprintln!("{}: `msg plan` shows its stages, `msg train` trains them", path.display());
    Ok(())
}
