//! Every operation on Cuda against its reference on the Cpu: a test is made of each name in the list of operations.

macro_rules! twins {
    ($($operation:ident,)+) => {
        mod cuda_agrees_with_the_reference {
            use crate::gpu;
            use msg_core::Result;
            use msg_tests::operations::{self, assert_twins};

            $(
                #[test]
                fn $operation() -> Result<()> {
                    let ours = operations::$operation::on(&gpu())?;
                    let plain = operations::$operation::plain()?;
                    assert_twins(stringify!($operation), operations::$operation::TOLERANCE, &plain, &ours);
                    Ok(())
                }
            )+
        }
    };
}
msg_core::operations!(twins);
