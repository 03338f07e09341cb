//! Axes as types: a tensor's shape says what each of its axes *is*, and so how it grows.
//!
//! Every axis of a model is a newtype around its run-time size and implements dfdx's [`Dim`]; the
//! compiler then refuses to contract [`Hidden`] with [`Ffn`] or to add along the wrong axis.
//! [`Const`] sizes work in the same functions. How an axis grows is decided in
//! [`growth`](crate::growth). Two roles of one size are two types ([`Query`] and
//! [`Key`], [`Hidden`] and [`HiddenOut`]), so that no tensor has an axis twice.

pub mod compile_fail;
mod last;
mod named;
mod rename;

pub use last::EndsWith;
pub use named::{AxisInfo, NamedShape};
pub(crate) use rename::as_leaf;
pub use rename::{
    flatten_rows, hidden_in, hidden_out, merge_heads, merge_rows, query_as_key, split_heads, split_rows,
    unflatten_rows,
};

use dfdx::shapes::{Const, Dim};

/// One axis of a tensor: a size with a name. Declare one with [`axis!`](crate::axis!).
pub trait Axis: Dim {
    /// The axis' name in errors, plans and files.
    const NAME: &'static str;
    /// The name of the axis whose growth this one follows; its own name for most.
    const GROWS_AS: &'static str = Self::NAME;
}

/// An axis whose size is known at run time only, so that it may change while its type stays.
pub trait RuntimeAxis: Axis {}

impl<const N: usize> Axis for Const<N> {
    const NAME: &'static str = "Const";
}

/// Declares axis types: `axis! { /// docs \n pub Width; }`, or `pub WidthOut grows as Width;` for a
/// second role of the same units, or `pub Width named "width";` for another name in files than the type's.
///
/// ```
/// use dfdx::prelude::*;
/// msg_core::axis! {
///     /// Features of my module.
///     pub Width;
///     /// The same features as the outputs of a square map.
///     pub WidthOut grows as Width;
/// }
/// let dev = Cpu::default();
/// let w: Tensor<(WidthOut, Width), f32, _> = dev.zeros_like(&(WidthOut(3), Width(3)));
/// assert_eq!(w.shape().1.size(), 3);
/// ```
#[macro_export]
macro_rules! axis {
    ($($(#[$doc:meta])* $vis:vis $name:ident $(named $text:literal)? $(grows as $class:ident)?;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $vis struct $name(pub usize);

        impl ::dfdx::shapes::Dim for $name {
            #[inline(always)]
            fn size(&self) -> usize { self.0 }
            #[inline(always)]
            fn from_size(size: usize) -> Option<Self> { Some($name(size)) }
        }

        impl $crate::axis::Axis for $name {
            // The first of what is given and the type's own name.
            const NAME: &'static str = [$($text,)? stringify!($name)][0];
            $(const GROWS_AS: &'static str = <$class as $crate::axis::Axis>::NAME;)?
        }

        impl $crate::axis::RuntimeAxis for $name {}
    )* };
}

axis! {
    /// Sequences of one batch.
    pub Batch;
    /// Positions of a sequence as queries.
    pub Query;
    /// Positions of a sequence as keys.
    pub Key;
    /// Batch and Query merged: all positions of a batch.
    pub Rows;
    /// Positions that carry a label.
    pub Labelled;
    /// Entries of the token table.
    pub Vocab;
    /// Entries of the position table.
    pub Position;
    /// Entries of the segment (token type) table.
    pub Segment;
    /// Classes of a sentence-level head.
    pub Class;
    /// The residual stream.
    pub Hidden;
    /// The residual stream as the output of a square map (pooler, MLM transform).
    pub HiddenOut grows as Hidden;
    /// Units of the feed-forward layer.
    pub Ffn;
    /// Attention heads.
    pub Heads;
    /// Size of one head.
    pub HeadDim;
    /// The three projections of attention: query, key, value.
    pub Qkv;
    /// Heads x HeadDim, decoupled from [`Hidden`]. Files and reports know it by its older name, so that stays.
    pub AttnDim named "Inner";
}
