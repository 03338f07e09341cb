//! Dropout on Cuda: launches of `dropout.cu`, and what other kernels need to know of a site.

use super::{DropoutKernel, Stream};
use crate::{
    device::{
        cuda::{
            element::parameters,
            launch::{DeviceResult, Module, by_rows, module},
        },
        raw_pointer::{self, Address},
    },
    error::{Context, Result},
};
use cudarc::driver::CudaDevice;
use dfdx::{
    shapes::Shape,
    tensor::{Cuda, Tensor, ZerosTensor},
};
use std::sync::Arc;

const MODULE: Module = module!("dropout", each [], others ["dropout_factors"]);

parameters! {
    /// Dropout at one site, for kernels.
    struct DropoutNumbers {
        lo: u32,
        hi: u32,
        rate: f32,
        kept: f32,
    }

    /// `Factors` of the kernels.
    struct Factors {
        dropout: DropoutNumbers,
        to: Address,
        size: [u32; 4],
    }
}

impl From<Option<Stream>> for DropoutNumbers {
    fn from(stream: Option<Stream>) -> Self {
        stream.map_or_else(Self::default, |stream| {
            let (key, rate, kept) = stream.numbers();
            DropoutNumbers { lo: key.lo, hi: key.hi, rate, kept }
        })
    }
}

impl DropoutKernel<f64> for Cuda {}

impl DropoutKernel<f32> for Cuda {
    fn factors<S: Shape>(device: &Self, stream: &Stream, shape: &S) -> Result<Tensor<S, f32, Self>> {
        let factors = device.try_zeros_like(shape).during("dropout")?;
        let to = raw_pointer::address(&factors)?;
        let sizes = shape.concrete();
        write_factors(&raw_pointer::driver(device)?, *stream, sizes.as_ref(), to).during("dropout")?;
        Ok(factors)
    }
}

/// Writes the factors of a tensor of these sizes, at most four.
#[allow(unsafe_code, reason = "launches a kernel")]
fn write_factors(gpu: &Arc<CudaDevice>, stream: Stream, sizes: &[usize], to: Address) -> DeviceResult {
    let mut size = [1; 4];
    for (padded, &size) in size.iter_mut().rev().zip(sizes.iter().rev()) {
        *padded = size as u32;
    }
    let [a, b, c, width] = size.map(|size| size as usize);
    if a * b * c * width == 0 {
        return Ok(());
    }
    let with = Factors { dropout: Some(stream).into(), to, size };
    // SAFETY: the struct is the kernel's; the tensor at `to` is of these sizes.
    unsafe { MODULE.launch(gpu, "dropout_factors", by_rows(a * b * c, width), with) }
}
