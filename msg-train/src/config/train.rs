//! `[run]`, `[train]` and `[init]`.

use msg_core::ops::{Compute, Precision};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The `[run]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunTable {
    /// The run's name.
    pub name: String,
    /// Its folder; by default `runs/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Seed of everything random.
    #[serde(default)]
    pub seed: u64,
}

impl RunTable {
    /// The run's folder.
    pub fn folder(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(|| PathBuf::from("runs").join(&self.name))
    }
}

/// The `[train]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Sequences of one forward pass; by default the whole batch. It must divide every stage's batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<usize>,
    /// Type of the operands of matrix products; weights and sums are f32 either way.
    pub precision: Precision,
    /// Whether blocks keep only their inputs and recompute the rest in the backward pass: less memory, a third more
    /// work, the same bits.
    pub recompute: bool,
    /// On a GPU, whether f32 products of blocks may round their operands to TF32 (10 bits of precision) for tensor
    /// cores.
    pub tf32: bool,
    /// Largest global norm of the gradient, or `"off"`.
    #[serde(with = "or_off")]
    pub clip: Option<f64>,
    /// What happens when a loss or gradient is not finite: the run stops, or the update is skipped and logged. A GPU's
    /// results are read one step late, so there the run stops one step later, with nothing changed since.
    pub guard: Guard,
    /// Steps between evaluations, which also end every stage; by default a twentieth of the run's steps, rounded up (0
    /// where `data.held_out` is 0). 0 evaluates at the ends of stages only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_every: Option<u64>,
    /// Sequences of one evaluation.
    pub eval_sequences: usize,
    /// Steps between checkpoints, which also end every stage; by default a tenth of the run's steps, rounded up. 0
    /// saves at the ends of stages only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_every: Option<u64>,
    /// How many of the latest checkpoints are kept.
    pub keep_last: usize,
    /// Checkpoints whose step is a multiple of this are kept, too; 0 for none.
    pub keep_every: u64,
    /// Largest difference of a logit that a parity receipt may show; by default 0 on the Cpu and a stated bound elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt_tolerance: Option<f64>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            micro_batch: None,
            precision: Precision::F32,
            recompute: false,
            tf32: false,
            clip: Some(1.0),
            guard: Guard::Stop,
            eval_every: None,
            eval_sequences: 64,
            checkpoint_every: None,
            keep_last: 2,
            keep_every: 0,
            receipt_tolerance: None,
        }
    }
}

impl TrainConfig {
    /// How models of this run compute.
    pub fn compute(&self) -> Compute {
        Compute { precision: self.precision, recompute: self.recompute, tf32: self.tf32 }
    }
}

/// A number, or "off": TOML has no word for nothing, and a key that is left out means its default.
mod or_off {
    use serde::{Deserializer, Serializer, de};
    use std::fmt;

    const OFF: &str = "off";

    pub fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.serialize_f64(*value),
            None => serializer.serialize_str(OFF),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        struct NumberOrOff;
        impl de::Visitor<'_> for NumberOrOff {
            type Value = Option<f64>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or \"off\"")
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
                Ok(Some(value))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
                Ok(Some(value as f64))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
                Ok(Some(value as f64))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
                match value {
                    OFF => Ok(None),
                    _ => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
                }
            }
        }
        deserializer.deserialize_any(NumberOrOff)
    }
}

/// What happens when a loss or gradient is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// The update is left out and logged.
    Skip,
    /// The run stops with an error; the last checkpoint is whole.
    Stop,
}

/// The `[init]` table: a new run starts from the model of a checkpoint. The checkpoint has the sizes of the first stage,
/// or smaller ones along some axes: then the run begins with a growth by that stage's `ramp`, `units` and `new_layers`
/// (and, with `state`, its `state`). The rest of the model and the tokenizer must agree; dropout may differ. Schedule,
/// data and counters start from zero. A ramp that is still running in the checkpoint continues, one step for each step
/// of this run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitFrom {
    /// A checkpoint's folder, or a run's folder for its last checkpoint.
    pub from: PathBuf,
    /// Whether the optimizer's moments and ages are taken over, too.
    #[serde(default)]
    pub state: bool,
}
