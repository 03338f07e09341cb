//! The floating point types that files store: read as f32, which holds each of them, and rounded from it.

use half::{bf16, f16};
use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// How the numbers of a tensor are stored in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoredType {
    /// 32 bits.
    #[default]
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    BF16,
}

impl StoredType {
    /// All of them.
    pub const ALL: [StoredType; 3] = [StoredType::F32, StoredType::F16, StoredType::BF16];

    /// As users and configurations of this project spell it.
    pub fn name(self) -> &'static str {
        match self {
            StoredType::F32 => "f32",
            StoredType::F16 => "f16",
            StoredType::BF16 => "bf16",
        }
    }

    /// As PyTorch spells it.
    pub fn torch_name(self) -> &'static str {
        match self {
            StoredType::F32 => "float32",
            StoredType::F16 => "float16",
            StoredType::BF16 => "bfloat16",
        }
    }

    /// Bytes of one number.
    pub(super) fn size(self) -> usize {
        match self {
            StoredType::F32 => 4,
            StoredType::F16 | StoredType::BF16 => 2,
        }
    }

    /// The type in a file's header, where it is one of these.
    pub(super) fn of(dtype: Dtype) -> Option<Self> {
        StoredType::ALL.into_iter().find(|stored| stored.dtype() == dtype)
    }

    pub(super) fn dtype(self) -> Dtype {
        match self {
            StoredType::F32 => Dtype::F32,
            StoredType::F16 => Dtype::F16,
            StoredType::BF16 => Dtype::BF16,
        }
    }

    /// The nearest number of this type, ties to even.
    pub(super) fn rounded(self, value: f32) -> f32 {
        match self {
            StoredType::F32 => value,
            StoredType::F16 => f16::from_f32(value).to_f32(),
            StoredType::BF16 => bf16::from_f32(value).to_f32(),
        }
    }

    /// Adds the bytes of a number, rounded.
    pub(super) fn push(self, value: f32, out: &mut Vec<u8>) {
        match self {
            StoredType::F32 => out.extend(value.to_le_bytes()),
            StoredType::F16 => out.extend(f16::from_f32(value).to_le_bytes()),
            StoredType::BF16 => out.extend(bf16::from_f32(value).to_le_bytes()),
        }
    }
}

impl fmt::Display for StoredType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for StoredType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = StoredType::ALL.into_iter().find(|stored| stored.name() == text);
        found.ok_or_else(|| format!("expected f32, f16 or bf16, got {text:?}"))
    }
}

/// Floating point numbers in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floats<'f> {
    pub(super) stored: StoredType,
    pub(super) bytes: &'f [u8],
}

impl<'f> Floats<'f> {
    /// The values in order. Bytes are converted one by one: a file promises no alignment.
    pub(super) fn values(self) -> impl Iterator<Item = f32> + use<'f> {
        // All but one of the three are empty: one iterator type for three types of numbers.
        let of = |stored| if self.stored == stored { self.bytes } else { &[] };
        let wide = of(StoredType::F32).as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
        let half = of(StoredType::F16).as_chunks().0.iter().map(|&bytes| f16::from_le_bytes(bytes).to_f32());
        let brain = of(StoredType::BF16).as_chunks().0.iter();
        wide.chain(half).chain(brain.map(|&bytes| bf16::from_le_bytes(bytes).to_f32()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(stored: StoredType, bits: u16) -> f32 {
        Floats { stored, bytes: &bits.to_le_bytes() }.values().next().expect("a value")
    }

    #[test]
    fn every_half_reads_as_the_number_that_its_fields_define() {
        for bits in 0..=u16::MAX {
            let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff) / 1024.0);
            let magnitude = match exponent {
                0 => fraction * 2f64.powi(-14),
                31 if fraction == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                _ => (1.0 + fraction) * 2f64.powi(exponent - 15),
            };
            let got = read(StoredType::F16, bits);
            assert_eq!(got.is_sign_negative(), bits >> 15 == 1, "{bits:#x}");
            let got = f64::from(got.abs());
            assert!(got == magnitude || got.is_nan() && magnitude.is_nan(), "{bits:#x}: {got} {magnitude}");
        }
    }

    #[test]
    fn a_bfloat16_reads_as_its_upper_half() {
        let got = [0x3f80, 0xc040, 0x0001].map(|bits| read(StoredType::BF16, bits));
        assert_eq!(got, [1.0, -3.0, f32::from_bits(0x1_0000)]);
    }

    #[test]
    fn whatever_was_read_is_written_in_the_same_bytes() {
        for stored in [StoredType::F16, StoredType::BF16] {
            for bits in (0..=u16::MAX).filter(|&bits| read(stored, bits).is_finite()) {
                let mut bytes = Vec::new();
                stored.push(read(stored, bits), &mut bytes);
                assert_eq!(bytes, bits.to_le_bytes(), "{stored} {bits:#x}");
            }
        }
        assert!(
            StoredType::F16.rounded(70000.0).is_infinite() && StoredType::BF16.rounded(70000.0).is_finite()
        );
    }
}
