//! Reading the axes off a shape type.

use super::Axis;
use dfdx::shapes::Shape;

/// What a shape type says about one of its axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AxisInfo {
    /// [`Axis::NAME`].
    pub name: &'static str,
    /// [`Axis::GROWS_AS`].
    pub grows_as: &'static str,
    /// Its size.
    pub size: usize,
}

impl AxisInfo {
    /// What the type of `axis` says.
    pub fn of<A: Axis>(axis: &A) -> Self {
        AxisInfo { name: A::NAME, grows_as: A::GROWS_AS, size: axis.size() }
    }
}

/// A shape all of whose axes are [`Axis`] types; implemented for tuples of one to four.
pub trait NamedShape: Shape {
    /// The axes in order, outermost first.
    fn axes(&self) -> Vec<AxisInfo>;

    /// The same axes with other sizes, one for each; `None` for another number of them, or another size of a const
    /// axis.
    fn resized(&self, sizes: &[usize]) -> Option<Self>;
}

macro_rules! named_shape {
    ($($axis:ident $at:tt),+) => {
        impl<$($axis: Axis),+> NamedShape for ($($axis,)+) {
            fn axes(&self) -> Vec<AxisInfo> {
                vec![$(AxisInfo::of(&self.$at)),+]
            }

            fn resized(&self, sizes: &[usize]) -> Option<Self> {
                if sizes.len() != Self::NUM_DIMS {
                    return None;
                }
                Some(($($axis::from_size(sizes[$at])?,)+))
            }
        }
    };
}

named_shape!(A 0);
named_shape!(A 0, B 1);
named_shape!(A 0, B 1, C 2);
named_shape!(A 0, B 1, C 2, D 3);
