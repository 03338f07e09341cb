//! An update on Cuda: what there is to do is collected over the module's walk and done at its end.
//!
//! One copy brings the tables to the device, two kernels compute the status, and then every optimizer launches its own
//! work on the parameters that were handed to it ([`Work`]).
//!
//! Slots are changed where they lie: [`Optimizer`](super::Optimizer) is their only owner. A parameter may have clones,
//! which dfdx lets share its buffer, and which must keep their values. Nothing of dfdx tells whether there are any; the
//! only operation that parts a tensor from its clones and launches nothing, a fill with zeros, takes its values too. So
//! they are copied aside first: one copy and one fill on the device for each parameter (12 bytes an entry), no
//! allocation but the one for all copies.

use super::{
    age_groups::EntryGroups,
    kernel::{OptimKernel, OptimizerPass},
    status::{
        UpdateStatus,
        cuda::{self, DeviceStatus, Gradient},
    },
};
use crate::{
    axis::as_leaf,
    device::{
        cuda::launch::padded,
        raw_pointer::{self, Address},
    },
    error::{Context, Error, Result, same_size},
    params::Param,
};
use cudarc::driver::{CudaDevice, CudaSlice, DevicePtr, DeviceSlice};
use dfdx::{
    nn::ZeroGrads,
    shapes::{HasShape, Shape},
    tensor::{Cuda, Gradients},
};
use std::{any::Any, sync::Arc};

const OP: &str = "optimizer";

/// In place of a list of age groups: all units of the axis are in age group 0.
pub(super) const NO_UNITS: u32 = u32::MAX;
/// Floats that a copy's beginning is a multiple of: kernels read four at once.
const STEP: usize = 4;

/// What an optimizer collects, and launches once the status is computed.
pub(super) trait Work: Any {
    /// Appends what the kernels read to the table.
    fn place(&mut self, table: &mut Vec<u32>);

    /// Launches. Everything in the table and every buffer that was handed over lives until then, and is released on
    /// the stream.
    fn launch(&self, at: &Tables) -> Result<()>;

    /// The work itself, to be found again.
    fn as_any(&mut self) -> &mut dyn Any;
}

/// Where the kernels find what was copied to the device.
pub(super) struct Tables {
    pub(super) gpu: Arc<CudaDevice>,
    /// The table, which holds what each [`Work`] placed there.
    pub(super) table: Address,
    /// The numbers of all age groups, three each.
    pub(super) groups: Address,
    /// The lists of units' age groups.
    pub(super) units: Address,
    /// The status that kernels read.
    pub(super) status: Address,
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
    work: Vec<Box<dyn Work>>,
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

/// A parameter that was handed over: where its buffers lie, each of `count` floats on a boundary of 16 bytes.
pub(super) struct Handed<const N: usize> {
    /// Zeros now, to be written.
    pub(super) value: Address,
    /// The values before the update.
    pub(super) saved: Address,
    pub(super) grad: Address,
    pub(super) slots: [Address; N],
    pub(super) count: usize,
    /// Padded by leading axes of one unit.
    pub(super) sizes: [u32; 4],
    /// Where the lists of the axes begin; [`NO_UNITS`]: all units are in age group 0.
    pub(super) begins: [u32; 4],
    /// The number of the parameter's first age group.
    pub(super) group: u32,
    /// Whether it has more than one.
    pub(super) several: bool,
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
        let status = reuse.map_or_else(|| DeviceStatus::new(self), Ok)?;
        Ok(CudaPass {
            grads,
            gpu: status.gpu(),
            status,
            gradients: Vec::new(),
            loss: None,
            clip: f64::INFINITY,
            updated: 0,
            work: Vec::new(),
            groups: Vec::new(),
            units: Vec::new(),
            spans: Vec::new(),
            saved: None,
            kept: Vec::new(),
        })
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

impl CudaPass<'_> {
    fn gradient<S: Shape>(&mut self, tensor: &Param<S, Cuda>) -> Result<Gradient> {
        let gradient = self.grads.get_or_alloc_mut(tensor).during(OP)?;
        Ok(Gradient { address: aligned(*gradient.device_ptr())?, count: gradient.len() })
    }

    /// The work of one optimizer, begun where there is none yet.
    pub(super) fn work<W: Work + Default>(&mut self) -> Result<&mut W> {
        let at = self.work.iter_mut().position(|work| work.as_any().is::<W>()).unwrap_or_else(|| {
            self.work.push(Box::new(W::default()));
            self.work.len() - 1
        });
        let lost = || Error::Device { op: OP, message: "an optimizer's work is of another type".into() };
        self.work[at].as_any().downcast_mut().ok_or_else(lost)
    }

    /// Takes a parameter and its slots over, to be written once the pass is finished, with three numbers for each age
    /// group; `None` for one without entries. The parameter keeps its identity, by which gradients know it.
    pub(super) fn hand_over<S: Shape, const N: usize>(
        &mut self,
        tensor: &mut Param<S, Cuda>,
        slots: [&mut Param<S, Cuda>; N],
        entries: EntryGroups<'_>,
        groups: impl ExactSizeIterator<Item = [f32; 3]>,
    ) -> Result<Option<Handed<N>>> {
        let count = tensor.shape().num_elements();
        let grad = self.gradient(tensor)?;
        same_size(OP, "entries of the gradient", count, grad.count)?;
        for slot in &slots {
            same_size(OP, "entries of a slot", count, slot.shape().num_elements())?;
        }
        same_size(OP, "entries of the step", count, entries.sizes.iter().product())?;
        if count == 0 {
            return Ok(None);
        }
        if self.gradients.get(self.updated) != Some(&grad) {
            let message = format!("parameter {} is another than when gradients were seen", self.updated);
            return Err(Error::Device { op: OP, message });
        }
        if groups.len() == 0 {
            return Err(Error::Zero { what: "age groups of a step" });
        }
        let several = groups.len() > 1;
        let sizes = padded(OP, entries.sizes)?;
        if several {
            check_rows(sizes)?;
        }
        let begins = if several { self.lists(entries, groups.len())? } else { [NO_UNITS; 4] };
        let group = short(self.groups.len() / 3, "fewer than 2^32 age groups in all")?;
        self.groups.extend(groups.flatten().map(f32::to_bits));
        let mut addresses = [0; N];
        for (address, slot) in addresses.iter_mut().zip(&slots) {
            *address = aligned(raw_pointer::address(slot)?)?;
        }
        let saved = aligned(self.save(tensor)?)?;
        // Last, so that the parameter keeps its values if anything above fails.
        let value = raw_pointer::cleared(tensor)?;
        self.updated += 1;
        self.kept.push(Box::new(tensor.clone()));
        self.kept.extend(slots.map(|slot| Box::new(slot.clone()) as Box<dyn Any>));
        let (value, grad) = (aligned(value)?, grad.address);
        Ok(Some(Handed { value, saved, grad, slots: addresses, count, sizes, begins, group, several }))
    }

    /// Copies a parameter's values aside; returns the copy's address.
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

    /// Where the lists of a parameter's age groups begin, for each of four axes.
    fn lists(&mut self, entries: EntryGroups<'_>, groups: usize) -> Result<[u32; 4]> {
        let mut begins = [NO_UNITS; 4];
        let lead = begins.len() - entries.sizes.len();
        for ((begin, units), &size) in begins[lead..].iter_mut().zip(entries.units).zip(entries.sizes) {
            if units.is_empty() {
                continue;
            }
            same_size(OP, "age groups of the units", size, units.len())?;
            check_groups(units, groups)?;
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

/// Refuses sizes that the kernels for several age groups do not count in 32 bits.
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

    fn finish(mut self) -> Result<DeviceStatus> {
        let (mut words, pieces) = cuda::gradient_words(&self.gradients);
        self.work.iter_mut().for_each(|work| work.place(&mut words));
        let groups = words.len() * size_of::<u32>();
        words.append(&mut self.groups);
        let units = self.status.lists(std::mem::take(&mut self.units))?;
        let table = self.gpu.htod_copy(words).during(OP)?;
        let at = *table.device_ptr();

        let loss = self.loss.as_ref().map(raw_pointer::address).transpose()?;
        let gradients = short(self.gradients.len(), "fewer than 2^32 gradients")?;
        self.status.check_finite_and_clip((at, gradients, pieces), loss, self.clip)?;
        let tables = Tables {
            gpu: self.gpu.clone(),
            table: at,
            groups: at + groups as Address,
            units,
            status: self.status.address(),
        };
        self.work.iter().try_for_each(|work| work.launch(&tables))?;
        Ok(self.status)
    }
}
