//! What happened at a step. Clock readings are in [`StepTiming`](super::StepTiming).

use super::{
    columns::{Eval, Step},
    number,
};
use msg_models::Sizes;
use serde::{Deserialize, Serialize};

/// One line of `metrics.jsonl`; the key `kind` tells which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// The run began.
    Start(Start),
    /// An optimizer step was made.
    Step(Step),
    /// The held-out split was evaluated.
    Eval(Eval),
    /// The model grew.
    Growth(Growth),
    /// A ramp ended: its mask is 1 from here on.
    RampEnd(RampEnd),
    /// The run came to its end.
    End(End),
}

impl Record {
    /// The step to which the record belongs.
    pub fn step(&self) -> u64 {
        match self {
            Record::Start(_) => 0,
            Record::Step(record) => record.step,
            Record::Eval(record) => record.step,
            Record::Growth(record) => record.step,
            Record::RampEnd(record) => record.step,
            Record::End(record) => record.step,
        }
    }
}

/// The beginning of a run, written once and not again on resume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Always 0.
    pub step: u64,
    /// The run's name.
    pub name: String,
    /// Sizes of the first stage.
    pub sizes: Sizes,
    /// Parameters of the first stage.
    pub params: u64,
}

/// What was measured on a fixed batch before and after a change that must not change the function.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Largest difference of any output.
    #[serde(with = "number")]
    pub max_dlogit: f64,
    /// Difference of the loss, after minus before.
    #[serde(with = "number")]
    pub dloss: f64,
    /// Largest `max_dlogit` that passes.
    pub tolerance: f64,
    /// Whether it passed.
    pub function_preserving: bool,
}

/// A growth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Growth {
    /// First step of the new stage, the step that comes next.
    pub step: u64,
    /// Number of the stage that ended.
    pub from_stage: usize,
    /// Number of the stage that begins.
    pub to_stage: usize,
    /// Sizes before.
    pub from: Sizes,
    /// Sizes after.
    pub to: Sizes,
    /// Parameters after.
    pub params: u64,
    /// The operator, where it is not one that a configuration can name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// What it did to the function.
    pub receipt: Receipt,
}

/// The end of a ramp.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RampEnd {
    /// Last step of the ramp.
    pub step: u64,
    /// What taking the full mask away did to the function.
    pub receipt: Receipt,
}

/// The end of a run: all steps are done. An interrupted run writes none: it can be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// The last step.
    pub step: u64,
    /// Tokens consumed.
    pub tokens: u64,
    /// Floating-point operations spent.
    pub flops: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::columns::Heads;
    use msg_models::sizes;

    const SMALL: Sizes = sizes! { layers: 1, hidden: 8, ffn: 12, heads: 2 };
    fn step() -> Step {
        Step {
            step: 7,
            stage: 2,
            loss: 0.1,
            lr: 3e-4,
            grad_norm: 1.5,
            mask: 0.25,
            tokens: 4096,
            flops: 1e21,
            ..Step::default()
        }
    }

    #[test]
    fn a_step_is_one_flat_object_with_its_kind_first_and_floats_as_short_as_they_are() {
        assert_eq!(
            serde_json::to_string(&Record::Step(step())).unwrap(),
            r#"{"kind":"step","step":7,"stage":2,"loss":0.1,"lr":0.0003,"grad_norm":1.5,"mask":0.25,"tokens":4096,"flops":1e+21,"skipped":false}"#
        );
    }

    #[test]
    fn sizes_are_an_object_with_a_key_for_each_axis() {
        let start = Record::Start(Start { step: 0, name: "a".into(), sizes: SMALL, params: 10 });
        let text = r#"{"kind":"start","step":0,"name":"a","sizes":{"layers":1,"hidden":8,"ffn":12,"heads":2},"params":10}"#;
        assert_eq!(serde_json::to_string(&start).unwrap(), text);
        assert_eq!(serde_json::from_str::<Record>(text).unwrap(), start);
        assert!(serde_json::from_str::<Record>(&text.replace(r#","ffn":12"#, "")).is_err());
    }

    #[test]
    fn every_kind_comes_back_as_it_was_written() {
        let receipt = Receipt { max_dlogit: 0.0, dloss: -0.0, tolerance: 0.0, function_preserving: true };
        let grown = Sizes { ffn: 16, ..SMALL };
        let records = [
            Record::Start(Start { step: 0, name: "a \"b\"\n".into(), sizes: SMALL, params: 10 }),
            Record::Step(step()),
            Record::Eval(Eval { step: 7, stage: 2, loss: 2.0 / 3.0, perplexity: 1.9, accuracy: None }),
            Record::Eval(Eval {
                step: 7,
                stage: 2,
                loss: 0.7,
                perplexity: f64::INFINITY,
                accuracy: Some(Heads { mlm: 0.1, nsp: 0.5 }),
            }),
            Record::Growth(Growth {
                step: 8,
                from_stage: 2,
                to_stage: 3,
                from: SMALL,
                to: grown,
                params: 20,
                operator: None,
                receipt,
            }),
            Record::RampEnd(RampEnd { step: 9, receipt }),
            Record::End(End { step: 9, tokens: 5000, flops: 1e22 }),
        ];
        for record in records {
            let line = serde_json::to_string(&record).unwrap();
            assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record, "{line}");
            assert!(!line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn losses_that_are_no_numbers_survive_the_file() {
        for (loss, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "Infinity"), (f32::NEG_INFINITY, "-Infinity")]
        {
            let line = serde_json::to_string(&Record::Step(Step { loss, ..step() })).unwrap();
            assert!(line.contains(&format!(r#""loss":"{word}""#)), "{line}");
            let Record::Step(back) = serde_json::from_str(&line).unwrap() else { panic!("{line}") };
            assert!(back.loss.is_nan() == loss.is_nan() && (loss.is_nan() || back.loss == loss));
        }
        assert!(serde_json::from_str::<Record>(r#"{"kind":"ramp_end","step":1,"receipt":{"max_dlogit":"many","dloss":0,"tolerance":0,"function_preserving":true}}"#).is_err());
    }

    #[test]
    fn unknown_keys_and_kinds_are_refused() {
        assert!(
            serde_json::from_str::<Record>(r#"{"kind":"end","step":1,"tokens":1,"flops":1,"x":1}"#).is_err()
        );
        assert!(serde_json::from_str::<Record>(r#"{"kind":"pause","step":1}"#).is_err());
    }
}
