//! The sizes of a model that can grow, and the one table of the axes that they belong to.

use msg_core::{
    axis::{AttnDim, Axis, AxisInfo, Ffn, HeadDim, Heads, Hidden},
    error::{Error, Result},
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The largest size of any one axis. Beyond it products of sizes leave 64 bits.
pub const LARGEST: usize = 1 << 24;

/// Calls the macro `$with` with the table of growing axes, one row an axis.
///
/// A row is the axis' documentation; in brackets the serde attributes of its key in files, which are none for an axis
/// that every family has and `default, skip_serializing_if = "is_absent"` for one that some families lack; its key in
/// configurations and files; its name; and how it grows. [`Sizes`], the keys of a stage in a configuration and whatever
/// lists the axes follow from the rows.
#[macro_export]
macro_rules! growing_axes {
    ($with:ident) => {
        $with! {
            /// Blocks.
            [] layers: Layers, Grows::Depth;
            /// Units of the residual stream.
            [] hidden: Hidden, Grows::Width(Hidden::NAME);
            /// Units of the feed-forward layer.
            [] ffn: Ffn, Grows::Width(Ffn::NAME);
            /// Attention heads; independent of `hidden`.
            [] heads: Heads, Grows::Heads { number: Heads::NAME, units: AttnDim::NAME };
        }
    };
}

/// What changes when an axis grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grows {
    /// The number of blocks.
    Depth,
    /// The axis of this name in the tensors.
    Width(&'static str),
    /// Whole heads: the axis `units` in the tensors has `head_dim` units a head. Errors call the heads `number`.
    Heads {
        /// The name of the heads in errors.
        number: &'static str,
        /// The name of the axis in the tensors.
        units: &'static str,
    },
}

macro_rules! define {
    ($($(#[$doc:meta])* [$($serde:tt)*] $key:ident: $axis:ident, $grows:expr;)*) => {
        /// An axis along which models grow: a row of [`growing_axes!`](crate::growing_axes).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum GrowingAxis {
            $($(#[$doc])* $axis,)*
        }

        impl GrowingAxis {
            /// All of them, in the order of the table.
            pub const ALL: &'static [GrowingAxis] = &[$(GrowingAxis::$axis),*];

            /// Its key in configurations and files, and its name for people.
            pub const fn key(self) -> &'static str {
                match self {
                    $(GrowingAxis::$axis => stringify!($key),)*
                }
            }

            /// What changes when it grows.
            pub const fn grows(self) -> Grows {
                match self {
                    $(GrowingAxis::$axis => $grows,)*
                }
            }
        }

        /// The size of every growing axis of a model at one stage; 0 for an axis that its family does not have.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Sizes {
            $($(#[$doc])* #[serde($($serde)*)] pub $key: usize,)*
        }

        impl Sizes {
            /// A model without any axis: what [`sizes!`](crate::sizes!) starts from.
            pub const NONE: Sizes = Sizes { $($key: 0),* };

            /// The sizes that a function gives each axis.
            pub fn from_fn(size: impl Fn(GrowingAxis) -> usize) -> Self {
                Sizes { $($key: size(GrowingAxis::$axis)),* }
            }

            /// The size of an axis.
            pub const fn get(&self, axis: GrowingAxis) -> usize {
                match axis {
                    $(GrowingAxis::$axis => self.$key,)*
                }
            }

            /// The same sizes but for one axis.
            #[must_use]
            pub const fn with(mut self, axis: GrowingAxis, size: usize) -> Self {
                match axis {
                    $(GrowingAxis::$axis => self.$key = size,)*
                }
                self
            }
        }
    };
}
growing_axes!(define);

/// [`Sizes`](crate::sizes::Sizes) by their keys, such as `sizes! { layers: 2, hidden: 8, ffn: 12, heads: 2 }`; 0 for axes
/// that are left out. Unlike a struct literal it stays valid when an axis is added.
#[macro_export]
macro_rules! sizes {
    (@size $key:ident) => { $key };
    (@size $key:ident $size:expr) => { $size };
    ($($key:ident $(: $size:expr)?),+ $(,)?) => {{
        let mut sizes = $crate::sizes::Sizes::NONE;
        $(sizes.$key = $crate::sizes!(@size $key $($size)?);)+
        sizes
    }};
}

/// Whether a size is left out in files: its family has no such axis.
#[allow(dead_code, reason = "for rows of axes that some families lack")]
fn is_absent(size: &usize) -> bool {
    *size == 0
}

impl GrowingAxis {
    /// The axes that any of these models has, in the order of the table.
    pub fn of<'a>(models: impl IntoIterator<Item = &'a Sizes> + Clone) -> Vec<GrowingAxis> {
        let present = |axis: &GrowingAxis| models.clone().into_iter().any(|sizes| sizes.get(*axis) > 0);
        GrowingAxis::ALL.iter().copied().filter(present).collect()
    }

    /// The name of the axis in the tensors and how many of its units this size is; none for depth.
    pub fn units(self, size: usize, head_dim: usize) -> Option<(&'static str, u128)> {
        match self.grows() {
            Grows::Depth => None,
            Grows::Width(name) => Some((name, size as u128)),
            Grows::Heads { units, .. } => Some((units, size as u128 * head_dim as u128)),
        }
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (axis, size)) in self.iter().enumerate() {
            f.write_str(if at > 0 { ", " } else { "" })?;
            match axis.grows() {
                Grows::Width(_) => write!(f, "{} {size}", axis.key())?,
                Grows::Depth | Grows::Heads { .. } => write!(f, "{size} {}", axis.key())?,
            }
        }
        Ok(())
    }
}

impl Sizes {
    /// The axes that the model has, with their sizes.
    pub fn iter(self) -> impl Iterator<Item = (GrowingAxis, usize)> {
        GrowingAxis::ALL.iter().map(move |&axis| (axis, self.get(axis))).filter(|(_, size)| *size > 0)
    }

    /// The axes whose size differs in `to`, with the size here and there.
    pub fn changes(self, to: Sizes) -> impl Iterator<Item = (GrowingAxis, usize, usize)> {
        let both = GrowingAxis::ALL.iter().map(move |&axis| (axis, self.get(axis), to.get(axis)));
        both.filter(|(_, from, to)| from != to)
    }

    /// The changes to `to` for people, such as `layers 1 → 2, ffn 12 → 16`; none where nothing changes.
    pub fn changes_in_words(self, to: Sizes) -> Option<String> {
        let words = |(axis, from, to): (GrowingAxis, usize, usize)| format!("{} {from} → {to}", axis.key());
        let words: Vec<String> = self.changes(to).map(words).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }

    /// The axes of the tensors that grow, with their sizes.
    pub fn tensor_axes(self, head_dim: usize) -> impl Iterator<Item = AxisInfo> {
        let info = move |(axis, size): (GrowingAxis, usize)| {
            let (name, units) = axis.units(size, head_dim)?;
            Some(AxisInfo { name, grows_as: name, size: usize::try_from(units).unwrap_or(usize::MAX) })
        };
        self.iter().filter_map(info)
    }

    /// The residual stream's axis.
    pub fn hidden(&self) -> Hidden {
        Hidden(self.hidden)
    }

    /// The feed-forward layer's axis.
    pub fn ffn(&self) -> Ffn {
        Ffn(self.ffn)
    }

    /// The axis of all heads side by side; of a size that nothing can have where a file's sizes multiply to more.
    pub fn inner(&self, head_dim: HeadDim) -> AttnDim {
        AttnDim(self.heads.saturating_mul(head_dim.0))
    }

    /// Refuses a size of 0 for one of a family's `axes`, and any size for another axis.
    ///
    /// # Errors
    /// [`Error::Zero`] or [`Error::Value`] with the key of the first axis that is wrong.
    pub fn check(&self, axes: &[GrowingAxis]) -> Result<()> {
        for &axis in GrowingAxis::ALL {
            match (axes.contains(&axis), self.get(axis)) {
                (true, 0) => return Err(Error::Zero { what: axis.key() }),
                (false, size @ 1..) => {
                    let expected = "none: this family has no such axis";
                    return Err(Error::Value { what: axis.key(), expected, got: size as f64 });
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Refuses the first size that is 0, by its name.
pub(crate) fn not_zero(sizes: &[(&'static str, usize)]) -> Result<()> {
    match sizes.iter().find(|(_, size)| *size == 0) {
        Some(&(what, _)) => Err(Error::Zero { what }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = sizes! { layers: 2, hidden: 6, ffn: 9, heads: 3 };
    const AXES: &[GrowingAxis] =
        &[GrowingAxis::Layers, GrowingAxis::Hidden, GrowingAxis::Ffn, GrowingAxis::Heads];

    /// A table of its own, with an axis that some families lack.
    #[allow(dead_code, reason = "the test looks at files only")]
    mod optional {
        use super::super::*;

        define! {
            /// Attention heads.
            [] heads: Heads, Grows::Heads { number: Heads::NAME, units: AttnDim::NAME };
            /// Heads of keys and values.
            [default, skip_serializing_if = "is_absent"]
            kv_heads: KvHeads, Grows::Heads { number: "KvHeads", units: "KvDim" };
        }
    }

    #[test]
    fn a_row_more_is_a_key_more_and_an_absent_axis_has_none() {
        let with = |kv_heads| optional::Sizes { heads: 4, kv_heads };
        for (sizes, text) in [(with(2), r#"{"heads":4,"kv_heads":2}"#), (with(0), r#"{"heads":4}"#)] {
            assert_eq!(serde_json::to_string(&sizes).unwrap(), text);
            assert_eq!(serde_json::from_str::<optional::Sizes>(text).unwrap(), sizes);
        }
        assert!(serde_json::from_str::<optional::Sizes>(r#"{"kv_heads":2}"#).is_err());
        let [_, added] = optional::GrowingAxis::ALL else { panic!("two rows") };
        assert_eq!((added.key(), with(0).with(*added, 3).get(*added)), ("kv_heads", 3));
    }

    #[test]
    fn files_hold_one_object_with_a_key_for_each_axis_and_no_other() {
        let text = r#"{"layers":2,"hidden":6,"ffn":9,"heads":3}"#;
        assert_eq!(serde_json::to_string(&SIZES).unwrap(), text);
        assert_eq!(serde_json::from_str::<Sizes>(text).unwrap(), SIZES);
        for (key, changed) in [("ffn", r#""f":9"#), ("heads", r#""heads":3,"x":1"#)] {
            let text = text.replace(&format!(r#""{key}":{}"#, if key == "ffn" { 9 } else { 3 }), changed);
            assert!(serde_json::from_str::<Sizes>(&text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Sizes>(r#"{"layers":2,"hidden":6,"heads":3}"#).is_err());
    }

    #[test]
    fn people_read_widths_after_their_name_and_counts_before_it() {
        assert_eq!(SIZES.to_string(), "2 layers, hidden 6, ffn 9, 3 heads");
        assert_eq!(Sizes { ffn: 0, ..SIZES }.to_string(), "2 layers, hidden 6, 3 heads");
        let to = Sizes { layers: 4, ffn: 12, ..SIZES };
        assert_eq!(SIZES.changes_in_words(to).unwrap(), "layers 2 → 4, ffn 9 → 12");
        assert_eq!(SIZES.changes_in_words(SIZES), None);
    }

    #[test]
    fn a_family_needs_its_axes_and_has_no_others() {
        let refused = |sizes: Sizes, axes| sizes.check(axes).unwrap_err().to_string();
        assert!(SIZES.check(AXES).is_ok());
        assert_eq!(refused(Sizes { ffn: 0, ..SIZES }, AXES), "ffn must be at least 1, got 0");
        let without_heads = &[GrowingAxis::Layers, GrowingAxis::Hidden, GrowingAxis::Ffn];
        assert!(Sizes { heads: 0, ..SIZES }.check(without_heads).is_ok());
        let expected = "heads: expected none: this family has no such axis, got 3";
        assert_eq!(refused(SIZES, without_heads), expected);
    }

    #[test]
    fn heads_are_units_of_their_size_in_the_tensors() {
        let axes: Vec<(&str, usize)> = SIZES.tensor_axes(4).map(|axis| (axis.name, axis.size)).collect();
        assert_eq!(axes, [("Hidden", 6), ("Ffn", 9), ("Inner", 12)]);
        let huge = Sizes { heads: usize::MAX, ..SIZES };
        assert_eq!(huge.tensor_axes(4).last().unwrap().size, huge.inner(HeadDim(4)).0);
    }
}
