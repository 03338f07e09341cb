//! Where the values of dfdx's Cuda tensors lie: the only module that handles raw device addresses.
//!
//! dfdx 0.13 keeps a tensor's storage private, and its own operations cannot grow a tensor or update one
//! by age groups. Its `Debug` text, however, shows the address and the length of the device buffer, and it
//! can be read in safe Rust, without a copy, by a sink that stops the formatter as soon as both numbers
//! are there (less than a microsecond). The text is no interface: hence the exact versions of dfdx and
//! cudarc in the workspace, and a self test before the first use in every process.

use crate::error::{Context, Error, Result, same_size};
use cudarc::driver::{CudaDevice, CudaSlice, DevicePtr, DevicePtrMut, DeviceSlice, result};
use dfdx::{
    shapes::{HasShape, Rank1, Shape},
    tensor::{AsArray, Cuda, Gradients, Tensor, TensorFrom, ZerosTensor},
    tensor_ops::ReshapeTo,
};
use std::{
    fmt::{self, Write},
    sync::{Arc, OnceLock},
};

const OP: &str = "cuda bridge";

/// Address of a buffer in device memory, as kernels take it.
pub(crate) type Address = cudarc::driver::sys::CUdeviceptr;

/// Reads the numbers that follow `cu_device_ptr: ` and `len: ` in a `Debug` text, and stops there.
#[derive(Default)]
struct NumberSink {
    /// Which label is looked for, or whose number is being read.
    field: usize,
    /// How many bytes of the label have been seen.
    matched: usize,
    numbers: [Option<u64>; 2],
}

impl NumberSink {
    /// Each label begins where the number before it ended.
    const LABELS: [&'static [u8]; 2] = [b"cu_device_ptr: ", b", len: "];

    fn finished(&self) -> Option<(Address, usize)> {
        let [Some(address), Some(len)] = self.numbers else { return None };
        (self.field == Self::LABELS.len()).then_some((address, usize::try_from(len).ok()?))
    }

    fn byte(&mut self, byte: u8) -> fmt::Result {
        let label = Self::LABELS.get(self.field).ok_or(fmt::Error)?;
        if self.matched < label.len() {
            // The first byte of either label occurs in it only once, so this finds every occurrence.
            self.matched =
                if byte == label[self.matched] { self.matched + 1 } else { usize::from(byte == label[0]) };
            return Ok(());
        }
        if byte.is_ascii_digit() {
            let so_far = self.numbers[self.field].unwrap_or(0);
            let number = so_far.checked_mul(10).and_then(|n| n.checked_add(u64::from(byte - b'0')));
            self.numbers[self.field] = Some(number.ok_or(fmt::Error)?);
            return Ok(());
        }
        // Both are decimal and followed by another field; anything else is another text.
        if self.numbers[self.field].is_none() || byte != b',' {
            return Err(fmt::Error);
        }
        self.field += 1;
        self.matched = Self::LABELS.get(self.field).map_or(0, |label| usize::from(byte == label[0]));
        // An error stops the formatter: nothing else of the text is wanted.
        if self.field < Self::LABELS.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

impl Write for NumberSink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().try_for_each(|byte| self.byte(byte))
    }
}

/// The address and length that a value's `Debug` text shows.
fn shown(value: &impl fmt::Debug) -> Option<(Address, usize)> {
    let mut sink = NumberSink::default();
    // Fails by intent once both numbers are read; what counts is what the sink has found.
    let _ = write!(sink, "{value:?}");
    sink.finished()
}

fn refuse(message: impl Into<String>) -> Error {
    Error::Device { op: OP, message: message.into() }
}

/// Address of a contiguous tensor's values.
///
/// It stays valid while the tensor, or another one that shares its buffer, lives. Work that was put on
/// the device's stream before the buffer is dropped still finds it, because the release is put on the
/// same stream.
///
/// # Errors
/// Where the self test failed, and for views (broadcast or permuted tensors).
pub(crate) fn address<S: Shape>(tensor: &Tensor<S, f32, Cuda>) -> Result<Address> {
    trusted(tensor.device())?;
    let (address, len) = shown(tensor).ok_or_else(|| refuse("no address in the tensor's Debug text"))?;
    same_size(OP, "values in memory", tensor.shape().num_elements(), len)?;
    // Contiguous tensors come back as they are, others as a copy.
    let contiguous = tensor.clone().try_contiguous().during(OP)?;
    if shown(&contiguous) == Some((address, len)) {
        Ok(address)
    } else {
        Err(refuse("the tensor is not contiguous"))
    }
}

/// Address of indices as they were handed to the device: never a view.
///
/// # Errors
/// As [`address`].
pub(crate) fn indices<S: Shape>(tensor: &Tensor<S, usize, Cuda>) -> Result<Address> {
    trusted(tensor.device())?;
    let (address, len) = shown(tensor).ok_or_else(|| refuse("no address in the tensor's Debug text"))?;
    same_size(OP, "values in memory", tensor.shape().num_elements(), len)?;
    Ok(address)
}

/// The cudarc device of a dfdx device: the stream and the modules that dfdx uses itself.
pub(crate) fn driver(device: &Cuda) -> Result<Arc<CudaDevice>> {
    let scalar: Tensor<(), f32, Cuda> = device.try_zeros().during(OP)?;
    let mut gradients = Gradients::leaky();
    Ok(gradients.get_or_alloc_mut(&scalar).during(OP)?.device())
}

/// Memory for `len` floats, which hold anything.
#[allow(unsafe_code, reason = "allocates without clearing")]
pub(crate) fn uninitialised(gpu: &Arc<CudaDevice>, len: usize) -> Result<CudaSlice<f32>> {
    // SAFETY: any bits are a float. Callers write what they read.
    unsafe { gpu.alloc::<f32>(len) }.asking_for(len * size_of::<f32>(), OP)
}

/// Copies a contiguous tensor's values into `copies`, from its float number `at` on, and returns the copy's
/// address.
///
/// # Errors
/// As [`address`], and where there is no room.
#[allow(unsafe_code, reason = "copies between addresses")]
pub(crate) fn copy_aside<S: Shape>(
    gpu: &Arc<CudaDevice>,
    tensor: &Tensor<S, f32, Cuda>,
    copies: &mut CudaSlice<f32>,
    at: usize,
) -> Result<Address> {
    let from = address(tensor)?;
    let len = tensor.shape().num_elements();
    let mut place = copies.try_slice_mut(at..at + len).ok_or_else(|| refuse("no room for a copy"))?;
    let to = *place.device_ptr_mut();
    // SAFETY: `from` addresses `len` floats of `tensor`, the slice has as many, and they do not overlap.
    // The copy is put on the stream on which both buffers are used and released.
    unsafe { result::memcpy_dtod_async(to, from, place.num_bytes(), *gpu.cu_stream()) }.during(OP)?;
    Ok(to)
}

/// Gives a contiguous tensor a buffer of its own with the same values; it becomes another tensor to gradients.
///
/// cudarc keeps the host's values of an upload as long as its buffer: they go with the old one.
///
/// # Errors
/// As [`address`].
#[allow(unsafe_code, reason = "copies between addresses")]
pub(crate) fn make_unique<S: Shape>(tensor: &mut Tensor<S, f32, Cuda>) -> Result<()> {
    let gpu = driver(tensor.device())?;
    let bytes = tensor.shape().num_elements() * size_of::<f32>();
    let own = tensor.device().try_zeros_like(tensor.shape()).asking_for(bytes, OP)?;
    let (from, to) = (address(tensor)?, address(&own)?);
    // SAFETY: both address as many floats as the shape has, of two buffers: `own` was just made. The copy is
    // put on the stream on which both are used and released.
    unsafe { result::memcpy_dtod_async(to, from, bytes, *gpu.cu_stream()) }.during(OP)?;
    *tensor = own;
    Ok(())
}

/// Makes a tensor the only owner of its buffer, which then holds zeros, and returns its address.
///
/// dfdx tensors share buffers when they are cloned and copy them before a change. Code that writes to an
/// address must do the same: the fill below replaces a buffer that others share.
///
/// # Errors
/// As [`address`].
pub(crate) fn cleared<S: Shape>(tensor: &mut Tensor<S, f32, Cuda>) -> Result<Address> {
    tensor.try_fill_with_zeros().during(OP)?;
    address(tensor)
}

/// The result of the self test, made once per process.
pub(super) fn trusted(device: &Cuda) -> Result<()> {
    static TRUSTED: OnceLock<Result<()>> = OnceLock::new();
    TRUSTED.get_or_init(|| self_test(device)).clone()
}

/// Checks that addresses are what this module takes them for: against the address that cudarc shows of a
/// gradient, by reading a tensor's values through its address, by writing through it, and that clones
/// share a buffer until one of them changes.
///
/// The first use of an address in a process runs it; calling it earlier gives the error earlier.
///
/// # Errors
/// Where a check fails.
pub fn self_test(device: &Cuda) -> Result<()> {
    const VALUES: [f32; 5] = [1.0, -2.0, 3.5, 0.25, 5.0];
    let gpu = driver(device)?;
    let tensor: Tensor<Rank1<5>, f32, Cuda> = device.try_tensor(VALUES).during(OP)?;
    let mut gradients = Gradients::leaky();
    let gradient = gradients.get_or_alloc_mut(&tensor).during(OP)?;
    let known = (*gradient.device_ptr(), gradient.len());
    check(shown(&*gradient) == Some(known), "the Debug text shows another address than cudarc")?;
    let (address, len) = shown(&tensor).ok_or_else(|| refuse("no address in the Debug text"))?;
    check(len == VALUES.len(), "the Debug text shows another length than the tensor's")?;
    check(read(&gpu, address)? == VALUES, "the address does not lead to the tensor's values")?;

    let twin = tensor.clone();
    check(shown(&twin) == Some((address, len)), "clones do not share their values")?;
    let mut changed = tensor;
    changed.try_fill_with_zeros().during(OP)?;
    check(twin.array() == VALUES, "a change reaches the clone of a tensor")?;
    let (own, _) = shown(&changed).ok_or_else(|| refuse("no address in the Debug text"))?;
    check(own != address, "a changed tensor still shares its values")?;
    write(&gpu, own, VALUES)?;
    check(changed.array() == VALUES, "what is written to the address does not reach the tensor")
}

fn check(holds: bool, failure: &str) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(refuse(format!("self test: {failure}; built for dfdx 0.13.0, cudarc 0.9.15")))
    }
}

/// Values at an address that is still to be trusted.
#[allow(unsafe_code, reason = "reads from an address")]
fn read(gpu: &Arc<CudaDevice>, from: Address) -> Result<[f32; 5]> {
    let mut values = [0.0; 5];
    gpu.synchronize().during(OP)?;
    // SAFETY: the host side is an array of the copied size. The driver checks the device side and
    // returns an error for an address outside its allocations.
    unsafe { result::memcpy_dtoh_sync(&mut values, from) }.during(OP)?;
    Ok(values)
}

/// Writes through an address from which [`read`] would read.
#[allow(unsafe_code, reason = "writes to an address")]
fn write(gpu: &Arc<CudaDevice>, to: Address, values: [f32; 5]) -> Result<()> {
    gpu.synchronize().during(OP)?;
    // SAFETY: `read` has just found a tensor's values at an address obtained in the same way, and this
    // one belongs to a tensor of the same length that is the only owner of its buffer.
    unsafe { result::memcpy_htod_sync(to, &values) }.during(OP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sink_reads_both_numbers_and_stops() {
        let text = "Tensor { id: UniqueId(7), data: CachableCudaSlice { data: CudaSlice { \
                    cu_device_ptr: 140219, len: 6, device: CudaDevice { len: 9 } } } }";
        for split in 0..text.len() {
            let mut sink = NumberSink::default();
            let done = sink.write_str(&text[..split]).and_then(|()| sink.write_str(&text[split..]));
            assert!(done.is_err());
            assert_eq!(sink.finished(), Some((140_219, 6)), "split at {split}");
        }
    }

    #[test]
    fn another_text_gives_no_numbers() {
        for text in [
            "",
            "CudaSlice { cu_device_ptr: 12",
            "CudaSlice { cu_device_ptr: 12, size: 3, len: 4",
            "CudaSlice { cu_device_ptr: 0xff, len: 4, device",
            "CudaSlice { cu_device_ptr: 99999999999999999999, len: 4, device",
            "CudaSlice { len: 4, cu_device_ptr: 12 }",
        ] {
            let mut sink = NumberSink::default();
            let _ = sink.write_str(text);
            assert_eq!(sink.finished(), None, "{text}");
        }
    }
}
