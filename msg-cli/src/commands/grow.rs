//! `msg grow`.

use crate::{args::Grow, output::parity};
use dfdx::tensor::Cpu;
use msg_train::interop::{GrowRequest, grow};

pub fn run(args: &Grow) -> anyhow::Result<()> {
    let request = GrowRequest {
        from: args.from.clone(),
        to: args.to.parse()?,
        out: args.out.clone(),
        exact: args.exact,
        units: args.units.into(),
        layers: args.new_layers.into(),
        seed: args.seed,
        ramp: args.ramp,
        given: args.given.parsed()?,
    };
    let grown = grow(&Cpu::default(), &request)?;
    grown.remarks.iter().for_each(|remark| println!("note    {remark}"));
    for (name, (sizes, head_dim, parameters)) in [("from", grown.from), ("to", grown.to)] {
        println!("{name:<6}  {}, head size {head_dim}, {parameters} parameters", sizes);
    }
    parity(&grown.parity);
    match args.exact {
        true => println!("made    {}: transformers loads it", grown.path.display()),
        false => println!(
            "made    {}: [init] from raises its masks over {} steps",
            grown.path.display(),
            args.ramp
        ),
    }
    Ok(())
}
