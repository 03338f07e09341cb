//! Launches of `adamw.cu`: one kernel for all tensors of one age group, one for all of several.

use super::step::{AdamStep, AdamWKernel};
use crate::{
    device::{
        cuda::launch::{Module, module, push_long},
        raw_pointer::Address,
    },
    error::{Context, Result},
    optim::{
        cuda::{CudaPass, Handed, Tables, Work},
        status::cuda::blocks,
    },
    params::Param,
};
use cudarc::driver::LaunchAsync;
use dfdx::{shapes::Shape, tensor::Cuda};
use std::any::Any;

const OP: &str = "adamw";
const MODULE: Module = module!("adamw", each [], others ["adamw_one_group", "adamw_groups"]);

/// Entries that one block updates; `PIECE` of the kernels.
const PIECE: usize = 1 << 12;

/// Tensors that one kernel updates: `struct Tensor` of the kernels, as words of 32 bits.
#[derive(Debug, Default)]
struct Tensors {
    words: Vec<u32>,
    count: u32,
    pieces: usize,
    /// Where the words lie in the table, in bytes.
    begin: Address,
}

/// The tensors handed to AdamW.
#[derive(Debug, Default)]
struct AdamW {
    one_group: Tensors,
    several: Tensors,
}

impl AdamWKernel for Cuda {
    fn adamw<S: Shape>(
        pass: &mut CudaPass<'_>,
        tensor: &mut Param<S, Cuda>,
        moments: [&mut Param<S, Cuda>; 2],
        step: &AdamStep<'_>,
    ) -> Result<()> {
        let groups = step.groups.iter().map(|group| [group.lr, group.step_size, group.root_correction]);
        let Some(handed) = pass.hand_over(tensor, moments, step.entries, groups)? else { return Ok(()) };
        let Handed { value, saved, grad, slots: [first, second], count, sizes, begins, group, several } =
            handed;
        let work: &mut AdamW = pass.work()?;
        let tensors = if several { &mut work.several } else { &mut work.one_group };
        for address in [value, first, second, grad, saved] {
            push_long(&mut tensors.words, address);
        }
        push_long(&mut tensors.words, count as u64);
        push_long(&mut tensors.words, tensors.pieces as u64);
        tensors.words.extend(sizes);
        tensors.words.extend(begins);
        tensors.words.push(group);
        let numbers = [step.first_share, step.beta2, step.second_share, step.eps, step.weight_decay];
        tensors.words.extend(numbers.map(f32::to_bits));
        tensors.count += 1;
        tensors.pieces += count.div_ceil(PIECE);
        Ok(())
    }
}

impl Work for AdamW {
    fn place(&mut self, table: &mut Vec<u32>) {
        for tensors in [&mut self.one_group, &mut self.several] {
            tensors.begin = (table.len() * size_of::<u32>()) as Address;
            table.append(&mut tensors.words);
        }
    }

    fn launch(&self, at: &Tables) -> Result<()> {
        launch("adamw_one_group", &self.one_group, at, false)?;
        launch("adamw_groups", &self.several, at, true)
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// Launches the kernel of that name for some tensors, where there are any; `adamw_groups` takes the lists of units.
#[allow(unsafe_code, reason = "launches a kernel")]
fn launch(name: &'static str, tensors: &Tensors, at: &Tables, lists: bool) -> Result<()> {
    if tensors.count == 0 {
        return Ok(());
    }
    let kernel = MODULE.function(&at.gpu, name)?;
    let blocks = blocks(OP, tensors.pieces)?;
    let (table, count) = (at.table + tensors.begin, tensors.count);
    let Tables { groups, units, status, .. } = *at;
    // SAFETY: the parameters are those of `adamw_groups`, and but for the last those of `adamw_one_group`, which is
    // told how many it has. The table has `count` tensors of `pieces` pieces in all, written by `adamw` above. The five
    // buffers of each have as many floats as its count says, on boundaries of 16 bytes, and live: parameter, moments
    // and the copy are kept by the pass, which borrows the gradients. What is written has no other owner in use: the
    // parameter was parted from its clones, the moments are the optimizer's. Every list has one age group for each unit
    // of its axis, and every age group is in the table. All of it outlives the launch on the stream, where its release
    // is queued too.
    if lists {
        unsafe { kernel.launch(blocks, (table, count, status, groups, units)) }.during(OP)
    } else {
        // SAFETY: as above.
        unsafe { kernel.launch(blocks, (table, count, status, groups)) }.during(OP)
    }
}
