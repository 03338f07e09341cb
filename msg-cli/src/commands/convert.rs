//! `msg convert`.

use crate::{args::Convert, output::parity};
use dfdx::tensor::Cpu;
use msg_train::interop::{Conversion, convert};

pub fn run(args: &Convert) -> anyhow::Result<()> {
    let request = Conversion {
        from: args.path.clone(),
        out: args.out.clone(),
        stage: args.stage,
        stored: args.dtype,
        given: args.given.parsed()?,
    };
    let converted = convert(&Cpu::default(), &request)?;
    for (name, (stage, sizes)) in [("from", converted.from), ("to", converted.to)] {
        println!("{name:<6}  stage {stage}: {}", sizes);
    }
    if let Some(dtype) = args.dtype {
        println!("stored  as {dtype}");
    }
    converted.parity.iter().for_each(parity);
    println!("made    {}", converted.path.display());
    Ok(())
}
