//! The sum of embeddings as one node on Cuda: launches of `embedding.cu`.

use super::{EmbedKernel, Embeddings, Ids};
use crate::{
    axis::Axis,
    device::{
        cuda::{
            element::{Values, parameters},
            launch::{DeviceResult, Module, module},
        },
        raw_pointer::{self, Address},
    },
    error::{Context, Result},
    ops::{elementwise::add_totals, stream::Stream},
    params::Param,
};
use cudarc::driver::{CudaDevice, DevicePtr, LaunchConfig};
use dfdx::{
    shapes::{HasShape, Shape},
    tensor::{Cuda, Gradients, PutTape, Tape, ZerosTensor},
};
use std::sync::Arc;

const MODULE: Module = module!("embedding", each [], others ["lookup", "scatter", "scatter_few"]);

/// Threads of a block; `THREADS` of the kernels.
const THREADS: u32 = 256;
/// Rows of a table that is few: each of them is summed by blocks that share the places.
const FEW: usize = 4;
/// Blocks that share the places.
const SHARES: usize = 128;

parameters! {
    /// `Lookup` of the kernels.
    struct Lookup {
        words: Address,
        segments: Address,
        positions: Address,
        word_ids: Address,
        segment_ids: Address,
        position_ids: Address,
        y: Address,
        places: u32,
        length: u32,
        width: u32,
    }

    /// `Scatter` of the kernels.
    struct Scatter {
        ids: Address,
        dy: Address,
        dtable: Address,
        count: u32,
        places: u32,
        width: u32,
    }

    /// `ScatterFew` of the kernels.
    struct ScatterFew {
        ids: Address,
        dy: Address,
        parts: Address,
        places: u32,
        width: u32,
        id: u64,
    }
}

impl EmbedKernel for Cuda {
    #[allow(unsafe_code, reason = "launches a kernel")]
    fn embed_sum<T: Tape<f32, Self>>(of: Embeddings<'_, Self>, mut tape: T) -> Result<Stream<Self, T>> {
        const OP: &str = "embed";
        let Embeddings { words, segments, positions } = of;
        let (batch, query) = *words.1.shape();
        let hidden = words.0.shape().1;
        let device = words.0.device();
        let gpu = raw_pointer::driver(device)?;
        let y = device.try_zeros_like(&(batch, query, hidden)).during(OP)?;
        let places = batch.0 * query.0;
        let with = Lookup {
            words: raw_pointer::address(words.0)?,
            segments: segments.map_or(Ok(0), |(table, _)| raw_pointer::address(table))?,
            positions: raw_pointer::address(positions.0)?,
            word_ids: raw_pointer::indices(words.1.tensor())?,
            segment_ids: segments.map_or(Ok(0), |(_, ids)| raw_pointer::indices(ids.tensor()))?,
            position_ids: raw_pointer::indices(positions.1.tensor())?,
            y: raw_pointer::address(&y)?,
            places: places as u32,
            length: query.0 as u32,
            width: hidden.0 as u32,
        };
        let config = LaunchConfig {
            grid_dim: (places as u32, 1, 1),
            block_dim: (hidden.0.next_multiple_of(32).clamp(32, THREADS as usize) as u32, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the struct is the kernel's. Ids are below their tables' sizes (checked where they were made); there is one
        // for each place, those of positions for each of a sequence; `y` was just made.
        unsafe { MODULE.launch(&gpu, "lookup", config, with) }.during(OP)?;
        if T::OWNS_TAPE {
            let result = y.ghost();
            let words = Table::new(words)?;
            let segments = segments.map(Table::new).transpose()?;
            let positions = Table::new(positions)?;
            tape.add_backward_op(move |grads| {
                let dy = *grads.get_or_alloc_mut(&result)?.device_ptr();
                words.scatter(&gpu, dy, places, grads)?;
                if let Some(segments) = &segments {
                    segments.scatter(&gpu, dy, places, grads)?;
                }
                positions.scatter(&gpu, dy, places, grads)
            });
        }
        Ok(y.put_tape(tape))
    }
}

/// A table, the ids of the places, and where these lie.
struct Table<A: Axis, S: Shape> {
    table: Param<(A, crate::axis::Hidden), Cuda>,
    ids: Ids<A, S, Cuda>,
    at: Address,
}

impl<A: Axis, S: Shape> Table<A, S> {
    fn new((table, ids): super::Rows<'_, A, S, Cuda>) -> Result<Self> {
        Ok(Table { table: table.clone(), ids: ids.clone(), at: raw_pointer::indices(ids.tensor())? })
    }

    /// Adds the gradient of every place to the row that it took. Ids that are fewer than the places repeat.
    #[allow(unsafe_code, reason = "launches a kernel")]
    fn scatter(
        &self,
        gpu: &Arc<CudaDevice>,
        dy: Address,
        places: usize,
        grads: &mut Gradients<f32, Cuda>,
    ) -> DeviceResult {
        let (rows, width) = (self.table.shape().0.size(), self.table.shape().1.0);
        let count = self.ids.shape().num_elements();
        let dtable = *grads.get_or_alloc_mut(&self.table)?.device_ptr();
        if rows <= FEW && count == places {
            return (0..rows).try_for_each(|row| self.scatter_few(gpu, dy, places, (row, width), dtable));
        }
        let with = Scatter {
            ids: self.at,
            dy,
            dtable,
            count: count as u32,
            places: places as u32,
            width: width as u32,
        };
        let config =
            LaunchConfig { grid_dim: (count as u32, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: the struct is the kernel's; the gradients are those of a table whose rows the ids name, and of `places`
        // rows. One block alone changes a row.
        unsafe { MODULE.launch(gpu, "scatter", config, with) }
    }

    /// Adds the gradients of the places that took one row.
    #[allow(unsafe_code, reason = "launches a kernel")]
    fn scatter_few(
        &self,
        gpu: &Arc<CudaDevice>,
        dy: Address,
        places: usize,
        (row, width): (usize, usize),
        dtable: Address,
    ) -> DeviceResult {
        let shares = places.min(SHARES);
        let parts = Values::<f32>::of(gpu, shares * width)?;
        let with = ScatterFew {
            ids: self.at,
            dy,
            parts: parts.address(),
            places: places as u32,
            width: width as u32,
            id: row as u64,
        };
        let config = LaunchConfig {
            grid_dim: ((width as u32).div_ceil(THREADS), shares as u32, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the struct is the kernel's; there is an id and a row of gradients for each place, a part for each share.
        unsafe { MODULE.launch(gpu, "scatter_few", config, with) }?;
        let to = dtable + (row * width * size_of::<f32>()) as Address;
        add_totals(gpu, &parts, (shares as u32, width), [to, 0, 0], 1)
    }
}
