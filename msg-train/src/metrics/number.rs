//! Numbers in files of records.
//!
//! JSON has no NaN and no infinity, and `null` would not tell one from the other: in a file they are the strings of
//! protobuf's JSON mapping.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// A type of numbers.
pub trait Plain: Copy + Serialize + for<'a> Deserialize<'a> {
    /// The nearest f64.
    fn wide(self) -> f64;

    /// A NaN or an infinity; none in a type that has neither.
    fn special(value: f32) -> Option<Self>;
}

/// The type of a field that holds a number: [`Plain`], or an `Option` of it for a number that some lines lack.
pub trait Number: Copy {
    /// The type of the number itself.
    type Plain: Plain;

    /// The number; none where it is absent.
    fn plain(self) -> Option<Self::Plain>;

    /// The field from what a line has; none for a line that lacks a number which all lines have.
    fn found(in_line: Option<Self::Plain>) -> Option<Self>;
}

macro_rules! plain {
    ($($type:ty: $wide:expr, $special:expr;)*) => {
        $(
            impl Plain for $type {
                fn wide(self) -> f64 {
                    let wide: fn($type) -> f64 = $wide;
                    wide(self)
                }

                fn special(value: f32) -> Option<Self> {
                    let special: fn(f32) -> Option<$type> = $special;
                    special(value)
                }
            }

            impl Number for $type {
                type Plain = Self;

                fn plain(self) -> Option<Self> {
                    Some(self)
                }

                fn found(in_line: Option<Self>) -> Option<Self> {
                    in_line
                }
            }
        )*
    };
}
plain! {
    f32: f64::from, Some;
    f64: |value| value, |value| Some(value.into());
    u64: |value| value as f64, |_| None;
}

impl<T: Plain> Number for Option<T> {
    type Plain = T;

    fn plain(self) -> Option<T> {
        self
    }

    fn found(in_line: Option<T>) -> Option<Self> {
        Some(in_line)
    }
}

/// The number of a field as f64; none where it is absent.
pub(super) fn value<N: Number>(number: N) -> Option<f64> {
    number.plain().map(Plain::wide)
}

/// Whether a field is left out of its line.
pub(super) fn is_absent<N: Number>(number: &N) -> bool {
    number.plain().is_none()
}

/// A number in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct OnFile<T>(pub(super) T);

impl<'a, T: Plain> Deserialize<'a> for OnFile<T> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either<T> {
            Finite(T),
            Word(String),
        }
        let word = match Either::deserialize(deserializer)? {
            Either::Finite(value) => return Ok(OnFile(value)),
            Either::Word(word) => word,
        };
        let special = match word.as_str() {
            "NaN" => T::special(f32::NAN),
            "Infinity" => T::special(f32::INFINITY),
            "-Infinity" => T::special(f32::NEG_INFINITY),
            _ => None,
        };
        special.map(OnFile).ok_or_else(|| D::Error::custom(format!("expected a number, got {word:?}")))
    }
}

/// For serde's `with`: writes a number.
pub(super) fn serialize<N: Number, S: Serializer>(number: &N, serializer: S) -> Result<S::Ok, S::Error> {
    let Some(plain) = number.plain() else { return serializer.serialize_none() };
    match plain.wide() {
        wide if wide.is_nan() => serializer.serialize_str("NaN"),
        f64::INFINITY => serializer.serialize_str("Infinity"),
        f64::NEG_INFINITY => serializer.serialize_str("-Infinity"),
        _ => plain.serialize(serializer),
    }
}

/// For serde's `with`: reads a number.
pub(super) fn deserialize<'a, T: Plain, D: Deserializer<'a>>(deserializer: D) -> Result<T, D::Error> {
    OnFile::deserialize(deserializer).map(|OnFile(number)| number)
}
