//! Opening a device, and the self test of the addresses.

use super::gpu;
use dfdx::{shapes::Rank1, tensor::Tensor, tensor::TensorFrom};
use msg_core::{
    Error,
    device::{open_cuda, raw_pointer},
};

#[test]
fn cuda_bridge_passes_its_self_test_on_every_device_value() {
    for _ in 0..3 {
        let device = gpu();
        // Ids and addresses with other numbers of digits than in the first run.
        let _held: Vec<Tensor<Rank1<3>, f32, _>> = (0..40).map(|_| device.tensor([1.0, 2.0, 3.0])).collect();
        raw_pointer::self_test(&device).unwrap();
    }
}

#[test]
fn cuda_refuses_a_gpu_that_is_not_there() {
    let refused = open_cuda(4096).err();
    assert!(matches!(refused, Some(Error::Device { op: "open_cuda", .. })), "{refused:?}");
}
