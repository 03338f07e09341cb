//! The list of all operations.

/// Calls a macro with the names of all operations, which are those of their modules: `operations!(twins)` is
/// `twins! { attention, block, ... }`. Tests make a twin test of each name, for the Cpu and for Cuda, so that one
/// without a twin does not compile.
#[macro_export]
macro_rules! operations {
    ($each:ident) => {
        $each! {
            attention,
            block,
            cross_entropy,
            dropout,
            embedding,
            gelu,
            head,
            linear,
            masked_norm,
            matmul,
        }
    };
}
