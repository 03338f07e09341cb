//! Values of options that are more than a word: sizes of files, lists of ids, rules.

use clap::{Args as ClapArgs, ValueEnum};
use msg_models::{DepthInit, WidthInit};
use msg_train::{Error, interop};
use std::{path::PathBuf, str::FromStr};

/// What a parity receipt is taken on.
#[derive(Debug, ClapArgs)]
pub struct Given {
    /// Takes the parity receipt on the beginning of this text; by default on the run's held-out text, or random ids.
    #[arg(long, value_name = "FILE", conflicts_with = "ids")]
    pub text: Option<PathBuf>,
    /// Takes the parity receipt on these token ids, separated by commas.
    #[arg(long, value_name = "ID,..")]
    pub ids: Option<String>,
}

impl Given {
    /// What was given.
    ///
    /// # Errors
    /// For ids that are no numbers.
    pub fn parsed(&self) -> Result<interop::Given, Error> {
        let Given { text, ids } = self;
        match (text, ids) {
            (Some(path), _) => Ok(interop::Given::Text(path.clone())),
            (None, Some(ids)) => {
                let id = |word: &str| {
                    word.trim().parse().map_err(|_| Error::Argument {
                        name: "ids",
                        expected: "token ids separated by commas".into(),
                        got: format!("{word:?}"),
                    })
                };
                Ok(interop::Given::Ids(ids.split(',').map(id).collect::<Result<_, _>>()?))
            }
            (None, None) => Ok(interop::Given::Nothing),
        }
    }
}

/// A number of bytes: 5GB, 500MB, 100KB or plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse =
            || format!("expected a number of at least 1 with KB, MB, GB or nothing after it, got {text:?}");
        let units = [("KB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000)];
        let (number, factor) = units
            .iter()
            .find_map(|&(unit, factor)| Some((text.strip_suffix(unit)?, factor)))
            .unwrap_or((text, 1));
        let number: u64 = number.trim().parse().map_err(|_| refuse())?;
        number.checked_mul(factor).filter(|bytes| *bytes > 0).map(Bytes).ok_or_else(refuse)
    }
}

/// A configuration to start from.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Starter {
    /// Predicts the next token.
    Gpt,
    /// Fills masked tokens in.
    Bert,
}

impl Starter {
    /// Its text.
    pub fn text(self) -> &'static str {
        match self {
            Starter::Gpt => include_str!("starter/gpt.toml"),
            Starter::Bert => include_str!("starter/bert.toml"),
        }
    }
}

/// What new units start from.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Units {
    /// Normal with standard deviation 0.02.
    Normal,
    /// Zeros.
    Zero,
    /// Copies of the old units in turn.
    Copy,
    /// Normal with the standard deviation of the old tensor.
    MatchedStd,
}

impl From<Units> for WidthInit {
    fn from(units: Units) -> Self {
        match units {
            Units::Normal => WidthInit::Normal,
            Units::Zero => WidthInit::Zero,
            Units::Copy => WidthInit::Copy,
            Units::MatchedStd => WidthInit::MatchedStd,
        }
    }
}

/// Where new layers stand and what they start from.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum NewLayers {
    /// The old stack again, on top.
    Stack,
    /// Each old layer's copies right after it.
    Interpolate,
    /// Fresh layers on top.
    Fresh,
}

impl From<NewLayers> for DepthInit {
    fn from(layers: NewLayers) -> Self {
        match layers {
            NewLayers::Stack => DepthInit::Stack,
            NewLayers::Interpolate => DepthInit::Interpolate,
            NewLayers::Fresh => DepthInit::Fresh,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_files_are_read_with_their_units() {
        for (text, bytes) in
            [("5GB", Some(5_000_000_000)), ("12 KB", Some(12_000)), ("7", Some(7)), ("0", None)]
        {
            assert_eq!(text.parse::<Bytes>().ok().map(|bytes| bytes.0), bytes, "{text}");
        }
        for text in ["", "GB", "-1", "1TB", "99999999999999GB"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }
}
