//! Launches of `kernels/adamw.cu`.

use super::{Module, by_rows, flat, guard::Guard, padded};
use crate::{
    device::bridge::{self, Address},
    error::{Context, Error, Result, same_size},
    optim::{AdamStep, Cohort},
    params::Param,
};
use cudarc::driver::{CudaDevice, CudaFunction, CudaSlice, DevicePtr, DeviceRepr, DeviceSlice, LaunchAsync};
use dfdx::{
    shapes::{HasShape, Shape},
    tensor::{Cuda, Storage, ZerosTensor},
};
use std::sync::Arc;

const OP: &str = "adamw";
const MODULE: Module = Module {
    name: "msg_adamw",
    ptx: include_str!(concat!(env!("OUT_DIR"), "/adamw.ptx")),
    functions: &["adamw_one_cohort", "adamw_cohorts"],
};

/// In place of a list of cohorts: all units of the axis are in cohort 0.
const NO_UNITS: u32 = u32::MAX;

/// `struct Buffers` of the kernels.
#[derive(Clone, Copy)]
#[repr(C)]
struct Buffers {
    old_value: Address,
    grad: Address,
    old_first: Address,
    old_second: Address,
    value: Address,
    first: Address,
    second: Address,
}

/// `struct Numbers` of the kernels.
#[derive(Clone, Copy)]
#[repr(C)]
struct Numbers {
    first_share: f32,
    beta2: f32,
    second_share: f32,
    eps: f32,
    weight_decay: f32,
}

/// `struct Cohort` of the kernels.
#[derive(Clone, Copy)]
#[repr(C)]
struct CohortNumbers {
    lr: f32,
    step_size: f32,
    root_correction: f32,
}

/// `struct Cohorts` of the kernels.
#[derive(Clone, Copy)]
#[repr(C)]
struct CohortUnits {
    size: [u32; 4],
    units: [u32; 4],
}

#[allow(unsafe_code, reason = "kernel parameters")]
mod params {
    // SAFETY: all four are `repr(C)` structs of equally sized numbers, laid out as in kernels/adamw.cu.
    unsafe impl super::DeviceRepr for super::Buffers {}
    // SAFETY: as above.
    unsafe impl super::DeviceRepr for super::Numbers {}
    // SAFETY: as above.
    unsafe impl super::DeviceRepr for super::CohortNumbers {}
    // SAFETY: as above.
    unsafe impl super::DeviceRepr for super::CohortUnits {}
}

impl From<&AdamStep<'_>> for Numbers {
    fn from(step: &AdamStep<'_>) -> Self {
        Numbers {
            first_share: step.first_share,
            beta2: step.beta2,
            second_share: step.second_share,
            eps: step.eps,
            weight_decay: step.weight_decay,
        }
    }
}

impl From<Cohort> for CohortNumbers {
    fn from(Cohort { lr, step_size, root_correction }: Cohort) -> Self {
        CohortNumbers { lr, step_size, root_correction }
    }
}

/// What the kernel for several cohorts reads besides the buffers.
struct Table {
    axes: CohortUnits,
    /// The lists of the axes that have one, then the cohorts' numbers as bits.
    words: CudaSlice<u32>,
    /// Where the numbers begin.
    numbers: usize,
}

impl Table {
    /// Uploads the cohorts of a step; `None` where there is only one.
    fn new(gpu: &Arc<CudaDevice>, step: &AdamStep<'_>) -> Result<Option<Self>> {
        if step.cohorts.len() < 2 {
            return Ok(None);
        }
        let mut axes = CohortUnits { size: padded(OP, step.sizes)?, units: [NO_UNITS; 4] };
        let mut words: Vec<u32> = Vec::new();
        let lead = axes.units.len() - step.sizes.len();
        for ((begin, units), &size) in axes.units[lead..].iter_mut().zip(step.units).zip(step.sizes) {
            if units.is_empty() {
                continue;
            }
            same_size(OP, "cohorts of the units", size, units.len())?;
            check_cohorts(units, step.cohorts.len())?;
            let too_long =
                || Error::Value { what: OP, expected: "fewer than 2^32 units in all", got: f64::INFINITY };
            *begin = u32::try_from(words.len()).map_err(|_| too_long())?;
            words.extend(units);
        }
        let numbers = words.len();
        words.extend(
            step.cohorts.iter().flat_map(|c| [c.lr, c.step_size, c.root_correction].map(f32::to_bits)),
        );
        Ok(Some(Table { axes, words: gpu.htod_copy(words).during(OP)?, numbers }))
    }

    /// Addresses of the lists and of the numbers.
    fn addresses(&self) -> (Address, Address) {
        let lists = *self.words.device_ptr();
        (lists, lists + (self.numbers * size_of::<u32>()) as Address)
    }
}

/// Refuses a unit whose cohort is not in the table: the device would read beyond it.
fn check_cohorts(units: &[u32], cohorts: usize) -> Result<()> {
    match units.iter().enumerate().find(|(_, cohort)| **cohort as usize >= cohorts) {
        None => Ok(()),
        Some((place, &cohort)) => {
            Err(Error::Index { what: "cohort of unit", index: cohort.into(), place, limit: cohorts })
        }
    }
}

/// One update, as far as the guard lets it through. The parameter keeps its identity, by which gradients
/// know it; the moments become new tensors. Clones of all three keep their values, as on the Cpu.
pub(super) fn adamw<S: Shape>(
    tensor: &mut Param<S, Cuda>,
    gradient: &<Cuda as Storage<f32>>::Vec,
    first: &mut Param<S, Cuda>,
    second: &mut Param<S, Cuda>,
    guard: &Guard,
    step: &AdamStep<'_>,
) -> Result<()> {
    let count = tensor.shape().num_elements();
    for (part, got) in [
        ("entries of the gradient", gradient.len()),
        ("entries of the first moment", first.shape().num_elements()),
        ("entries of the second moment", second.shape().num_elements()),
        ("entries of the step", step.sizes.iter().product()),
    ] {
        same_size(OP, part, count, got)?;
    }
    if count == 0 {
        return Ok(());
    }
    let Some(&cohort) = step.cohorts.first() else { return Err(Error::Zero { what: "cohorts of a step" }) };
    let (device, gpu) = (tensor.device().clone(), gradient.device());
    let new_first: Param<S, Cuda> = device.try_zeros_like(tensor.shape()).during(OP)?;
    let new_second: Param<S, Cuda> = device.try_zeros_like(tensor.shape()).during(OP)?;
    let old_value = bridge::snapshot(&gpu, tensor)?;
    let table = Table::new(&gpu, step)?;
    let kernel = MODULE.function(&gpu, if table.is_some() { "adamw_cohorts" } else { "adamw_one_cohort" })?;
    let buffers = Buffers {
        old_value: *old_value.device_ptr(),
        grad: *gradient.device_ptr(),
        old_first: bridge::address(first)?,
        old_second: bridge::address(second)?,
        first: bridge::address(&new_first)?,
        second: bridge::address(&new_second)?,
        // Last, so that the parameter keeps its values if anything above fails.
        value: bridge::cleared(tensor)?,
    };
    launch(kernel, (buffers, guard.address()), count, step, cohort, table.as_ref())?;
    *first = new_first;
    *second = new_second;
    Ok(())
}

/// Launches the kernel for one cohort, or with a table the one for several.
#[allow(unsafe_code, reason = "launches a kernel")]
fn launch(
    kernel: CudaFunction,
    (buffers, guard): (Buffers, Address),
    count: usize,
    step: &AdamStep<'_>,
    cohort: Cohort,
    table: Option<&Table>,
) -> Result<()> {
    let numbers = Numbers::from(step);
    let Some(table) = table else {
        // SAFETY: the parameters are those of `adamw_one_cohort`. All seven buffers have `count` floats
        // (checked by the caller), and the three that it writes are distinct from the others: two were
        // just made, and the parameter's is its own after the clearing. `guard` is a verdict. They outlive
        // the launch on the stream, where their release is queued too.
        return unsafe {
            kernel.launch(flat(count), (buffers, guard, numbers, CohortNumbers::from(cohort), count))
        }
        .during(OP);
    };
    let [a, b, c, width] = table.axes.size.map(|size| size as usize);
    let (lists, cohorts) = table.addresses();
    // SAFETY: as above for `adamw_cohorts`, whose entries are those of `axes.size`, `count` together.
    // Every list has one cohort for each unit of its axis, all of them in the table.
    unsafe { kernel.launch(by_rows(a * b * c, width), (buffers, guard, numbers, table.axes, lists, cohorts)) }
        .during(OP)
}
