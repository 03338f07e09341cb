//! `msg import`.

use crate::args::Import;
use dfdx::tensor::Cpu;
use msg_train::interop::import;

pub fn run(args: &Import) -> anyhow::Result<()> {
    let imported = import(&Cpu::default(), &args.path, &args.out)?;
    imported.remarks.iter().for_each(|remark| println!("note    {remark}"));
    println!("model   {}: {}, {} parameters", imported.family, imported.sizes, imported.parameters);
    println!("made    {}", imported.path.display());
    Ok(())
}
