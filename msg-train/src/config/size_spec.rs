//! Sizes as a user types them: `hidden=12,layers=3`, what is left out stays.

use crate::{
    config::hint,
    error::{Error, Result},
};
use msg_models::{GrowingAxis, Sizes, sizes::LARGEST};
use std::{collections::BTreeMap, str::FromStr};

/// New sizes for some of the axes that grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target(BTreeMap<GrowingAxis, usize>);

/// The option's name in refusals.
const FILE: &str = "--to";

fn refused(key: &str, expected: impl Into<String>, got: impl Into<String>) -> Error {
    Error::Config { file: FILE.into(), key: key.into(), expected: expected.into(), got: got.into() }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut target = Target::default();
        for part in text.split(',') {
            let (key, value) =
                part.split_once('=').ok_or_else(|| refused("an entry", "AXIS=SIZE", format!("{part:?}")))?;
            let key = key.trim();
            let axis = GrowingAxis::ALL.iter().find(|axis| axis.key() == key);
            let axis = axis.ok_or_else(|| {
                let keys: Vec<&str> = GrowingAxis::ALL.iter().map(|axis| axis.key()).collect();
                Error::UnknownKey { file: FILE.into(), key: key.to_owned(), hint: hint(key, &keys) }
            })?;
            let size = value.trim().parse().ok().filter(|size| (1..=LARGEST).contains(size));
            let size = size.ok_or_else(|| refused(key, format!("1 to {LARGEST}"), value.trim()))?;
            if let Some(first) = target.0.insert(*axis, size) {
                return Err(refused(key, "one size", format!("{first} and {size}")));
            }
        }
        Ok(target)
    }
}

impl Target {
    /// The sizes of a model that has `from` now.
    ///
    /// # Errors
    /// [`Error::Config`] where an axis would shrink or none grows.
    pub fn of(&self, from: Sizes) -> Result<Sizes> {
        let sizes = Sizes::from_fn(|axis| self.0.get(&axis).copied().unwrap_or(from.get(axis)));
        for (axis, old, new) in from.changes(sizes) {
            if new < old {
                return Err(refused(
                    axis.key(),
                    format!("at least {old}, the present size"),
                    new.to_string(),
                ));
            }
        }
        if sizes == from {
            return Err(refused("sizes", "an axis that grows", "the present sizes"));
        }
        Ok(sizes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use msg_models::sizes;

    const FROM: Sizes = sizes! { layers: 2, hidden: 6, ffn: 8, heads: 3 };

    #[test]
    fn what_is_left_out_stays() {
        let target: Target = "hidden=9, heads = 4".parse().unwrap();
        assert_eq!(target.of(FROM).unwrap(), Sizes { hidden: 9, heads: 4, ..FROM });
    }

    #[test]
    fn what_cannot_be_is_refused_in_one_line() {
        for (text, expected) in [
            ("hiden=9", "--to: unknown key `hiden`: did you mean `hidden`?"),
            ("hidden", "--to: an entry: expected AXIS=SIZE, got \"hidden\""),
            ("", "--to: an entry: expected AXIS=SIZE, got \"\""),
            ("heads=0", "--to: heads: expected 1 to 16777216, got 0"),
            ("ffn=99999999", "--to: ffn: expected 1 to 16777216, got 99999999"),
            ("ffn=-1", "--to: ffn: expected 1 to 16777216, got -1"),
            ("ffn=9,ffn=10", "--to: ffn: expected one size, got 9 and 10"),
            ("hidden=9,layers=1", "--to: layers: expected at least 2, the present size, got 1"),
            ("hidden=6", "--to: sizes: expected an axis that grows, got the present sizes"),
        ] {
            let refused = text.parse::<Target>().and_then(|target| target.of(FROM)).unwrap_err().to_string();
            assert_eq!(refused, expected);
        }
    }
}
