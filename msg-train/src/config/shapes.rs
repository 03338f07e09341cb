//! The shapes of the learning rate after its warm-up, as one list.
//!
//! A shape is a function of the place in the span from the end of the warm-up (or from a rewind) to the last step: it
//! says how much of the way from the final rate up to the peak the rate has there, 1 at first and 0 at the end. To
//! add one: such a function, and a line in the list with its name in configurations and the keys of `[lr]` that it
//! uses. Reading, checks, reference and rate follow the list.

use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// A key of `[lr]` that not every shape has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShapeKey {
    /// `final`, the rate at the last step; 0 by default.
    Final,
    /// `decay`, the steps of decay at the end; it has to be given.
    Decay,
}

/// A step's place in the span of a shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// Steps of the span before this one's end.
    pub elapsed: u64,
    /// Steps of the span, 1 or more.
    pub span: u64,
    /// Share of the span that decays; 0 for shapes without `decay`.
    pub decay: f64,
}

impl Place {
    /// Share of the span that is over.
    fn over(self) -> f64 {
        self.elapsed as f64 / self.span as f64
    }

    /// Share of the decay that is left: 1 before it begins, 0 at the last step.
    fn decay_left(self) -> f64 {
        let left = (self.span - self.elapsed) as f64;
        (left / (self.decay * self.span as f64)).min(1.0)
    }
}

macro_rules! shapes {
    ($($(#[doc = $doc:literal])+ $name:literal => $variant:ident: $height:ident [$($key:ident)*],)+) => {
        /// Shape of the learning rate after its warm-up.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum LrShape {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant,)+
        }

        impl LrShape {
            /// All of them.
            pub const ALL: &[LrShape] = &[$(LrShape::$variant),+];

            /// Its name in configurations.
            pub fn name(self) -> &'static str {
                match self {
                    $(LrShape::$variant => $name,)+
                }
            }

            /// The keys that it uses.
            pub fn keys(self) -> &'static [ShapeKey] {
                match self {
                    $(LrShape::$variant => &[$(ShapeKey::$key),*],)+
                }
            }

            /// The share of the way from the final rate up to the peak.
            pub fn height(self, place: Place) -> f64 {
                match self {
                    $(LrShape::$variant => $height(place),)+
                }
            }
        }
    };
}

shapes! {
    /// Half a cosine from peak to final.
    "cosine" => Cosine: cosine [Final],
    /// A line from peak to final.
    "linear" => Linear: linear [Final],
    /// Warm-up, stable, decay: the peak, then a line to final over the last `decay` steps.
    "wsd" => Wsd: wsd [Final Decay],
    /// Warm-up, stable, decay by one minus a square root: steep at first, flat at the end.
    "wsd-sqrt" => WsdSqrt: wsd_sqrt [Final Decay],
    /// The peak throughout.
    "constant" => Constant: constant [],
}

fn cosine(place: Place) -> f64 {
    0.5 * (1.0 + (PI * place.over()).cos())
}

fn linear(place: Place) -> f64 {
    1.0 - place.over()
}

fn wsd(place: Place) -> f64 {
    place.decay_left()
}

/// Hägele et al. 2024, arXiv 2405.18392, equation 2: after n of N steps of decay, 1 - sqrt(n / N).
fn wsd_sqrt(place: Place) -> f64 {
    1.0 - (1.0 - place.decay_left()).sqrt()
}

fn constant(_: Place) -> f64 {
    1.0
}

impl Default for LrShape {
    /// The first of the list.
    fn default() -> Self {
        Self::ALL[0]
    }
}

impl LrShape {
    /// Whether it uses a key.
    pub fn uses(self, key: ShapeKey) -> bool {
        self.keys().contains(&key)
    }

    /// The shapes that use a key, as a refusal names them.
    pub(super) fn with(key: ShapeKey) -> String {
        let names =
            Self::ALL.iter().filter(|shape| shape.uses(key)).map(|shape| format!("{:?}", shape.name()));
        names.collect::<Vec<_>>().join(" or ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_falls_from_one_to_zero_and_never_rises() {
        for &shape in LrShape::ALL.iter().filter(|shape| shape.uses(ShapeKey::Final)) {
            let decay = if shape.uses(ShapeKey::Decay) { 0.4 } else { 0.0 };
            let heights: Vec<f64> =
                (0..=50).map(|elapsed| shape.height(Place { elapsed, span: 50, decay })).collect();
            assert_eq!((heights[0], heights[50]), (1.0, 0.0), "{shape:?}");
            assert!(heights.windows(2).all(|pair| pair[1] <= pair[0]), "{shape:?}: {heights:?}");
        }
    }

    #[test]
    fn the_square_root_decay_has_its_published_values() {
        // The last 100 of 400 steps decay.
        let height = |elapsed| LrShape::WsdSqrt.height(Place { elapsed, span: 400, decay: 0.25 });
        for (elapsed, expected) in
            [(0, 1.0), (300, 1.0), (301, 0.9), (325, 0.5), (364, 0.2), (381, 0.1), (400, 0.0)]
        {
            let got: f64 = height(elapsed);
            assert!((got - expected).abs() <= 1e-12, "{elapsed}: expected {expected}, got {got}");
        }
    }

    #[test]
    fn names_are_those_that_serde_reads() {
        for &shape in LrShape::ALL {
            let read: LrShape = serde_json::from_value(shape.name().into()).unwrap();
            assert_eq!((read, serde_json::json!(shape)), (shape, shape.name().into()));
        }
        assert_eq!(LrShape::with(ShapeKey::Decay), "\"wsd\" or \"wsd-sqrt\"");
    }
}
