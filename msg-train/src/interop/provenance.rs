//! Where a model comes from, in the notes of its own file: a list of what was done, oldest first.

use crate::{checkpoint::MODEL, metrics::Receipt};
use msg_core::growth::{AxisMap, Growth, LayerSource};
use msg_models::{DepthInit, Sizes, WidthInit, hf::TensorFile};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The key of the notes.
const KEY: &str = "msg.provenance";

/// One thing that was done to a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// `import`, `grow`, `grow --exact`, `convert` or `export --fold`.
    pub operation: String,
    /// The folder's name of what it was done to.
    pub source: String,
    /// BLAKE3 of that one's weights.
    pub source_blake3: String,
    /// Sizes before.
    pub from: Sizes,
    /// Sizes after.
    pub to: Sizes,
    /// How it grew, where it did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub growths: Vec<Maps>,
    /// What it did to the function, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
}

/// One growth: what its new entries were drawn from, and what became of axes and layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maps {
    /// Seed of new entries.
    pub seed: u64,
    /// The growth's number, which is part of the seed.
    pub number: u64,
    /// What new units started from.
    pub units: WidthInit,
    /// Where new layers stand and what they started from.
    pub new_layers: DepthInit,
    /// For each axis that grew runs of units: the first, how many, and the old unit that the first one comes
    /// from (none for fresh ones).
    pub axes: BTreeMap<String, Vec<Run>>,
    /// For each layer the old one that it is or copies; none for fresh ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Layer>,
}

/// Units that follow each other, and whose sources do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The first unit.
    pub unit: usize,
    /// How many there are.
    pub count: usize,
    /// Where the first one comes from.
    pub source: Option<usize>,
}

/// Where a layer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// It is this old one.
    Same(usize),
    /// It began as a copy of this old one.
    Copy(usize),
    /// It began fresh.
    Fresh,
}

impl Maps {
    /// Those of a growth.
    pub fn of(growth: &Growth, seed: u64, units: WidthInit, new_layers: DepthInit) -> Self {
        let grown = growth.axes().filter(|map| map.grows());
        let layers = growth.depth().map(|depth| depth.layers()).unwrap_or_default().iter();
        Maps {
            seed,
            number: growth.number(),
            units,
            new_layers,
            axes: grown.map(|map| (map.axis().to_owned(), runs(map))).collect(),
            layers: layers
                .map(|layer| match *layer {
                    LayerSource::Same(old) => Layer::Same(old),
                    LayerSource::Copy(old) => Layer::Copy(old),
                    LayerSource::Fresh => Layer::Fresh,
                })
                .collect(),
        }
    }
}

fn runs(map: &AxisMap) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for unit in 0..map.new_size() {
        let source = map.source_of(unit);
        match runs.last_mut() {
            Some(run) if source == run.source.map(|first| first + run.count) => run.count += 1,
            _ => runs.push(Run { unit, count: 1, source }),
        }
    }
    runs
}

/// What a file says was done to its model. Notes of another kind are none of ours.
pub fn read(file: &TensorFile) -> Vec<Step> {
    let notes = file.metadata();
    notes.get(KEY).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The notes of a file that say it.
///
/// # Errors
/// Where a number of it has no place in JSON.
pub fn notes(steps: &[Step]) -> crate::Result<BTreeMap<String, String>> {
    let text = serde_json::to_string(steps)
        .map_err(|error| crate::Error::Checkpoint { path: MODEL.into(), message: error.to_string() })?;
    Ok(if steps.is_empty() { BTreeMap::new() } else { BTreeMap::from([(KEY.to_owned(), text)]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_told_in_runs() {
        let run = |unit, count, source| Run { unit, count, source };
        let map = AxisMap::copies("Hidden", 3, 8).unwrap();
        assert_eq!(runs(&map), [run(0, 3, Some(0)), run(3, 3, Some(0)), run(6, 2, Some(0))]);
        let map = AxisMap::append("Ffn", 3, 8).unwrap();
        assert_eq!(runs(&map), [run(0, 3, Some(0)), run(3, 5, None)]);
    }
}
