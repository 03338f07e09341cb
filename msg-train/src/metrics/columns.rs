//! The numbers of a run, one row each: what a number is called, its unit, and who shows it how.
//!
//! Files, displays and the report iterate over the rows, so a row is all that a new number takes, but for the line that
//! measures it: the field of the same name, which the compiler then misses where the record is made (a [`Step`] in
//! `step/trainer.rs`, a [`StepTiming`] in `run/clock.rs`). Its type is an `Option`: lines from before the number
//! existed lack it.

use super::number::{self, Number, OnFile};
use crate::text::quantity::{count, duration};
use serde::{Deserialize, Deserializer, Serialize, de::Error};

/// A number of a record `R`.
#[derive(Debug)]
pub struct Column<R: 'static> {
    /// Its key in the file of records.
    pub key: &'static str,
    /// Its name for people.
    pub name: &'static str,
    /// Its unit; empty for a pure number.
    pub unit: &'static str,
    /// How it is written for people.
    pub format: Format,
    /// Its column in the lines on the console.
    pub console: Option<Cell>,
    /// Its tag in TensorBoard.
    pub tag: Option<&'static str>,
    /// What the report draws of it.
    pub figure: Figure,
    /// The number; none for a record that lacks it.
    pub value: fn(&R) -> Option<f64>,
}

impl<R> Column<R> {
    /// What its axis in the plots of the losses shows, and the axis' name in full; none for a number without one.
    pub fn axis(&self) -> Option<(Quantity, &'static str)> {
        match self.figure {
            Figure::Axis(quantity, name) => Some((quantity, name)),
            _ => None,
        }
    }

    /// Its name and its unit.
    pub fn title(&self) -> String {
        if self.unit.is_empty() { self.name.to_owned() } else { format!("{} ({})", self.name, self.unit) }
    }
}

/// A column on the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The column's head.
    pub head: &'static str,
    /// Its width in characters.
    pub width: usize,
}

/// How a number is written for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// With this many decimals.
    Fixed(usize),
    /// With a power of ten and this many decimals.
    Exponent(usize),
    /// A share from 0 to 1 as per cent, with one decimal.
    Percent,
    /// With three digits and an SI prefix.
    Count,
    /// Seconds as days, hours, minutes and seconds.
    Duration,
}

impl Format {
    /// The number as text.
    pub fn text(self, value: f64) -> String {
        match self {
            Format::Fixed(decimals) => format!("{value:.decimals$}"),
            Format::Exponent(decimals) => format!("{value:.decimals$e}"),
            Format::Percent => format!("{:.1} %", value * 100.0),
            Format::Count => count(value),
            Format::Duration => duration(value),
        }
    }
}

/// What the report draws of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// No plot of its own.
    Nothing,
    /// The axis of a plot of the losses; the words name it in full.
    Axis(Quantity, &'static str),
    /// A curve over the steps that follows from the plan, drawn exactly, from 0 to at least `top`.
    Schedule {
        /// What the axis shows.
        quantity: Quantity,
        /// The least upper end of the axis.
        top: Option<u32>,
    },
    /// A curve over the steps that is measured, drawn by means of consecutive steps.
    Measured(Quantity),
}

/// What an axis of a plot shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Whole things, in thousands and millions where they are many.
    Count,
    /// Numbers with a power of ten taken out.
    Power,
    /// Seconds, in minutes or hours where they are many.
    Time,
    /// Numbers as they are, equal factors as equal lengths. For a range above 0.
    Log,
    /// Numbers as they are.
    Plain,
}

/// Defines a record of numbers and the table of its columns. Around the numbers a line has other fields; all fields
/// stand in the file in this order.
macro_rules! columns {
    (
        $(#[$doc:meta])* $record:ident, $(#[$table_doc:meta])* $table:ident;
        before { $($(#[$before_doc:meta])* $before:ident: $before_type:ty,)* }
        numbers { $($(#[$number_doc:meta])* $number:ident: $type:ty { $($shown:tt)* })* }
        after { $($(#[$after_doc:meta])* $after:ident: $after_type:ty,)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
        pub struct $record {
            $($(#[$before_doc])* pub $before: $before_type,)*
            $(
                $(#[$number_doc])*
                #[serde(serialize_with = "number::serialize", skip_serializing_if = "number::is_absent")]
                pub $number: $type,
            )*
            $($(#[$after_doc])* pub $after: $after_type,)*
        }

        impl<'de> Deserialize<'de> for $record {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Line {
                    $($before: $before_type,)*
                    $($number: Option<OnFile<<$type as Number>::Plain>>,)*
                    $($after: $after_type,)*
                }
                let line = Line::deserialize(deserializer)?;
                Ok($record {
                    $($before: line.$before,)*
                    $(
                        $number: Number::found(line.$number.map(|OnFile(number)| number))
                            .ok_or_else(|| D::Error::missing_field(stringify!($number)))?,
                    )*
                    $($after: line.$after,)*
                })
            }
        }

        $(#[$table_doc])*
        pub const $table: &[Column<$record>] = &[$(Column {
            key: stringify!($number),
            value: |record| number::value(record.$number),
            $($shown)*
        },)*];
    };
}

columns! {
    /// An optimizer step: a line of `metrics.jsonl`.
    Step,
    /// The numbers of a step.
    STEP_COLUMNS;
    before {
        /// From 1.
        step: u64,
        /// The stage's number, from 1.
        stage: usize,
    }
    numbers {
        /// Training loss over the whole step, in nats.
        loss: f32 {
            name: "training loss", unit: "nats", format: Format::Fixed(4),
            console: Some(Cell { head: "loss", width: 8 }), tag: Some("loss/train"), figure: Figure::Nothing,
        }
        /// Learning rate that the update used.
        lr: f64 {
            name: "learning rate", unit: "", format: Format::Exponent(2),
            console: Some(Cell { head: "lr", width: 9 }), tag: Some("schedule/lr"),
            figure: Figure::Schedule { quantity: Quantity::Power, top: None },
        }
        /// Global norm of the gradient before clipping.
        grad_norm: f32 {
            name: "gradient norm", unit: "", format: Format::Fixed(3),
            console: Some(Cell { head: "norm", width: 8 }), tag: Some("grad_norm"),
            figure: Figure::Measured(Quantity::Plain),
        }
        /// Smallest mask value in force; 1 where nothing ramps.
        mask: f32 {
            name: "mask value", unit: "", format: Format::Fixed(3),
            console: Some(Cell { head: "mask", width: 6 }), tag: Some("schedule/mask"),
            figure: Figure::Schedule { quantity: Quantity::Plain, top: Some(1) },
        }
        /// Tokens consumed since the run's start, this step's included.
        tokens: u64 {
            name: "tokens", unit: "", format: Format::Count, console: None, tag: None,
            figure: Figure::Axis(Quantity::Count, "tokens"),
        }
        /// Floating-point operations spent since the run's start, this step's included.
        flops: f64 {
            name: "FLOPs", unit: "", format: Format::Count, console: None, tag: None,
            figure: Figure::Axis(Quantity::Power, "floating-point operations"),
        }
    }
    after {
        /// Whether the guard left the update out.
        skipped: bool,
    }
}

columns! {
    /// Clock readings of a step: a line of `timing.jsonl`.
    StepTiming,
    /// The clock readings of a step.
    TIMING_COLUMNS;
    before {
        /// From 1.
        step: u64,
    }
    numbers {
        /// Seconds of training since the run's start, to the end of this step. A resumed run counts on from
        /// the checkpoint's step, so pauses and lost steps are not in it.
        seconds: f64 {
            name: "training time", unit: "s", format: Format::Duration, console: None, tag: None,
            figure: Figure::Axis(Quantity::Time, "training time"),
        }
        /// Seconds that the step took.
        step_seconds: f64 {
            name: "step time", unit: "s", format: Format::Fixed(3), console: None, tag: None,
            figure: Figure::Nothing,
        }
        /// Seconds of these that it waited for data.
        data_seconds: f64 {
            name: "time spent waiting for data", unit: "s", format: Format::Fixed(3), console: None, tag: None,
            figure: Figure::Nothing,
        }
        /// Tokens a second in this step.
        tokens_per_second: f64 {
            name: "speed", unit: "tokens/s", format: Format::Count,
            console: Some(Cell { head: "tok/s", width: 7 }), tag: Some("tokens_per_second"),
            figure: Figure::Nothing,
        }
    }
    after {}
}

/// An evaluation on the held-out split.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eval {
    /// Steps made when it was done.
    pub step: u64,
    /// The stage's number, from 1.
    pub stage: usize,
    /// Held-out loss, in nats.
    #[serde(with = "number")]
    pub loss: f64,
    /// e to the loss per label. BERT: of the masked positions alone.
    #[serde(with = "number")]
    pub perplexity: f64,
    /// Shares of right answers (BERT).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Heads>,
}

/// Shares of right answers, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heads {
    /// Of masked tokens.
    pub mlm: f64,
    /// Of sentence pairs.
    pub nsp: f64,
}

/// The numbers of an evaluation.
pub const EVAL_COLUMNS: &[Column<Eval>] = &[
    Column {
        key: "loss",
        name: "validation loss",
        unit: "nats",
        format: Format::Fixed(4),
        console: Some(Cell { head: "val", width: 8 }),
        tag: Some("loss/val"),
        figure: Figure::Nothing,
        value: |eval| Some(eval.loss),
    },
    Column {
        key: "perplexity",
        name: "perplexity",
        unit: "",
        format: Format::Fixed(2),
        console: None,
        tag: Some("val/perplexity"),
        figure: Figure::Nothing,
        value: |eval| Some(eval.perplexity),
    },
    Column {
        key: "accuracy.mlm",
        name: "MLM",
        unit: "",
        format: Format::Percent,
        console: None,
        tag: Some("val/mlm_accuracy"),
        figure: Figure::Nothing,
        value: |eval| eval.accuracy.map(|heads| heads.mlm),
    },
    Column {
        key: "accuracy.nsp",
        name: "NSP",
        unit: "",
        format: Format::Percent,
        console: None,
        tag: Some("val/nsp_accuracy"),
        figure: Figure::Nothing,
        value: |eval| eval.accuracy.map(|heads| heads.nsp),
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    columns! {
        /// A step of a later version.
        Later, LATER;
        before { step: u64, }
        numbers {
            loss: f32 {
                name: "loss", unit: "", format: Format::Count, console: None, tag: None, figure: Figure::Nothing,
            }
            norm: Option<f32> {
                name: "norm", unit: "", format: Format::Count, console: None, tag: None, figure: Figure::Nothing,
            }
        }
        after { skipped: bool, }
    }

    fn read(line: &str) -> Result<Later, String> {
        serde_json::from_str(line).map_err(|error| error.to_string())
    }

    #[test]
    fn a_line_from_before_a_number_existed_lacks_it_and_stays_as_it_is() {
        let line = r#"{"step":1,"loss":0.1,"skipped":false}"#;
        let before = read(line).unwrap();
        assert_eq!(before, Later { step: 1, loss: 0.1, norm: None, skipped: false });
        assert_eq!(serde_json::to_string(&before).unwrap(), line);
        let line = r#"{"step":1,"loss":"NaN","norm":"Infinity","skipped":true}"#;
        let now = read(line).unwrap();
        assert_eq!((now.norm, serde_json::to_string(&now).unwrap().as_str()), (Some(f32::INFINITY), line));
        let values = |later: &Later| LATER.iter().map(|column| (column.value)(later)).collect::<Vec<_>>();
        assert_eq!(values(&before), [Some(f64::from(0.1_f32)), None]);
    }

    #[test]
    fn a_number_that_all_lines_have_and_a_key_that_none_has_are_refused_by_name() {
        let without = read(r#"{"step":1,"norm":1.0,"skipped":false}"#).unwrap_err();
        assert!(without.starts_with("missing field `loss`"), "{without}");
        let unknown = read(r#"{"step":1,"loss":1.0,"x":1,"skipped":false}"#).unwrap_err();
        assert!(unknown.starts_with("unknown field `x`"), "{unknown}");
    }

    #[test]
    fn every_number_has_a_tag_and_a_column_of_its_own() {
        let tags =
            STEP_COLUMNS.iter().map(|column| column.tag).chain(EVAL_COLUMNS.iter().map(|column| column.tag));
        let tags = tags.chain(TIMING_COLUMNS.iter().map(|column| column.tag)).flatten();
        let cells = STEP_COLUMNS
            .iter()
            .map(|column| column.console)
            .chain(EVAL_COLUMNS.iter().map(|column| column.console));
        let cells = cells.chain(TIMING_COLUMNS.iter().map(|column| column.console)).flatten();
        for cell in cells.clone() {
            assert!(cell.head.len() <= cell.width, "{cell:?}");
        }
        for names in [tags.collect::<Vec<_>>(), cells.map(|cell| cell.head).collect()] {
            let once: BTreeSet<&str> = names.iter().copied().collect();
            assert_eq!(once.len(), names.len(), "{names:?}");
        }
    }
}
