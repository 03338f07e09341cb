//! Growth on Cuda: launches of `grow.cu`. Values stay on the device, the maps of units are copied to it.

use super::{
    kernel::{Fill, GrowKernel, NewEntries},
    map::AxisMap,
};
use crate::{
    device::{
        cuda::{
            launch::{Module, by_rows, module, padded},
            reduce,
        },
        raw_pointer::{self, Address},
    },
    error::{Context, Error, Result, same_size},
    params::Param,
};
use cudarc::driver::{CudaDevice, CudaSlice, DevicePtr, DeviceRepr, LaunchAsync};
use dfdx::{
    shapes::{HasShape, Shape},
    tensor::{Cuda, ZerosTensor},
    tensor_ops::ReshapeTo,
};
use std::sync::Arc;

const OP: &str = "growth";
const MODULE: Module = module!("grow", each [], others ["grow"]);

/// In place of a source list: every unit comes from itself.
const IDENTITY: u32 = u32::MAX;

/// `struct Axes` of the kernel.
#[derive(Clone, Copy)]
#[repr(C)]
struct Axes {
    size: [u32; 4],
    old: [u32; 4],
    sources: [u32; 4],
}

/// `struct Fill` of the kernel.
#[derive(Clone, Copy)]
#[repr(C)]
struct Rule {
    key: [u32; 2],
    is_normal: u32,
    value: f32,
}

#[allow(unsafe_code, reason = "kernel parameters")]
mod params {
    // SAFETY: both are `repr(C)` structs of 32-bit numbers, laid out as in grow.cu.
    unsafe impl super::DeviceRepr for super::Axes {}
    // SAFETY: as above.
    unsafe impl super::DeviceRepr for super::Rule {}
}

impl Rule {
    fn new(new: NewEntries) -> Self {
        let (is_normal, value) = match new.fill {
            Fill::Constant(value) => (0, value),
            Fill::Normal { std } => (1, std),
        };
        Rule { key: [new.key.lo, new.key.hi], is_normal, value }
    }
}

/// Bytes of the values of a tensor of f32.
fn bytes(shape: &impl Shape) -> usize {
    shape.num_elements() * size_of::<f32>()
}

impl GrowKernel for Cuda {
    fn fresh<S: Shape>(&self, shape: &S, new: NewEntries) -> Result<Param<S, Self>> {
        let out: Param<S, Self> = self.try_zeros_like(shape).asking_for(bytes(shape), "init")?;
        let sizes: Vec<usize> = shape.concrete().into_iter().collect();
        fresh(&raw_pointer::driver(self)?, &out, &sizes, new)?;
        Ok(out)
    }

    fn grow<S: Shape, To: Shape>(
        &self,
        old: &Param<S, Self>,
        shape: To,
        maps: &[AxisMap],
        new: NewEntries,
    ) -> Result<Param<To, Self>> {
        let old = old.clone().try_contiguous().during(OP)?;
        let out: Param<To, Self> = self.try_zeros_like(&shape).asking_for(bytes(&shape), OP)?;
        grow(&raw_pointer::driver(self)?, &old, &out, maps, new)?;
        Ok(out)
    }

    fn std_of<S: Shape>(tensor: &Param<S, Self>) -> Result<f32> {
        let count = tensor.shape().num_elements();
        if count == 0 {
            return Ok(0.0);
        }
        let tensor = tensor.clone().try_contiguous().during("std")?;
        let gpu = raw_pointer::driver(tensor.device())?;
        let values = reduce::Values { address: raw_pointer::address(&tensor)?, count };
        let mean = reduce::sum(&gpu, values)? / count as f64;
        Ok((reduce::squares(&gpu, values, mean)? / count as f64).sqrt() as f32)
    }
}

/// Fills all of `out`, of these sizes, by the rule.
fn fresh<S: Shape>(
    gpu: &Arc<CudaDevice>,
    out: &Param<S, Cuda>,
    sizes: &[usize],
    new: NewEntries,
) -> Result<()> {
    let size = padded(OP, sizes)?;
    launch(gpu, Axes { size, old: [0; 4], sources: [IDENTITY; 4] }, new, None, None, out)
}

/// Fills `out` from `old`, which is contiguous, and by the rule.
fn grow<S: Shape, To: Shape>(
    gpu: &Arc<CudaDevice>,
    old: &Param<S, Cuda>,
    out: &Param<To, Cuda>,
    maps: &[AxisMap],
    new: NewEntries,
) -> Result<()> {
    check(&old.shape().concrete().into_iter().collect::<Vec<_>>(), maps, AxisMap::old_size)?;
    check(&out.shape().concrete().into_iter().collect::<Vec<_>>(), maps, AxisMap::new_size)?;
    let sizes = |of: fn(&AxisMap) -> usize| padded(OP, &maps.iter().map(of).collect::<Vec<_>>());
    let mut axes =
        Axes { size: sizes(AxisMap::new_size)?, old: sizes(AxisMap::old_size)?, sources: [IDENTITY; 4] };
    let mut sources: Vec<u32> = Vec::new();
    for (begin, map) in axes.sources[4 - maps.len()..].iter_mut().zip(maps) {
        if map.sources().iter().zip(0..).any(|(&source, unit)| source != unit) {
            let too_long =
                || Error::Value { what: OP, expected: "fewer than 2^32 units in all", got: f64::INFINITY };
            *begin = u32::try_from(sources.len()).map_err(|_| too_long())?;
            sources.extend(map.sources());
        }
    }
    let sources = if sources.is_empty() { None } else { Some(gpu.htod_copy(sources).during(OP)?) };
    launch(gpu, axes, new, sources.as_ref(), Some(raw_pointer::address(old)?), out)
}

/// Refuses maps that are not those of a tensor with these sizes.
fn check(sizes: &[usize], maps: &[AxisMap], of_map: fn(&AxisMap) -> usize) -> Result<()> {
    if sizes.len() != maps.len() {
        return Err(Error::Count { what: "axis maps", expected: sizes.len(), got: maps.len() });
    }
    maps.iter().zip(sizes).try_for_each(|(map, &size)| same_size(OP, map.axis(), of_map(map), size))
}

#[allow(unsafe_code, reason = "launches a kernel")]
fn launch<S: Shape>(
    gpu: &Arc<CudaDevice>,
    axes: Axes,
    new: NewEntries,
    sources: Option<&CudaSlice<u32>>,
    old: Option<Address>,
    out: &Param<S, Cuda>,
) -> Result<()> {
    let [a, b, c, width] = axes.size.map(|size| size as usize);
    if a * b * c * width == 0 {
        return Ok(());
    }
    let sources: Address = sources.map_or(0, |sources| *sources.device_ptr());
    let arguments = (axes, Rule::new(new), sources, old.unwrap_or(0), raw_pointer::address(out)?);
    let kernel = MODULE.function(gpu, "grow")?;
    // SAFETY: the parameters are those of the kernel. It writes the entries of `out`, whose sizes are
    // `axes.size` (checked by the caller), which was just made and shares its buffer with no other tensor.
    // It reads `old`, if any, at sources that `AxisMap` keeps below `axes.old`, and as many sources as
    // the axes have units. All three outlive the launch on the stream, where their release is queued too.
    unsafe { kernel.launch(by_rows(a * b * c, width), arguments) }.during(OP)
}
