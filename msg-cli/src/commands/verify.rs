//! `msg verify`.

use crate::{args::Verify, device::DeviceChoice};
use dfdx::tensor::Cpu;
use msg_core::device::open_cuda;
use msg_train::{Target, verify::verify};

pub fn run(args: &Verify) -> anyhow::Result<()> {
    let target = args.to.as_deref().map(str::parse::<Target>).transpose()?;
    let verification = match args.device {
        DeviceChoice::Cpu => verify(&Cpu::default(), &args.checkpoint, target)?,
        DeviceChoice::Cuda(number) => verify(&open_cuda(number)?, &args.checkpoint, target)?,
    };
    print!("{verification}");
    let failed = verification.rows.iter().filter(|row| !row.receipt.holds()).count();
    anyhow::ensure!(
        verification.holds(),
        "{}: {failed} of {} receipts do not hold",
        verification.checkpoint.display(),
        verification.rows.len()
    );
    Ok(())
}
