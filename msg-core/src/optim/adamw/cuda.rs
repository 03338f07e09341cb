//! Launches of `adamw.cu`: the update of all tensors of a module together.
//!
//! What there is to do is collected over the module's walk. At its end one copy brings the table to the
//! device, and four kernels do the rest, however many tensors there are: two for the status, one for
//! the tensors of one age group and one for those of several.
//!
//! Moments are changed where they lie: [`AdamW`](crate::optim::AdamW) is their only owner. A parameter may
//! have clones, which dfdx lets share its buffer, and which must keep their values. Nothing of dfdx tells
//! whether there are any; the only operation that parts a tensor from its clones and launches nothing, a fill
//! with zeros, takes its values too. So they are copied aside first: one copy and one fill on the device for
//! each parameter (12 bytes an entry beside the update's 28), no allocation but the one for all copies.

use super::step::AdamStep;
use crate::{
    axis::as_leaf,
    device::{
        cuda::launch::{Module, module, padded, push_long},
        raw_pointer::{self, Address},
    },
    error::{Context, Error, Result, same_size},
    optim::{
        kernel::{OptimKernel, OptimizerPass},
        status::{
            UpdateStatus,
            cuda::{self, DeviceStatus, Gradient},
        },
    },
    params::Param,
};
use cudarc::driver::{CudaDevice, CudaSlice, DevicePtr, DeviceSlice, LaunchAsync};
use dfdx::{
    nn::ZeroGrads,
    shapes::{HasShape, Shape},
    tensor::{Cuda, Gradients},
};
use std::{any::Any, sync::Arc};

const OP: &str = "adamw";
const MODULE: Module = module!("adamw", each [], others ["adamw_one_group", "adamw_groups"]);

/// Entries that one block updates; `PIECE` of the kernels.
const PIECE: usize = 1 << 12;
/// In place of a list of age groups: all units of the axis are in age group 0.
const NO_UNITS: u32 = u32::MAX;
/// Floats that a copy's beginning is a multiple of: kernels read four at once.
const STEP: usize = 4;

/// Tensors that one kernel updates: `struct Tensor` of the kernels, as words of 32 bits.
#[derive(Debug, Default)]
struct Tensors {
    words: Vec<u32>,
    count: u32,
    pieces: usize,
}

/// An update under way.
pub struct CudaPass<'g> {
    grads: &'g mut Gradients<f32, Cuda>,
    gpu: Arc<CudaDevice>,
    status: DeviceStatus,
    gradients: Vec<Gradient>,
    loss: Option<Param<(), Cuda>>,
    clip: f64,
    /// Parameters handed over so far.
    updated: usize,
    one_group: Tensors,
    several: Tensors,
    /// Three numbers each.
    groups: Vec<u32>,
    /// The lists of the axes that have one, and where each of them begins and how long it is.
    units: Vec<u32>,
    spans: Vec<(usize, usize)>,
    /// The parameters' values before the update, one after another, and how many floats are taken.
    saved: Option<(CudaSlice<f32>, usize)>,
    /// Keeps buffers alive whose addresses are collected.
    kept: Vec<Box<dyn Any>>,
}

/// Refuses an address that the kernels could not read four floats from.
fn aligned(address: Address) -> Result<Address> {
    if address.is_multiple_of(16) {
        return Ok(address);
    }
    Err(Error::Device { op: OP, message: format!("a buffer at {address:#x}, not on a boundary of 16 bytes") })
}

/// Floats that a copy of so many takes.
fn room(count: usize) -> usize {
    count.next_multiple_of(STEP)
}

impl OptimKernel for Cuda {
    const ASYNC_RESULTS: bool = true;

    type DeviceStatus = DeviceStatus;

    type Pass<'g> = CudaPass<'g>;

    fn begin_pass<'g>(
        &self,
        grads: &'g mut Gradients<f32, Self>,
        reuse: Option<DeviceStatus>,
    ) -> Result<CudaPass<'g>> {
        CudaPass::new(self, grads, reuse)
    }

    fn read_status(status: &DeviceStatus) -> Result<UpdateStatus> {
        status.read()
    }

    fn make_unique<S: Shape>(tensor: &mut Param<S, Self>) -> Result<()> {
        raw_pointer::make_unique(tensor)
    }

    fn zero_grad<S: Shape>(tensor: &Param<S, Self>, grads: &mut Gradients<f32, Self>) -> Result<()> {
        as_leaf(tensor)?.try_zero_grads(grads).during("zero_grads")
    }
}

impl<'g> CudaPass<'g> {
    /// The beginning of an update; `reuse` is an old status whose buffer may be reused.
    fn new(device: &Cuda, grads: &'g mut Gradients<f32, Cuda>, reuse: Option<DeviceStatus>) -> Result<Self> {
        let status = reuse.map_or_else(|| DeviceStatus::new(device), Ok)?;
        Ok(CudaPass {
            grads,
            gpu: status.gpu(),
            status,
            gradients: Vec::new(),
            loss: None,
            clip: f64::INFINITY,
            updated: 0,
            one_group: Tensors::default(),
            several: Tensors::default(),
            groups: Vec::new(),
            units: Vec::new(),
            spans: Vec::new(),
            saved: None,
            kept: Vec::new(),
        })
    }

    fn gradient<S: Shape>(&mut self, tensor: &Param<S, Cuda>) -> Result<Gradient> {
        let gradient = self.grads.get_or_alloc_mut(tensor).during(OP)?;
        Ok(Gradient { address: aligned(*gradient.device_ptr())?, count: gradient.len() })
    }

    /// Copies a parameter's values aside; gives the copy's address.
    fn save<S: Shape>(&mut self, tensor: &Param<S, Cuda>) -> Result<Address> {
        let (copies, taken) = match &mut self.saved {
            Some(saved) => saved,
            none => {
                let all = self.gradients.iter().map(|gradient| room(gradient.count)).sum();
                none.insert((raw_pointer::uninitialised(&self.gpu, all)?, 0))
            }
        };
        let address = raw_pointer::copy_aside(&self.gpu, tensor, copies, *taken)?;
        *taken += room(tensor.shape().num_elements());
        Ok(address)
    }

    /// Where the lists of a step's age groups begin, for each of four axes.
    fn lists(&mut self, step: &AdamStep<'_>) -> Result<[u32; 4]> {
        let mut begins = [NO_UNITS; 4];
        let lead = begins.len() - step.sizes.len();
        for ((begin, units), &size) in begins[lead..].iter_mut().zip(step.units).zip(step.sizes) {
            if units.is_empty() {
                continue;
            }
            same_size(OP, "age groups of the units", size, units.len())?;
            check_groups(units, step.groups.len())?;
            *begin = self.list(units)?;
        }
        Ok(begins)
    }

    /// Where a list lies; tensors mostly share theirs.
    fn list(&mut self, units: &[u32]) -> Result<u32> {
        let same = |(begin, len): &&(usize, usize)| self.units[*begin..][..*len] == *units;
        let begin = match self.spans.iter().find(same) {
            Some(&(begin, _)) => begin,
            None => {
                self.spans.push((self.units.len(), units.len()));
                self.units.extend(units);
                self.units.len() - units.len()
            }
        };
        short(begin, "fewer than 2^32 units in all")
    }
}

fn short(number: usize, expected: &'static str) -> Result<u32> {
    u32::try_from(number).map_err(|_| Error::Value { what: OP, expected, got: number as f64 })
}

/// Refuses a unit whose age group is not in the table: the device would read beyond it.
fn check_groups(units: &[u32], groups: usize) -> Result<()> {
    match units.iter().enumerate().find(|(_, group)| **group as usize >= groups) {
        None => Ok(()),
        Some((place, &group)) => {
            Err(Error::Index { what: "age group of unit", index: group.into(), place, limit: groups })
        }
    }
}

/// Refuses sizes that the kernel for several age groups does not count in 32 bits.
fn check_rows(sizes: [u32; 4]) -> Result<()> {
    let [a, b, c, width] = sizes.map(u64::from);
    let rows = a.saturating_mul(b).saturating_mul(c);
    let fits = rows < 1 << 32 && width < 1 << 31;
    let expected = "fewer than 2^32 rows of fewer than 2^31 entries";
    if fits { Ok(()) } else { Err(Error::Value { what: OP, expected, got: rows.max(width) as f64 }) }
}

impl OptimizerPass<Cuda> for CudaPass<'_> {
    fn add_squares<S: Shape>(&mut self, tensor: &Param<S, Cuda>) -> Result<()> {
        let gradient = self.gradient(tensor)?;
        if gradient.count > 0 {
            self.gradients.push(gradient);
        }
        Ok(())
    }

    fn check_finite_and_clip(&mut self, loss: Option<&Param<(), Cuda>>, clip: f64) -> Result<()> {
        (self.loss, self.clip) = (loss.cloned(), clip);
        Ok(())
    }

    /// The parameter keeps its identity, by which gradients know it.
    fn adamw<S: Shape>(
        &mut self,
        tensor: &mut Param<S, Cuda>,
        first: &mut Param<S, Cuda>,
        second: &mut Param<S, Cuda>,
        step: &AdamStep<'_>,
    ) -> Result<()> {
        let count = tensor.shape().num_elements();
        let gradient = self.gradient(tensor)?;
        for (part, got) in [
            ("entries of the gradient", gradient.count),
            ("entries of the first moment", first.shape().num_elements()),
            ("entries of the second moment", second.shape().num_elements()),
            ("entries of the step", step.sizes.iter().product()),
        ] {
            same_size(OP, part, count, got)?;
        }
        if count == 0 {
            return Ok(());
        }
        if self.gradients.get(self.updated) != Some(&gradient) {
            let message = format!("parameter {} is another than when gradients were seen", self.updated);
            return Err(Error::Device { op: OP, message });
        }
        let several = step.groups.len() > 1;
        let sizes = padded(OP, step.sizes)?;
        if several {
            check_rows(sizes)?;
        }
        let begins = if several { self.lists(step)? } else { [NO_UNITS; 4] };
        if step.groups.is_empty() {
            return Err(Error::Zero { what: "age groups of a step" });
        }
        let groups = short(self.groups.len() / 3, "fewer than 2^32 age groups in all")?;
        let numbers = step.groups.iter().flat_map(|c| [c.lr, c.step_size, c.root_correction]);
        self.groups.extend(numbers.map(f32::to_bits));
        let (first_at, second_at) = (raw_pointer::address(first)?, raw_pointer::address(second)?);
        let saved = self.save(tensor)?;
        // Last, so that the parameter keeps its values if anything above fails.
        let value = raw_pointer::cleared(tensor)?;
        self.updated += 1;
        self.kept.extend([
            Box::new(tensor.clone()) as Box<dyn Any>,
            Box::new(first.clone()),
            Box::new(second.clone()),
        ]);

        let tensors = if several { &mut self.several } else { &mut self.one_group };
        for address in [value, first_at, second_at, gradient.address, saved] {
            push_long(&mut tensors.words, aligned(address)?);
        }
        push_long(&mut tensors.words, count as u64);
        push_long(&mut tensors.words, tensors.pieces as u64);
        tensors.words.extend(sizes);
        tensors.words.extend(begins);
        tensors.words.push(groups);
        let numbers = [step.first_share, step.beta2, step.second_share, step.eps, step.weight_decay];
        tensors.words.extend(numbers.map(f32::to_bits));
        tensors.count += 1;
        tensors.pieces += count.div_ceil(PIECE);
        Ok(())
    }

    fn finish(mut self) -> Result<DeviceStatus> {
        let (mut words, pieces) = cuda::gradient_words(&self.gradients);
        let mut place = |part: &mut Vec<u32>| {
            let begin = words.len();
            words.append(part);
            (begin * size_of::<u32>()) as Address
        };
        let parts = [&mut self.one_group.words, &mut self.several.words, &mut self.groups];
        let [one_group, several, groups] = parts.map(&mut place);
        let lists = self.status.lists(std::mem::take(&mut self.units))?;
        let table = self.gpu.htod_copy(words).during(OP)?;
        let at = *table.device_ptr();

        let loss = self.loss.as_ref().map(raw_pointer::address).transpose()?;
        let gradients = short(self.gradients.len(), "fewer than 2^32 gradients")?;
        self.status.check_finite_and_clip((at, gradients, pieces), loss, self.clip)?;
        self.launch("adamw_one_group", &self.one_group, [at + one_group, at + groups], None)?;
        self.launch("adamw_groups", &self.several, [at + several, at + groups], Some(lists))?;
        Ok(self.status)
    }
}

impl CudaPass<'_> {
    /// Launches the kernel of that name for some tensors, where there are any; `adamw_groups` with the lists.
    #[allow(unsafe_code, reason = "launches a kernel")]
    fn launch(
        &self,
        name: &'static str,
        tensors: &Tensors,
        [table, groups]: [Address; 2],
        lists: Option<Address>,
    ) -> Result<()> {
        if tensors.count == 0 {
            return Ok(());
        }
        let kernel = MODULE.function(&self.gpu, name)?;
        let blocks = cuda::blocks(OP, tensors.pieces)?;
        let status = self.status.address();
        // SAFETY: the parameters are those of `adamw_groups`, and but for the last those of
        // `adamw_one_group`, which is told how many it has. The table has `count` tensors of `pieces` pieces
        // in all, written by `adamw` above. The five buffers of each have as many floats as its count says,
        // on boundaries of 16 bytes, and live: parameter and moments in `kept`, the gradient in `grads`, which
        // is borrowed as long as `self` is, the copy in `saved`. What is written has no other owner in use: the
        // parameter was parted from its clones, the moments are the optimizer's. Every list has one age group for
        // each unit of its axis, and every age group is in the table. All of it outlives the launch on the stream,
        // where its release is queued too.
        match lists {
            None => unsafe { kernel.launch(blocks, (table, tensors.count, status, groups)) }.during(OP),
            // SAFETY: as above.
            Some(lists) => {
                unsafe { kernel.launch(blocks, (table, tensors.count, status, groups, lists)) }.during(OP)
            }
        }
    }
}
