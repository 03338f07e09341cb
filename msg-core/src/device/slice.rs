//! A Cpu tensor's values as a slice: the only module that reaches around dfdx on the Cpu.
//!
//! dfdx 0.13 keeps a tensor's storage private: the whole of it can only be copied, by one thread, and an
//! update of AdamW would copy parameters and moments twice each. It does give a reference to every single element
//! (`tensor[index]`), and elements of one tensor lie in one `Vec`; a slice is made of the first one's address
//! and of what indexing has shown about the others.

use dfdx::{
    shapes::{HasShape, Shape, Unit},
    tensor::{Cpu, Tensor},
};

/// Asserts that the entries lie one after another, and gives their number.
fn entries_in_a_row<S: Shape, E: Unit, T>(tensor: &Tensor<S, E, Cpu, T>) -> usize {
    let (sizes, strides) = (tensor.shape().concrete(), tensor.shape().strides());
    let count = tensor.shape().num_elements();
    if count == 0 {
        return 0;
    }
    let zero = S::Concrete::default();
    let address = |index: S::Concrete| std::ptr::from_ref(&tensor[index]).addr();
    let first = address(zero);
    let distance = |index| address(index).wrapping_sub(first) / size_of::<E>();
    for axis in 0..S::NUM_DIMS {
        if sizes[axis] > 1 {
            let mut next = zero;
            next[axis] = 1;
            assert_eq!(distance(next), strides[axis], "a contiguous tensor, axis {axis}");
        }
    }
    let mut last = sizes;
    (0..S::NUM_DIMS).for_each(|axis| last[axis] -= 1);
    assert_eq!(distance(last) + 1, count, "a contiguous tensor");
    count
}

/// The values of a contiguous tensor, in the order of its indices.
///
/// # Panics
/// For views that are not contiguous.
#[allow(unsafe_code, reason = "dfdx gives references to single elements only")]
pub(crate) fn values<S: Shape, E: Unit, T>(tensor: &Tensor<S, E, Cpu, T>) -> &[E] {
    match entries_in_a_row(tensor) {
        0 => &[],
        count => {
            let first = std::ptr::from_ref(&tensor[S::Concrete::default()]);
            // SAFETY: indexing, which checks against the length of the tensor's only `Vec`, has reached the
            // first and the last of `count` neighbouring elements, so all of them are initialised elements
            // of that allocation. It lives, unmoved and unchanged, as long as the tensor is borrowed: dfdx
            // writes through `&mut Tensor` only. The pointer comes from a reference to the first element;
            // that it may be used for its neighbours too is what rustc and LLVM do, though Stacked Borrows
            // would have it derive from a reference to all of them, which dfdx does not give away.
            unsafe { std::slice::from_raw_parts(first, count) }
        }
    }
}

/// As [`values`], to be written. A storage that tensors share is copied first, as by dfdx's own operations.
///
/// # Panics
/// As [`values`].
#[allow(unsafe_code, reason = "dfdx gives references to single elements only")]
pub(crate) fn values_mut<S: Shape, E: Unit>(tensor: &mut Tensor<S, E, Cpu>) -> &mut [E] {
    match entries_in_a_row(tensor) {
        0 => &mut [],
        count => {
            let first = std::ptr::from_mut(&mut tensor[S::Concrete::default()]);
            // SAFETY: as in `values`; the mutable index has made the storage this tensor's own, with the same
            // layout, and the tensor stays mutably borrowed as long as the slice lives.
            unsafe { std::slice::from_raw_parts_mut(first, count) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dfdx::{
        shapes::{Axis, Rank2},
        tensor::{AsArray, TensorFrom},
        tensor_ops::{BroadcastTo, PermuteTo},
    };

    #[test]
    fn a_slice_holds_what_a_copy_holds_and_writing_it_writes_the_tensor_alone() {
        let device = Cpu::default();
        let mut tensor = device.tensor([[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]]);
        let other = tensor.clone();
        assert_eq!(values(&tensor), tensor.as_vec());
        values_mut(&mut tensor)[4] = 7.0;
        assert_eq!(tensor.array(), [[1.0, 2.0, 3.0], [4.0, 7.0, 6.0]]);
        assert_eq!(values(&other), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(values(&device.tensor(2.5f64)), [2.5]);
        let none: Tensor<(usize, usize), f32, Cpu> = dfdx::tensor::ZerosTensor::zeros_like(&device, &(0, 3));
        assert!(values(&none).is_empty());
    }

    #[test]
    #[should_panic(expected = "contiguous")]
    fn a_permuted_tensor_is_refused() {
        let tensor = Cpu::default().tensor([[1.0f32, 2.0], [3.0, 4.0]]);
        values(&tensor.permute::<Rank2<2, 2>, dfdx::shapes::Axes2<1, 0>>());
    }

    #[test]
    #[should_panic(expected = "contiguous")]
    fn a_broadcast_tensor_is_refused() {
        let tensor = Cpu::default().tensor([1.0f32, 2.0]);
        values(&tensor.broadcast::<Rank2<3, 2>, Axis<0>>());
    }
}
