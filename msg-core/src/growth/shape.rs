//! Growth of shapes: each axis type says what it grows to and by which map.

use super::{Growth, map::AxisMap};
use crate::{
    axis::{Axis, RuntimeAxis},
    error::{Error, Result},
};
use dfdx::shapes::{Const, Dim, Shape};

/// An axis that becomes `To` by a growth: a run-time axis stays its own type, `Const<N>` becomes
/// `Const<M>`.
pub trait AxisGrowsTo<To: Dim>: Dim {
    /// What becomes of its units.
    ///
    /// # Errors
    /// Where the growth's map does not fit the axis.
    fn axis_map(&self, growth: &Growth) -> Result<AxisMap>;
}

/// A run-time axis grows by the growth's map for it.
impl<A: RuntimeAxis> AxisGrowsTo<A> for A {
    fn axis_map(&self, growth: &Growth) -> Result<AxisMap> {
        growth.map_of(self)
    }
}

/// A const axis grows by appending fresh units; one that would shrink does not compile.
///
/// ```
/// use msg_core::growth::{AxisGrowsTo, Growth};
/// use dfdx::shapes::Const;
/// let map = AxisGrowsTo::<Const<5>>::axis_map(&Const::<3>, &Growth::new(0, 1)).unwrap();
/// assert_eq!((map.old_size(), map.new_size()), (3, 5));
/// ```
/// ```compile_fail
/// use msg_core::growth::{AxisGrowsTo, Growth};
/// use dfdx::shapes::Const;
/// let map = AxisGrowsTo::<Const<3>>::axis_map(&Const::<5>, &Growth::new(0, 1)).unwrap();
/// assert_eq!((map.old_size(), map.new_size()), (5, 3));
/// ```
impl<const N: usize, const M: usize> AxisGrowsTo<Const<M>> for Const<N> {
    fn axis_map(&self, _: &Growth) -> Result<AxisMap> {
        const { assert!(N <= M, "a const axis cannot shrink") };
        AxisMap::append(<Self as Axis>::NAME, N, M)
    }
}

/// A shape all of whose axes grow to those of `To`.
pub trait GrowsTo<To: Shape>: Shape {
    /// The maps of the axes, outermost first.
    ///
    /// # Errors
    /// Where a map does not fit its axis.
    fn axis_maps(&self, growth: &Growth) -> Result<Vec<AxisMap>>;

    /// The shape after the growth.
    ///
    /// # Errors
    /// Where a map does not fit its axis, or `To` has const axes of another size than the maps say.
    fn grown(&self, growth: &Growth) -> Result<To>;
}

/// The axis `To` of that size; a const axis has only its own.
fn sized<To: Axis>(size: usize) -> Result<To> {
    let expected = "the size of the const axis that it grows to";
    To::from_size(size).ok_or(Error::Value { what: To::NAME, expected, got: size as f64 })
}

macro_rules! grows_to {
    ($($from:ident $to:ident $at:tt),+) => {
        impl<$($from: AxisGrowsTo<$to>, $to: Axis),+> GrowsTo<($($to,)+)> for ($($from,)+) {
            fn axis_maps(&self, growth: &Growth) -> Result<Vec<AxisMap>> {
                Ok(vec![$(self.$at.axis_map(growth)?),+])
            }
            fn grown(&self, growth: &Growth) -> Result<($($to,)+)> {
                Ok(($(sized::<$to>(self.$at.axis_map(growth)?.new_size())?,)+))
            }
        }
    };
}

grows_to!(A A2 0);
grows_to!(A A2 0, B B2 1);
grows_to!(A A2 0, B B2 1, C C2 2);
grows_to!(A A2 0, B B2 1, C C2 2, D D2 3);
