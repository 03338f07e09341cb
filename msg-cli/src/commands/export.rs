//! `msg export`.

use crate::{args::Export, output::parity};
use dfdx::tensor::Cpu;
use msg_train::interop::{self, export};

pub fn run(args: &Export) -> anyhow::Result<()> {
    let request = interop::Export {
        from: args.path.clone(),
        out: args.out.clone(),
        fold: args.fold,
        stored: args.dtype,
        largest: args.max_shard_size.0,
        given: args.given.parsed()?,
    };
    let exported = export(&Cpu::default(), &request)?;
    if let Some((folded, receipt)) = &exported.folded {
        if !folded.masks.is_empty() {
            println!("folded  masks of {}", folded.masks.join(", "));
        }
        if let Some([(heads, size), (new_heads, new_size)]) = folded.heads {
            println!("folded  {heads} heads of {size} to {new_heads} of {new_size}");
        }
        parity(receipt);
    }
    println!("model   {}, {} parameters", exported.sizes, exported.parameters);
    println!("made    {} of {}", exported.path.display(), exported.checkpoint.display());
    Ok(())
}
